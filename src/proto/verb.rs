//! The one table of verbs. The login gate, the write gate, log redaction, the commands that are heard
//! during a transfer, HELP and FEAT all come from it.

use super::command::{self, Command, SyntaxError};

/// One row of the table: what a verb takes, and who may use it when.
#[derive(Debug)]
pub struct Verb {
    /// The verb in upper case, three or four letters.
    pub name: &'static str,
    /// How its argument is written, for HELP; empty where it takes none.
    pub syntax: &'static str,
    /// One line for HELP and docs/COMMANDS.md.
    pub help: &'static str,
    /// Where the verb comes from.
    pub source: &'static str,
    /// Whether an argument has to be there, may be, or may not.
    pub arity: Arity,
    /// Who may use it, and when.
    pub gate: Gate,
    /// Its line in the answer to FEAT (RFC 2389); MLST's is completed with the selected facts.
    pub feature: Option<&'static str>,
    /// Turns the argument into a typed command.
    pub parse: for<'a> fn(&'a [u8]) -> Result<Command<'a>, SyntaxError>,
}

/// Whether a verb takes an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// It takes none: one that is given is refused with 501.
    None,
    /// It may have one.
    Optional,
    /// It must have one: without it the command is refused with 501.
    Required,
}

/// The conditions under which a verb may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "columns of a table")]
pub struct Gate {
    /// The verb is known and done; one that is known but not offered is answered with 502.
    pub offered: bool,
    /// Only after login; before it 530.
    pub login: bool,
    /// What it changes of the tree: 550 for those who may not.
    pub writes: Writes,
    /// It reads files, or tells of them: 550 for those who may only drop files.
    pub reads: bool,
    /// Its argument never reaches the log.
    pub secret: bool,
    /// It is heard during a transfer, if it has no argument; others wait.
    pub during_transfer: bool,
    /// It begins a transfer, and so uses up the data port and the restart marker, refused or not.
    pub transfer: bool,
}

/// What a verb changes of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// Nothing.
    No,
    /// It adds to it, if nothing is there under that name.
    Adds,
    /// It changes what is there.
    Alters,
}

const OPEN: Gate = Gate {
    offered: true,
    login: false,
    writes: Writes::No,
    reads: false,
    secret: false,
    during_transfer: false,
    transfer: false,
};
const SECRET: Gate = Gate { secret: true, ..OPEN };
const ALWAYS: Gate = Gate { during_transfer: true, ..OPEN };
const MEMBER: Gate = Gate { login: true, ..OPEN };
const READER: Gate = Gate { reads: true, ..MEMBER };
const ADDER: Gate = Gate { writes: Writes::Adds, ..MEMBER };
const WRITER: Gate = Gate { writes: Writes::Alters, ..MEMBER };
const DOWNLOAD: Gate = Gate { transfer: true, ..READER };
const UPLOAD: Gate = Gate { transfer: true, ..ADDER };
const APPEND: Gate = Gate { transfer: true, ..WRITER };
const ABSENT: Gate = Gate { offered: false, ..OPEN };
const ABSENT_SECRET: Gate = Gate { secret: true, ..ABSENT };

