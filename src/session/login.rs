//! Logging in and out: USER, PASS, REIN, HOST.

use super::Session;
use super::member::Member;
use super::members::Opened;
use crate::auth::{Account, Claim, UserId, Verdict};
use crate::data::port::DataPort;
use crate::data::pulse::Tick;
use crate::journal::Event;
use crate::limits::LOGIN_FAILURES_MAX;
use crate::proto::listing::Facts;
use crate::proto::params::RepresentationType;
use crate::proto::pathname::{Escaped, VirtualPath};
use crate::proto::reply::Reply;
use crate::session::Seat;
use std::sync::Arc;

/// How far a session's login has come.
pub(super) enum Login<L> {
    NeedUser,
    NeedPass(Claim),
    LoggedIn(Member<L>),
}

impl<S: Seat> Session<'_, S> {
    pub(super) fn user(&mut self, name: &[u8]) -> Reply {
        self.log_out();
        let homes = self.context.members.homes.load();
        let anonymous = homes.open_anonymous(&self.context.config, &self.context.root).is_some();
        self.login = match Claim::parse(name, anonymous, homes.has_accounts()) {
            Some(claim) => Login::NeedPass(claim),
            None => {
                return self.refused(name, "no such user", "Login refused: this server knows anonymous and ftp only.");
            }
        };
        match self.login {
            Login::NeedPass(Claim::Anonymous) => {
                Reply::new(331, "Anonymous login ok, send your e-mail address as password.")
            }
            _ => Reply::new(331, "A password is needed."),
        }
    }

    pub(super) fn pass(&mut self, password: &[u8]) -> Reply {
        match std::mem::replace(&mut self.login, Login::NeedUser) {
            Login::NeedPass(Claim::Anonymous) => self.enter_anonymous(),
            Login::NeedPass(Claim::Account(name)) => self.check_password(&name, password),
            other => {
                self.login = other;
                Reply::new(503, "Send USER first.")
            }
        }
    }

    fn check_password(&mut self, name: &[u8], password: &[u8]) -> Reply {
        let (context, peer) = (self.context, self.peer());
        let members = &context.members;
        if !members.may_try(peer) {
            return self.held_off(name);
        }
        let homes = members.homes.load();
        let until = self.login_until;
        let control = &self.control;
        // No longer than the login may take, nor than client and server want this session.
        let waiting = || control.check().is_ok() && control.is_there() && Tick::now() < until;
        match members.verify(&homes, name, password, peer, waiting) {
            Verdict::Right(account) => match homes.open(&account) {
                Ok(opened) => self.enter(UserId::Account(account.name().into()), Some(&account), opened),
                Err(error) => {
                    log::error!("user {:?}: {error}", account.name());
                    Reply::new(530, "Your folder can't be opened; tell the operator.")
                }
            },
            Verdict::Wrong => self.refused(name, "wrong", "Login incorrect."),
            // Others from there have failed meanwhile.
            Verdict::NoRoom if !members.may_try(peer) => self.held_off(name),
            Verdict::NoRoom => Reply::new(530, "Too many logins are being checked; try again later."),
        }
    }

    /// The address has failed too often.
    fn held_off(&self, name: &[u8]) -> Reply {
        self.note_refused(name, "too many failures");
        Reply::new(421, "Too many failed logins from your address; try again later.")
    }

    fn enter_anonymous(&mut self) -> Reply {
        let homes = self.context.members.homes.load();
        match homes.open_anonymous(&self.context.config, &self.context.root) {
            Some(opened) => self.enter(UserId::Anonymous, None, opened),
            None => self.refused(b"anonymous", "no anonymous user", "Login incorrect."),
        }
    }

    /// Counts the session for its user, and gives it what is the user's.
    fn enter(&mut self, user: UserId, account: Option<&Arc<Account>>, opened: Opened) -> Reply {
        let cap = account.and_then(|account| account.max_sessions());
        let Ok(login) = self.seat.log_in(user.clone(), cap) else {
            self.note_refused(user.name().as_bytes(), "maximum number of sessions");
            return Reply::new(530, "The maximum number of users is reached; try again later.");
        };
        log::info!("{}: {} logged in", self.ends.peer, Escaped(user.name().as_bytes()));
        self.context.journal.note(&Event::Login { peer: self.ends.peer, user: user.name().as_bytes() });
        let Opened { root, rights, pace, room, drops } = opened;
        let idle = account.and_then(|account| account.idle_timeout());
        self.root = root;
        self.login = Login::LoggedIn(Member { user, rights, pace, room, idle, drop_box: drops, _login: login });
        self.control.set_limit(Tick::NEVER);
        self.seat.pulse().worked();
        Reply::new(230, "Logged in.")
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

    fn refused(&mut self, name: &[u8], why: &'static str, text: &'static str) -> Reply {
        self.note_refused(name, why);
        self.login_failures += 1;
        if self.login_failures >= LOGIN_FAILURES_MAX {
            return Reply::new(421, "Too many failed logins; closing the control connection.");
        }
        Reply::new(530, text)
    }

    fn note_refused(&self, name: &[u8], why: &'static str) {
        log::info!("{}: login refused for {}: {why}", self.ends.peer, Escaped(name));
        self.context.journal.note(&Event::LoginRefused { peer: self.ends.peer, user: name, why });
    }

    /// Back to what a new session has, but for what was counted against this one.
    fn log_out(&mut self) {
        if let Login::LoggedIn(..) = self.login {
            self.login_until = Tick::now().after(self.context.config.timeouts().login);
        }
        self.control.set_limit(self.login_until);
        self.login = Login::NeedUser;
        self.root = Arc::clone(&self.context.root);
        self.cwd = VirtualPath::root();
        self.rename_from = None;
        self.umask = self.context.config.storing().umask;
        self.representation = RepresentationType::Ascii;
        self.restart = None;
        self.port = DataPort::None;
        self.extended_only = false;
        self.facts = Facts::ALL;
    }
}
