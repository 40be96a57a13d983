//! What the server tells of itself: FEAT, HELP, STAT, SITE HELP, LANG, OPTS UTF8.

use super::Session;
use crate::auth::Write;
use crate::data::port::DataPort;
use crate::policy::Subject;
use crate::proto::params::RepresentationType;
use crate::proto::reply::Reply;
use crate::proto::verb::{VERBS, Verb, Writes};
use crate::session::Seat;
use crate::session::login::Login;

/// Verbs in a line of HELP.
const HELP_COLUMNS: usize = 8;

impl<S: Seat> Session<'_, S> {
    /// RFC 2389: one line for each extension that works.
    pub(super) fn features(&self) -> Reply {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for verb in VERBS {
            let Some(feature) = verb.feature.filter(|_| self.may_use(verb)) else { continue };
            let mut line = feature.as_bytes().to_vec();
            if verb.name == "MLST" {
                self.facts.write_feat(&mut line);
            }
            lines.push(line);
        }
        lines.push(b"TVFS".to_vec());
        lines.push(b"UTF8".to_vec());
        lines.sort_unstable();
        Reply::lines(211, "Extensions supported:", lines, "End")
    }

    pub(super) fn status(&self) -> Reply {
        let login: Vec<u8> = match &self.login {
            Login::LoggedIn(member) => format!("Logged in as {}", member.user.name()).into_bytes(),
            Login::NeedUser | Login::NeedPass(_) => b"Not logged in".to_vec(),
        };
        let representation = match self.representation {
            RepresentationType::Ascii => "TYPE: ASCII, STRU: file, MODE: stream",
            RepresentationType::Image => "TYPE: image, STRU: file, MODE: stream",
        };
        let port = match self.port {
            DataPort::None => "No data port",
            DataPort::Active { .. } => "Data port: active",
            DataPort::Passive(_) => "Data port: passive",
            DataPort::Connected(_) => "Data port: passive, connected",
        };
        let client = format!("Connected to {}", self.peer());
        let lines = vec![client.into_bytes(), login, representation.into(), port.into()];
        Reply::lines(211, "plimsoll FTP server status:", lines, "End of status")
    }

    pub(super) fn help(&self, argument: &[u8]) -> Reply {
        let wanted = argument.trim_ascii();
        if wanted.is_empty() {
            let offered: Vec<&Verb> = VERBS.iter().filter(|verb| verb.gate.offered && self.may_use(verb)).collect();
            let lines = offered
                .chunks(HELP_COLUMNS)
                .map(|row| row.iter().map(|verb| format!("{:<5}", verb.name)).collect::<String>().into_bytes())
                .collect();
            return Reply::lines(214, "These commands are known:", lines, "HELP and a command explains it.");
        }
        match Verb::find(wanted) {
            Some(verb) if verb.gate.offered => {
                Reply::with(214, format!("{} {}: {}", verb.name, verb.syntax, verb.help))
            }
            Some(verb) => Reply::with(214, format!("{} is known, but not offered here.", verb.name)),
            None => Reply::new(501, "No such command."),
        }
    }

    pub(super) fn site_help(&self) -> Reply {
        match self.subject() {
            Subject::Member(rights) if rights.write == Write::All => {
                Reply::new(214, "SITE HELP, SITE CHMOD <mode> <path>, SITE UMASK [<mask>]")
            }
            _ => Reply::new(214, "SITE HELP"),
        }
    }

    /// Whether a verb that writes is for this user; for a stranger, whether it may be for somebody.
    fn may_use(&self, verb: &Verb) -> bool {
        let writes = match self.subject() {
            Subject::Stranger if self.context.config.access().accounts.is_some() => Write::All,
            Subject::Stranger => Write::No,
            Subject::Member(rights) => rights.write,
        };
        match verb.gate.writes {
            Writes::No => true,
            Writes::Adds => writes != Write::No,
            Writes::Alters => writes == Write::All,
        }
    }
}

pub(super) fn goodbye() -> Reply {
    Reply::new(221, "Goodbye.")
}

pub(super) fn utf8(on: bool) -> Reply {
    if on {
        Reply::new(200, "UTF8 is always on.")
    } else {
        Reply::new(504, "UTF8 can't be switched off: names are bytes.")
    }
}

/// RFC 2640 §4.1: replies are in English, and nothing else is offered.
pub(super) fn language(tag: &[u8]) -> Reply {
    let tag = tag.to_ascii_lowercase();
    if tag.is_empty() || tag == b"en" || tag.starts_with(b"en-") {
        Reply::new(200, "Replies are in English.")
    } else {
        Reply::new(504, "Replies are in English only.")
    }
}