impl Verb {
    /// The verb of that name, in any case; `None` where there is no such verb.
    #[must_use]
    pub fn find(name: &[u8]) -> Option<&'static Verb> {
        VERBS.iter().find(|verb| verb.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

macro_rules! verbs {
    ($($name:literal $syntax:literal $arity:ident $gate:ident $feature:expr, $source:literal, $help:literal, $parse:expr;)*) => {
        &[$(Verb {
            name: $name, syntax: $syntax, help: $help, source: $source, arity: Arity::$arity,
            gate: $gate, feature: $feature, parse: $parse,
        }),*]
    };
}

/// Every verb, by topic. A long table is fine.
pub static VERBS: &[Verb] = verbs![
    // Access control
    "USER" "<name>" Required OPEN None, "RFC 959", "begin to log in", |a| Ok(Command::User(a));
    "PASS" "<password>" Optional SECRET None, "RFC 959", "finish to log in; for anonymous, an e-mail address will do", |a| Ok(Command::Pass(a));
    "ACCT" "<account>" Optional SECRET None, "RFC 959", "not needed here", |_| Ok(Command::Acct);
    "REIN" "" None OPEN None, "RFC 959", "log out and begin again", |_| Ok(Command::Rein);
    "QUIT" "" None ALWAYS None, "RFC 959", "leave; during a transfer, once it has ended", |_| Ok(Command::Quit);
    "HOST" "<name>" Required OPEN None, "RFC 7151", "name the host meant; all names are one here", |_| Ok(Command::Host);
    "CLNT" "<program>" Optional OPEN None, "custom", "name the client program", |_| Ok(Command::Clnt);
    // Folders
    "CWD" "<path>" Required MEMBER None, "RFC 959", "change the current directory", |a| Ok(Command::Cwd(a));
    "XCWD" "<path>" Required MEMBER None, "RFC 775", "the same as CWD", |a| Ok(Command::Cwd(a));
    "CDUP" "" None MEMBER None, "RFC 959", "go to the parent directory", |_| Ok(Command::Cdup);
    "XCUP" "" None MEMBER None, "RFC 775", "the same as CDUP", |_| Ok(Command::Cdup);
    "PWD" "" None MEMBER None, "RFC 959", "tell the current directory", |_| Ok(Command::Pwd);
    "XPWD" "" None MEMBER None, "RFC 775", "the same as PWD", |_| Ok(Command::Pwd);
    "SMNT" "<path>" Optional ABSENT None, "RFC 959", "mount a file system", command::not_offered;
    // Transfer parameters
    "PORT" "<h1,h2,h3,h4,p1,p2>" Required MEMBER None, "RFC 959", "have the server connect to this port", command::port;
    "EPRT" "<|family|address|port|>" Required MEMBER Some("EPRT"), "RFC 2428", "have the server connect to this port", command::eprt;
    "PASV" "" None MEMBER Some("PASV"), "RFC 959", "have the server listen on a port", |_| Ok(Command::Pasv);
    "EPSV" "[1|2|ALL]" Optional MEMBER Some("EPSV"), "RFC 2428", "have the server listen on a port, of either family", command::epsv;
    "TYPE" "<A|I|L 8>" Required MEMBER None, "RFC 959", "set the representation type", command::representation_type;
    "STRU" "<F>" Required MEMBER None, "RFC 959", "set the file structure", command::structure;
    "MODE" "<S>" Required MEMBER None, "RFC 959", "set the transfer mode", command::mode;
    "REST" "<bytes>" Required MEMBER Some("REST STREAM"), "RFC 3659", "begin the next transfer here", command::restart;
    "ALLO" "<bytes>" Required MEMBER None, "RFC 959", "ask whether there is room for an upload", command::allocate;
    "OPTS" "<UTF8 ON|MLST facts>" Required OPEN None, "RFC 2389", "set an option", command::options;
    // Transfers
    "RETR" "<path>" Required DOWNLOAD None, "RFC 959", "download a file", |a| Ok(Command::Retr(a));
    "LIST" "[-a] [path]" Optional DOWNLOAD None, "RFC 959", "list a folder, a line for each entry", |a| Ok(Command::List(a));
    "NLST" "[-a] [path]" Optional DOWNLOAD None, "RFC 959", "list the names of a folder", |a| Ok(Command::Nlst(a));
    "MLSD" "[path]" Optional DOWNLOAD None, "RFC 3659", "list a folder for programs to read", |a| Ok(Command::Mlsd(a));
    "ABOR" "" None ALWAYS None, "RFC 959", "end the transfer", |_| Ok(Command::Abor);
    // Facts
    "MLST" "[path]" Optional READER Some("MLST "), "RFC 3659", "tell the facts of one entry", |a| Ok(Command::Mlst(a));
    "SIZE" "<path>" Required READER Some("SIZE"), "RFC 3659", "tell the size of a file in bytes", |a| Ok(Command::Size(a));
    "MDTM" "<path>" Required READER Some("MDTM"), "RFC 3659", "tell when a file was last changed, or set it", |a| Ok(Command::Mdtm(a));
    "STAT" "[[-a] path]" Optional ALWAYS None, "RFC 959", "tell how things stand, or list a folder here", |a| Ok(Command::Stat(a));
    // Information
    "FEAT" "" None OPEN None, "RFC 2389", "list the extensions", |_| Ok(Command::Feat);
    "HELP" "[verb]" Optional OPEN None, "RFC 959", "list the verbs, or explain one", |a| Ok(Command::Help(a));
    "SITE" "<HELP|CHMOD|UMASK>" Required OPEN None, "RFC 959", "commands of this server", command::site;
    "SYST" "" None OPEN None, "RFC 959", "tell the kind of system", |_| Ok(Command::Syst);
    "NOOP" "" Optional ALWAYS None, "RFC 959", "do nothing", |_| Ok(Command::Noop);
    "LANG" "[tag]" Optional OPEN Some("LANG EN*"), "RFC 2640", "choose the language of replies: English", |a| Ok(Command::Lang(a));
    // Changes to the tree
    "STOR" "<path>" Required UPLOAD None, "RFC 959", "upload a file", |a| Ok(Command::Stor(a));
    "STOU" "[path]" Optional UPLOAD None, "RFC 959", "upload a file under a new name", |a| Ok(Command::Stou(a));
    "APPE" "<path>" Required APPEND None, "RFC 959", "append to a file", |a| Ok(Command::Appe(a));
    "DELE" "<path>" Required WRITER None, "RFC 959", "delete a file", |a| Ok(Command::Dele(a));
    "RMD" "<path>" Required WRITER None, "RFC 959", "remove a folder", |a| Ok(Command::Rmd(a));
    "XRMD" "<path>" Required WRITER None, "RFC 775", "the same as RMD", |a| Ok(Command::Rmd(a));
    "MKD" "<path>" Required ADDER None, "RFC 959", "make a folder", |a| Ok(Command::Mkd(a));
    "XMKD" "<path>" Required ADDER None, "RFC 775", "the same as MKD", |a| Ok(Command::Mkd(a));
    "RNFR" "<path>" Required WRITER None, "RFC 959", "name what is to be renamed", |a| Ok(Command::Rnfr(a));
    "RNTO" "<path>" Required WRITER None, "RFC 959", "rename it to this", |a| Ok(Command::Rnto(a));
    "MFMT" "<YYYYMMDDHHMMSS> <path>" Required WRITER Some("MFMT"), "draft-somers", "set when a file was last changed", command::modify_time;
    "MFF" "<facts> <path>" Required WRITER Some("MFF modify;UNIX.mode;"), "draft-somers", "set facts of a file", command::modify_facts;
    // Security extensions (RFC 2228)
    "AUTH" "<TLS>" Optional ABSENT None, "RFC 4217", "secure the control connection", command::not_offered;
    "PBSZ" "<0>" Optional ABSENT None, "RFC 4217", "set the protection buffer size", command::not_offered;
    "PROT" "<C|P>" Optional ABSENT None, "RFC 4217", "set the protection of data connections", command::not_offered;
    "CCC" "" Optional ABSENT None, "RFC 2228", "clear the control connection", command::not_offered;
    "ADAT" "<data>" Optional ABSENT_SECRET None, "RFC 2228", "security data", command::not_offered;
    "MIC" "<data>" Optional ABSENT_SECRET None, "RFC 2228", "integrity protected command", command::not_offered;
    "CONF" "<data>" Optional ABSENT_SECRET None, "RFC 2228", "confidential command", command::not_offered;
    "ENC" "<data>" Optional ABSENT_SECRET None, "RFC 2228", "private command", command::not_offered;
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_verb_is_in_the_table_once_and_can_be_found() {
        let mut seen = HashSet::new();
        for verb in VERBS {
            assert!(seen.insert(verb.name), "{} is there twice", verb.name);
            assert!((3..=4).contains(&verb.name.len()), "{}", verb.name);
            assert!(verb.name.bytes().all(|b| b.is_ascii_uppercase()), "{}", verb.name);
            let found = Verb::find(verb.name.to_ascii_lowercase().as_bytes());
            assert_eq!(found.map(|v| v.name), Some(verb.name));
        }
        assert!(Verb::find(b"XYZZ").is_none());
        assert!(Verb::find(b"").is_none());
    }

    #[test]
    fn the_columns_agree_with_each_other() {
        for verb in VERBS {
            assert!(verb.gate.writes == Writes::No || verb.gate.login, "{} writes without login", verb.name);
            assert!(!verb.gate.reads || verb.gate.login, "{} reads without login", verb.name);
            assert!(verb.feature.is_none() || verb.gate.offered, "{} promises too much", verb.name);
            assert_eq!(
                verb.arity == Arity::None,
                verb.syntax.is_empty() && verb.arity != Arity::Optional,
                "{}",
                verb.name
            );
            assert!(!verb.help.is_empty() && verb.help.len() < 60, "{}", verb.name);
            let parsed = (verb.parse)(b"");
            let writes = parsed.as_ref().is_ok_and(|command| command.writes() != Writes::No);
            assert!(!writes || verb.gate.writes != Writes::No, "{}", verb.name);
            assert!(verb.gate.offered || matches!(parsed, Ok(Command::NotOffered)), "{}", verb.name);
        }
    }

    #[test]
    fn passwords_are_secret() {
        for name in ["PASS", "ACCT", "ADAT"] {
            assert!(Verb::find(name.as_bytes()).unwrap().gate.secret, "{name}");
        }
    }
}
