//! A line to a command: no panic, no argument that was not there, and no verb past its gate.

use plimsoll::auth::Write;
use plimsoll::policy::{Denied, Rights, Subject, permit, permit_command};
use plimsoll::proto::command::{Command, Request, SyntaxError, is_http};
use plimsoll::proto::params;
use plimsoll::proto::verb::{Arity, VERBS, Writes};

const ADD: Rights = Rights { write: Write::Add, ..Rights::READ };
const DROP: Rights = Rights { read: false, list: false, write: Write::Add };

/// The bytes are a line, and an argument of every verb.
pub fn check(data: &[u8]) {
    let _ = is_http(data);
    let _ = params::parse_time(data);
    let word = data.split(|&b| b == b' ').next().unwrap_or_default();
    let known = VERBS.iter().find(|verb| verb.name.as_bytes().eq_ignore_ascii_case(word));
    match (Request::parse(data), known) {
        (Ok(request), Some(verb)) => {
            assert_eq!(request.verb.name, verb.name);
            assert_eq!(request.argument, data.get(word.len() + 1..).unwrap_or_default());
            judge(&request);
        }
        (Err(error), None) => assert_eq!(error, SyntaxError::Unknown),
        (parsed, _) => panic!("{parsed:?}, {known:?}"),
    }
    for verb in VERBS {
        judge(&Request { verb, argument: data });
    }
}

fn judge(request: &Request<'_>) {
    let (verb, argument) = (request.verb, request.argument);
    let command = request.command();
    match verb.arity {
        Arity::None if argument.iter().any(|&b| b != b' ') => assert_eq!(command, Err(SyntaxError::Argument)),
        Arity::Required if argument.is_empty() => assert_eq!(command, Err(SyntaxError::Argument)),
        _ => {}
    }
    match (verb.name, argument) {
        (_, b"") => {}
        // A name may be anything, and may begin and end with spaces.
        ("RETR", name) => assert_eq!(command, Ok(Command::Retr(name))),
        ("CWD", name) => assert_eq!(command, Ok(Command::Cwd(name))),
        ("USER", name) => assert_eq!(command, Ok(Command::User(name))),
        _ => {}
    }
    let stranger = permit(Subject::Stranger, request);
    let reader = permit(Subject::Member(Rights::READ), request);
    if let Ok(command) = &command {
        // Whatever the argument: what touches files or opens ports is not for strangers, and nothing writes.
        let harmless = matches!(
            command,
            Command::User(_)
                | Command::Pass(_)
                | Command::Acct
                | Command::Rein
                | Command::Quit
                | Command::Host
                | Command::Clnt
                | Command::Utf8(_)
                | Command::MlstFacts(_)
                | Command::Abor
                | Command::Stat(b"")
                | Command::Feat
                | Command::Help(_)
                | Command::SiteHelp
                | Command::Syst
                | Command::Noop
                | Command::Lang(_)
        );
        // SITE has one gate for all that comes after it, and each of these its own.
        let stranger = stranger.and_then(|()| permit_command(Subject::Stranger, command));
        let reader = reader.and_then(|()| permit_command(Subject::Member(Rights::READ), command));
        assert!(harmless || stranger.is_err(), "{}: {command:?}", verb.name);
        let writes = verb.gate.writes != Writes::No || command.writes() != Writes::No;
        assert!(!writes || reader == Err(Denied::ReadOnly), "{}", verb.name);
        // Who may only add changes nothing that is there, and who may only drop does not even see it.
        for (rights, denied) in [(ADD, Denied::AddOnly), (DROP, Denied::DropOnly)] {
            let subject = Subject::Member(rights);
            let outcome = permit(subject, request).and_then(|()| permit_command(subject, command));
            let alters = verb.gate.writes == Writes::Alters || command.writes() == Writes::Alters;
            assert!(!alters || outcome == Err(denied), "{}: {command:?}", verb.name);
            let sees = matches!(
                command,
                Command::Retr(_)
                    | Command::List(_)
                    | Command::Nlst(_)
                    | Command::Mlsd(_)
                    | Command::Mlst(_)
                    | Command::Size(_)
                    | Command::Mdtm(_)
            ) || matches!(command, Command::Stat(path) if !path.is_empty());
            assert!(!sees || rights.read || outcome == Err(denied), "{}: {command:?}", verb.name);
        }
        match command {
            // What is set is no more than permission bits, and a time that there can be.
            Command::Chmod(mode, path) => assert!(*mode <= 0o777 && !path.is_empty()),
            Command::Umask(Some(mask)) => assert!(*mask <= 0o777),
            Command::Mff(facts, path) => {
                assert!(!path.is_empty() && facts.mode.is_none_or(|mode| mode <= 0o777));
                assert!(facts.mode.is_some() || facts.modified.is_some());
            }
            Command::Mfmt(_, path) => assert!(!path.is_empty()),
            _ => {}
        }
        assert!(*command != Command::NotOffered || reader == Err(Denied::NotOffered), "{}", verb.name);
        if let Command::Rest(marker) = command {
            assert!(marker.offset() <= i64::MAX.unsigned_abs());
        }
    }
}
