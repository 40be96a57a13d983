//! From a line to a command: verb and argument first (so that the gates can be asked), then the typed
//! command.

use super::hostport::{self, EprtError, EpsvArgument};
use super::params::{self, ParameterError, RepresentationType, RestartMarker};
use super::verb::{Arity, Verb};
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
    Allo,
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
    /// A verb that changes the tree; the write gate stands before it.
    Write,
    /// Known, but not offered here.
    NotOffered,
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

pub(super) fn write(_: &[u8]) -> Parsed<'_> {
    Ok(Command::Write)
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
    params::parse_allo(argument)?;
    Ok(Command::Allo)
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
    let (name, _) = split_word(argument);
    match name.to_ascii_uppercase().as_slice() {
        b"HELP" => Ok(Command::SiteHelp),
        b"CHMOD" | b"UMASK" | b"UTIME" => Ok(Command::Write),
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
        assert_eq!(command(b"SITE chmod 644 x"), Ok(Command::Write));
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
