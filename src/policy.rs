//! Who may do what: pure, asked once for each command, before its argument is looked at.

use crate::proto::command::Request;

/// What the policy has to know of the one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Not logged in.
    Stranger,
    /// Logged in, and may read.
    Reader,
}

/// Why a command is not permitted; each has one reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// 502: known, but not offered here.
    NotOffered,
    /// 530: only after login.
    NotLoggedIn,
    /// 550: the tree is read-only.
    ReadOnly,
}

/// Whether the subject may use the verb, by the columns of the table.
///
/// # Errors
/// The reason why not.
pub fn permit(subject: Subject, request: &Request<'_>) -> Result<(), Denied> {
    let gate = request.verb.gate;
    match subject {
        _ if !gate.offered => Err(Denied::NotOffered),
        Subject::Stranger if gate.login => Err(Denied::NotLoggedIn),
        // STAT with a path lists a folder, which is for those who are logged in.
        Subject::Stranger if request.verb.name == "STAT" && !request.argument.is_empty() => Err(Denied::NotLoggedIn),
        Subject::Reader if gate.writes => Err(Denied::ReadOnly),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::verb::VERBS;

    #[test]
    fn the_gates_of_every_verb_hold() {
        for verb in VERBS {
            let request = Request { verb, argument: b"" };
            let stranger = permit(Subject::Stranger, &request);
            let reader = permit(Subject::Reader, &request);
            match (verb.gate.offered, verb.gate.login, verb.gate.writes) {
                (false, ..) => {
                    assert_eq!((stranger, reader), (Err(Denied::NotOffered), Err(Denied::NotOffered)), "{}", verb.name)
                }
                (true, true, false) => {
                    assert_eq!((stranger, reader), (Err(Denied::NotLoggedIn), Ok(())), "{}", verb.name)
                }
                (true, true, true) => {
                    assert_eq!((stranger, reader), (Err(Denied::NotLoggedIn), Err(Denied::ReadOnly)), "{}", verb.name)
                }
                (true, false, false) => assert_eq!((stranger, reader), (Ok(()), Ok(())), "{}", verb.name),
                (true, false, true) => panic!("{} writes without login", verb.name),
            }
        }
    }

    #[test]
    fn a_stranger_may_ask_for_the_status_but_not_for_a_listing() {
        let request = Request::parse(b"STAT /").unwrap();
        assert_eq!(permit(Subject::Stranger, &request), Err(Denied::NotLoggedIn));
        assert_eq!(permit(Subject::Reader, &request), Ok(()));
    }
}
