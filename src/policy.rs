//! Who may do what: pure, asked once for each command, before its argument is looked at, and once more for
//! the few verbs whose subcommands differ.

use crate::auth::Write;
use crate::proto::command::{Command, Request};
use crate::proto::verb::Writes;

/// What the policy has to know of the one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Not logged in.
    Stranger,
    /// Logged in, with these rights.
    Member(Rights),
}

/// What one who is logged in may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// Fetch files, and be told their size and time.
    pub read: bool,
    /// List folders.
    pub list: bool,
    /// Change the tree.
    pub write: Write,
}

impl Rights {
    /// Those of the anonymous user: to read, and nothing else.
    pub const READ: Rights = Rights { read: true, list: true, write: Write::No };
}

/// Why a command is not permitted; each has one reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// 502: known, but not offered here.
    NotOffered,
    /// 530: only after login.
    NotLoggedIn,
    /// 550: the user may change nothing.
    ReadOnly,
    /// 550: the user may add files, but not change what is there.
    AddOnly,
    /// 550: the user may drop files, but not see them.
    DropOnly,
}

/// Whether the subject may use the verb, by the columns of the table.
///
/// # Errors
/// The reason why not.
pub fn permit(subject: Subject, request: &Request<'_>) -> Result<(), Denied> {
    let gate = request.verb.gate;
    if !gate.offered {
        return Err(Denied::NotOffered);
    }
    // STAT with a path lists a folder, which is for those who may.
    let lists = gate.transfer && gate.reads && request.verb.name != "RETR"
        || request.verb.name == "STAT" && !request.argument.is_empty();
    match subject {
        Subject::Stranger if gate.login || lists => Err(Denied::NotLoggedIn),
        Subject::Stranger => Ok(()),
        Subject::Member(rights) if lists && rights.list => Ok(()),
        Subject::Member(rights) if lists || gate.reads && !rights.read => Err(Denied::DropOnly),
        // Files are dropped, and nothing else.
        Subject::Member(rights) if gate.writes == Writes::Adds && !gate.transfer && !rights.read => {
            Err(Denied::DropOnly)
        }
        Subject::Member(rights) => may_write(rights, gate.writes),
    }
}

/// Whether the subject may use this subcommand of a verb that is open to all.
///
/// # Errors
/// The reason why not.
pub fn permit_command(subject: Subject, command: &Command<'_>) -> Result<(), Denied> {
    match subject {
        Subject::Stranger if command.needs_login() => Err(Denied::NotLoggedIn),
        Subject::Stranger => Ok(()),
        Subject::Member(rights) => may_write(rights, command.writes()),
    }
}

fn may_write(rights: Rights, writes: Writes) -> Result<(), Denied> {
    match (writes, rights.write) {
        (Writes::No, _) | (Writes::Adds, Write::Add) | (_, Write::All) => Ok(()),
        (Writes::Adds | Writes::Alters, Write::No) => Err(Denied::ReadOnly),
        (Writes::Alters, Write::Add) if rights.read => Err(Denied::AddOnly),
        (Writes::Alters, Write::Add) => Err(Denied::DropOnly),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::verb::VERBS;

    const ADD: Rights = Rights { write: Write::Add, ..Rights::READ };
    const ALL: Rights = Rights { write: Write::All, ..Rights::READ };
    const DROP: Rights = Rights { read: false, list: false, write: Write::Add };

    #[test]
    fn the_gates_of_every_verb_hold() {
        for verb in VERBS {
            let request = Request { verb, argument: b"" };
            let [stranger, reader, adder, writer, dropper] = [
                Subject::Stranger,
                Subject::Member(Rights::READ),
                Subject::Member(ADD),
                Subject::Member(ALL),
                Subject::Member(DROP),
            ]
            .map(|subject| permit(subject, &request));
            let name = verb.name;
            if !verb.gate.offered {
                assert_eq!([stranger, reader, adder, writer, dropper], [Err(Denied::NotOffered); 5], "{name}");
                continue;
            }
            assert_eq!(stranger, if verb.gate.login { Err(Denied::NotLoggedIn) } else { Ok(()) }, "{name}");
            assert_eq!(writer, Ok(()), "{name}");
            let (read, add, drop) = match verb.gate.writes {
                Writes::No if verb.gate.reads => (Ok(()), Ok(()), Err(Denied::DropOnly)),
                Writes::No => (Ok(()), Ok(()), Ok(())),
                Writes::Adds if verb.gate.transfer => (Err(Denied::ReadOnly), Ok(()), Ok(())),
                Writes::Adds => (Err(Denied::ReadOnly), Ok(()), Err(Denied::DropOnly)),
                Writes::Alters => (Err(Denied::ReadOnly), Err(Denied::AddOnly), Err(Denied::DropOnly)),
            };
            assert_eq!((reader, adder, dropper), (read, add, drop), "{name}");
        }
    }

    #[test]
    fn every_verb_that_changes_the_tree_has_a_gate() {
        let changing: Vec<&str> = VERBS.iter().filter(|v| v.gate.writes != Writes::No).map(|v| v.name).collect();
        let expected = ["STOR", "STOU", "APPE", "DELE", "RMD", "XRMD", "MKD", "XMKD", "RNFR", "RNTO", "MFMT", "MFF"];
        assert_eq!(changing, expected);
    }

    #[test]
    fn a_stranger_may_ask_for_the_status_but_not_for_a_listing() {
        let request = Request::parse(b"STAT /").unwrap();
        assert_eq!(permit(Subject::Stranger, &request), Err(Denied::NotLoggedIn));
        assert_eq!(permit(Subject::Member(Rights::READ), &request), Ok(()));
        assert_eq!(permit(Subject::Member(DROP), &request), Err(Denied::DropOnly));
        let list = Request::parse(b"LIST").unwrap();
        assert_eq!(permit(Subject::Member(Rights { list: true, ..DROP }), &list), Ok(()));
    }

    #[test]
    fn subcommands_of_site_have_gates_of_their_own() {
        for (line, reader, adder) in [
            (&b"SITE CHMOD 644 x"[..], Err(Denied::ReadOnly), Err(Denied::AddOnly)),
            (b"SITE UMASK 022", Err(Denied::ReadOnly), Ok(())),
            (b"SITE HELP", Ok(()), Ok(())),
        ] {
            let command = Request::parse(line).unwrap().command().unwrap();
            let stranger = permit_command(Subject::Stranger, &command);
            assert_eq!(stranger.is_ok(), line == b"SITE HELP", "{line:?}");
            assert_eq!(permit_command(Subject::Member(Rights::READ), &command), reader, "{line:?}");
            assert_eq!(permit_command(Subject::Member(ADD), &command), adder, "{line:?}");
            assert_eq!(permit_command(Subject::Member(ALL), &command), Ok(()), "{line:?}");
        }
    }
}
