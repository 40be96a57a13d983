//! Logging in and out: USER, PASS, REIN, HOST.

use super::Session;
use crate::auth::{Claim, Principal};
use crate::data::port::DataPort;
use crate::data::pulse::Tick;
use crate::limits::LOGIN_FAILURES_MAX;
use crate::proto::listing::Facts;
use crate::proto::params::RepresentationType;
use crate::proto::pathname::{Escaped, VirtualPath};
use crate::proto::reply::Reply;
use crate::session::Seat;

/// How far a session's login has come. Only a login counts for the user, for as long as `L` lives.
pub(super) enum Login<L> {
    NeedUser,
    NeedPass(Claim),
    LoggedIn(Principal, L),
}

impl<S: Seat> Session<'_, S> {
    pub(super) fn user(&mut self, name: &[u8]) -> Reply {
        self.log_out();
        let Some(claim) = Claim::parse(name) else {
            log::info!("{}: login refused for {}", self.ends.peer, Escaped(name));
            return self.login_failed("Login refused: this server knows anonymous and ftp only.");
        };
        self.login = Login::NeedPass(claim);
        Reply::new(331, "Anonymous login ok, send your e-mail address as password.")
    }

    pub(super) fn pass(&mut self, password: &[u8]) -> Reply {
        let Login::NeedPass(claim) = &self.login else {
            return Reply::new(503, "Send USER first.");
        };
        let Some(principal) = claim.verify(password) else {
            self.login = Login::NeedUser;
            return self.login_failed("Login incorrect.");
        };
        match self.seat.log_in(principal.id()) {
            Ok(login) => {
                log::info!("{}: {} logged in", self.ends.peer, principal.name());
                self.login = Login::LoggedIn(principal, login);
                self.control.set_limit(Tick::NEVER);
                self.seat.pulse().worked();
                Reply::new(230, "Logged in.")
            }
            Err(_) => {
                self.login = Login::NeedUser;
                Reply::new(530, "The maximum number of users is reached; try again later.")
            }
        }
    }

    pub(super) fn reinitialize(&mut self) -> Reply {
        self.log_out();
        Reply::new(220, "Ready for a new user.")
    }

    /// RFC 7151 §3.2: only before USER, and all hosts are one here.
    pub(super) fn host(&mut self) -> Reply {
        match self.login {
            Login::NeedUser => Reply::new(220, "One host serves all names here."),
            Login::NeedPass(_) | Login::LoggedIn(..) => Reply::new(503, "HOST comes before USER."),
        }
    }

    fn login_failed(&mut self, text: &'static str) -> Reply {
        self.login_failures += 1;
        if self.login_failures >= LOGIN_FAILURES_MAX {
            return Reply::new(421, "Too many failed logins; closing the control connection.");
        }
        Reply::new(530, text)
    }

    /// Back to what a new session has, but for what was counted against this one.
    fn log_out(&mut self) {
        if let Login::LoggedIn(..) = self.login {
            self.login_until = Tick::now().after(self.context.config.timeouts().login);
        }
        self.control.set_limit(self.login_until);
        self.login = Login::NeedUser;
        self.cwd = VirtualPath::root();
        self.representation = RepresentationType::Ascii;
        self.restart = None;
        self.port = DataPort::None;
        self.extended_only = false;
        self.facts = Facts::ALL;
    }
}
