//! From a line to a command: verb and argument first (so that the gates can be asked), then the typed
//! command.

use super::hostport::{self, EprtError, EpsvArgument};
use super::params::{self, ParameterError, RepresentationType, RestartMarker};
use super::verb::{Arity, Verb, Writes};
use std::net::SocketAddr;

/// A line split into its verb and what follows, with the verb found in the table.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The verb's row.
    pub verb: &'static Verb,
    /// What follows the verb and one space; names may begin or end with spaces, so nothing is trimmed.
    pub argument: &'a [u8],
}

/// A command with its argument understood. Pathnames are bytes and still relative.
#[derive(Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the verb of that name")]
pub enum Command<'a> {
    User(&'a [u8]),
    Pass(&'a [u8]),
    Acct,
    Rein,
    Quit,
    Host,
    Clnt,
    Cwd(&'a [u8]),
    Cdup,
    Pwd,
    /// PORT and EPRT.
    Active(SocketAddr),
    Pasv,
    Epsv(EpsvArgument),
    Type(RepresentationType),
    Structure,
    Mode,
    Rest(RestartMarker),
    Allo(u64),
    /// OPTS UTF8.
    Utf8(bool),
    /// OPTS MLST and the facts asked for.
    MlstFacts(&'a [u8]),
    Retr(&'a [u8]),
    List(&'a [u8]),
    Nlst(&'a [u8]),
    Mlsd(&'a [u8]),
    Abor,
    Mlst(&'a [u8]),
    Size(&'a [u8]),
    Mdtm(&'a [u8]),
    Stat(&'a [u8]),
    Feat,
    Help(&'a [u8]),
    SiteHelp,
    Syst,
    Noop,
    Lang(&'a [u8]),
    Stor(&'a [u8]),
    /// The path is a wish, and may be empty.
    Stou(&'a [u8]),
    Appe(&'a [u8]),
    Dele(&'a [u8]),
    Rmd(&'a [u8]),
    Mkd(&'a [u8]),
    Rnfr(&'a [u8]),
    Rnto(&'a [u8]),
    /// MFMT: seconds since the epoch, and the path.
    Mfmt(i64, &'a [u8]),
    /// MFF: what is to be set, and the path.
    Mff(ModifyFacts, &'a [u8]),
    /// SITE CHMOD: permission bits, and the path.
    Chmod(u32, &'a [u8]),
    /// SITE UMASK: the new one, or a question for the old.
    Umask(Option<u32>),
    /// Known, but not offered here.
    NotOffered,
}

/// What MFF is to set (draft-somers-ftp-mfxx §5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModifyFacts {
    /// When it was last changed, in seconds since the epoch.
    pub modified: Option<i64>,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// Why a line is not a command. Each has one reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyntaxError {
    /// 500: no such verb.
    Unknown,
    /// 501: the argument is missing, or is not what the verb takes.
    Argument,
    /// 504: well-formed, but not done here.
    Parameter,
    /// 522: the network protocol is not one of those offered (RFC 2428).
    Family,
}

impl<'a> Request<'a> {
    /// Splits a line (without its end) and finds the verb.
    ///
    /// # Errors
    /// [`SyntaxError::Unknown`] where the table has no such verb.
    pub fn parse(line: &'a [u8]) -> Result<Self, SyntaxError> {
        let end = line.iter().position(|&b| b == b' ').unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let verb = Verb::find(name).ok_or(SyntaxError::Unknown)?;
        Ok(Request { verb, argument: rest.strip_prefix(b" ").unwrap_or(rest) })
    }

    /// The typed command.
    ///
    /// # Errors
    /// What is wrong with the argument.
    pub fn command(&self) -> Result<Command<'a>, SyntaxError> {
        let blank = self.argument.iter().all(|&b| b == b' ');
        match self.verb.arity {
            Arity::None if !blank => Err(SyntaxError::Argument),
            Arity::Required if self.argument.is_empty() => Err(SyntaxError::Argument),
            _ => (self.verb.parse)(self.argument),
        }
    }
}

impl Command<'_> {
    /// What a subcommand of a verb that is for all changes of the tree. Those of other verbs are in the table.
    #[must_use]
    pub fn writes(&self) -> Writes {
        match self {
            Command::Chmod(..) => Writes::Alters,
            // It is for what will be added.
            Command::Umask(_) => Writes::Adds,
            _ => Writes::No,
        }
    }

    /// Whether only those who are logged in may use such a subcommand.
    #[must_use]
    pub fn needs_login(&self) -> bool {
        self.writes() != Writes::No
    }
}

impl From<ParameterError> for SyntaxError {
    fn from(error: ParameterError) -> Self {
        match error {
            ParameterError::Syntax => SyntaxError::Argument,
            ParameterError::NotImplemented => SyntaxError::Parameter,
        }
    }
}

impl From<EprtError> for SyntaxError {
    fn from(error: EprtError) -> Self {
        match error {
            EprtError::Syntax => SyntaxError::Argument,
            EprtError::Family => SyntaxError::Family,
        }
    }
}

/// Whether a line is the first of an HTTP request. It is asked only of the first line of a connection:
/// a web page can have a browser send FTP commands in the body of a request to this port.
#[must_use]
pub fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] =
        [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI"];
    line.split(|&b| b == b' ').next().is_some_and(|word| METHODS.contains(&word))
}

type Parsed<'a> = Result<Command<'a>, SyntaxError>;

pub(super) fn not_offered(_: &[u8]) -> Parsed<'_> {
    Ok(Command::NotOffered)
}

/// MFMT: a time and a path, which may begin with spaces and is not trimmed.
pub(super) fn modify_time(argument: &[u8]) -> Parsed<'_> {
    let (time, path) = timed_path(argument).ok_or(SyntaxError::Argument)?;
    Ok(Command::Mfmt(time, path))
}

/// A time of RFC 3659 §2.3 and the path after it.
#[must_use]
pub fn timed_path(argument: &[u8]) -> Option<(i64, &[u8])> {
    let space = argument.iter().position(|&b| b == b' ')?;
    let (time, path) = (argument.get(..space)?, argument.get(space + 1..)?);
    if path.is_empty() {
        return None;
    }
    Some((params::parse_time(time)?, path))
}

/// MFF: `modify=YYYYMMDDHHMMSS;UNIX.mode=0644; path`.
pub(super) fn modify_facts(argument: &[u8]) -> Parsed<'_> {
    let mut facts = ModifyFacts::default();
    let mut rest = argument;
    while !rest.starts_with(b" ") {
        let end = rest.iter().position(|&b| b == b';').ok_or(SyntaxError::Argument)?;
        let (fact, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        let equals = fact.iter().position(|&b| b == b'=').ok_or(SyntaxError::Argument)?;
        let (name, value) = (&fact[..equals], fact.get(equals + 1..).unwrap_or_default());
        if name.eq_ignore_ascii_case(b"modify") {
            facts.modified = Some(params::parse_time(value).ok_or(SyntaxError::Argument)?);
        } else if name.eq_ignore_ascii_case(b"UNIX.mode") {
            facts.mode = Some(params::parse_mode_bits(value).ok_or(SyntaxError::Argument)?);
        } else {
            return Err(SyntaxError::Parameter);
        }
    }
    let path = rest.get(1..).filter(|path| !path.is_empty()).ok_or(SyntaxError::Argument)?;
    if facts == ModifyFacts::default() {
        return Err(SyntaxError::Argument);
    }
    Ok(Command::Mff(facts, path))
}

pub(super) fn port(argument: &[u8]) -> Parsed<'_> {
    let address = hostport::parse_port(argument).map_err(|_| SyntaxError::Argument)?;
    Ok(Command::Active(SocketAddr::V4(address)))
}

pub(super) fn eprt(argument: &[u8]) -> Parsed<'_> {
    Ok(Command::Active(hostport::parse_eprt(argument)?))
}

pub(super) fn epsv(argument: &[u8]) -> Parsed<'_> {
    Ok(Command::Epsv(hostport::parse_epsv(argument)?))
}

pub(super) fn representation_type(argument: &[u8]) -> Parsed<'_> {
    // Whatever is no type that is done here is a parameter that is not, garbage too.
    Ok(Command::Type(params::parse_type(argument).map_err(|_| SyntaxError::Parameter)?))
}

pub(super) fn structure(argument: &[u8]) -> Parsed<'_> {
    params::parse_structure(argument)?;
    Ok(Command::Structure)
}

pub(super) fn mode(argument: &[u8]) -> Parsed<'_> {
    params::parse_mode(argument)?;
    Ok(Command::Mode)
}

pub(super) fn restart(argument: &[u8]) -> Parsed<'_> {
    Ok(Command::Rest(params::parse_restart(argument)?))
}

pub(super) fn allocate(argument: &[u8]) -> Parsed<'_> {
    Ok(Command::Allo(params::parse_allo(argument)?))
}

pub(super) fn options(argument: &[u8]) -> Parsed<'_> {
    let (name, value) = split_word(argument);
    if name.eq_ignore_ascii_case(b"MLST") {
        return Ok(Command::MlstFacts(value));
    }
    // WinSCP and FileZilla send «UTF8 ON», older clients «UTF-8», some without ON.
    if name.eq_ignore_ascii_case(b"UTF8") || name.eq_ignore_ascii_case(b"UTF-8") {
        return match value.to_ascii_uppercase().as_slice() {
            b"" | b"ON" | b"NLST" => Ok(Command::Utf8(true)),
            b"OFF" => Ok(Command::Utf8(false)),
            _ => Err(SyntaxError::Argument),
        };
    }
    Err(SyntaxError::Argument)
}

pub(super) fn site(argument: &[u8]) -> Parsed<'_> {
    let (name, value) = split_word(argument);
    match name.to_ascii_uppercase().as_slice() {
        b"HELP" => Ok(Command::SiteHelp),
        b"CHMOD" => {
            // The path is what follows one space: it may begin or end with others.
            let rest = argument.trim_ascii_start().get(name.len()..).unwrap_or_default().trim_ascii_start();
            let space = rest.iter().position(|&b| b == b' ').ok_or(SyntaxError::Argument)?;
            let mode = params::parse_mode_bits(&rest[..space]).ok_or(SyntaxError::Argument)?;
            let path = rest.get(space + 1..).filter(|path| !path.is_empty()).ok_or(SyntaxError::Argument)?;
            Ok(Command::Chmod(mode, path))
        }
        b"UMASK" if value.is_empty() => Ok(Command::Umask(None)),
        b"UMASK" => Ok(Command::Umask(Some(params::parse_mode_bits(value).ok_or(SyntaxError::Argument)?))),
        b"" => Err(SyntaxError::Argument),
        _ => Err(SyntaxError::Parameter),
    }
}

fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii();
    match text.iter().position(|&b| b == b' ') {
        Some(at) => (&text[..at], text[at..].trim_ascii()),
        None => (text, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn command(line: &[u8]) -> Result<Command<'_>, SyntaxError> {
        Request::parse(line)?.command()
    }

    #[test]
    fn a_line_becomes_a_verb_and_an_argument() {
        assert_eq!(command(b"RETR a b"), Ok(Command::Retr(b"a b")));
        assert_eq!(command(b"retr  lead"), Ok(Command::Retr(b" lead")));
        assert_eq!(command(b"cwd tail "), Ok(Command::Cwd(b"tail ")));
        assert_eq!(command(b"PWD "), Ok(Command::Pwd));
        assert_eq!(command(b"LIST"), Ok(Command::List(b"")));
        assert_eq!(command(b"OPTS utf8 on"), Ok(Command::Utf8(true)));
        assert_eq!(command(b"OPTS MLST type;size;"), Ok(Command::MlstFacts(b"type;size;")));
        assert_eq!(command(b"SITE chmod 644 x"), Ok(Command::Chmod(0o644, b"x")));
        assert_eq!(command(b"SITE CHMOD 0755  a b "), Ok(Command::Chmod(0o755, b" a b ")));
        assert_eq!(command(b"SITE UMASK"), Ok(Command::Umask(None)));
        assert_eq!(command(b"SITE UMASK 027"), Ok(Command::Umask(Some(0o27))));
        assert_eq!(command(b"MFMT 19700101000100 a b"), Ok(Command::Mfmt(60, b"a b")));
        let facts = ModifyFacts { modified: Some(60), mode: Some(0o600) };
        assert_eq!(command(b"MFF modify=19700101000100;unix.MODE=0600; x"), Ok(Command::Mff(facts, b"x")));
    }

    #[test]
    fn each_fault_has_its_name() {
        assert_eq!(command(b""), Err(SyntaxError::Unknown));
        assert_eq!(command(b" PWD"), Err(SyntaxError::Unknown));
        assert_eq!(command(b"PWD\0"), Err(SyntaxError::Unknown));
        assert_eq!(command(b"RETR"), Err(SyntaxError::Argument));
        assert_eq!(command(b"RETR "), Err(SyntaxError::Argument));
        assert_eq!(command(b"PWD now"), Err(SyntaxError::Argument));
        assert_eq!(command(b"TYPE E"), Err(SyntaxError::Parameter));
        assert_eq!(command(b"EPSV 3"), Err(SyntaxError::Family));
        assert_eq!(command(b"REST -1"), Err(SyntaxError::Argument));
        assert_eq!(command(b"SITE EXEC ls"), Err(SyntaxError::Parameter));
        for line in
            [&b"SITE CHMOD 888 x"[..], b"SITE CHMOD 644", b"SITE CHMOD 644 ", b"SITE CHMOD 10000 x", b"SITE UMASK x"]
        {
            assert_eq!(command(line), Err(SyntaxError::Argument), "{line:?}");
        }
        for line in [&b"MFMT 2026 x"[..], b"MFMT 20260101000000", b"MFMT 20261301000000 x", b"MFF x", b"MFF  x"] {
            assert_eq!(command(line), Err(SyntaxError::Argument), "{line:?}");
        }
        assert_eq!(command(b"MFF create=20260101000000; x"), Err(SyntaxError::Parameter));
    }

    #[test]
    fn the_first_line_of_a_web_request_is_known_for_what_it_is() {
        assert!(is_http(b"POST / HTTP/1.1") && is_http(b"GET http://a/ HTTP/1.0") && is_http(b"PRI * HTTP/2.0"));
        for verb in crate::proto::verb::VERBS {
            assert!(!is_http(verb.name.as_bytes()), "{}", verb.name);
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = command(&line);
        }

        #[test]
        fn no_argument_of_any_verb_panics(row in 0..crate::proto::verb::VERBS.len(), argument in proptest::collection::vec(any::<u8>(), 0..80)) {
            let verb = &crate::proto::verb::VERBS[row];
            let _ = Request { verb, argument: &argument }.command();
        }
    }
}
