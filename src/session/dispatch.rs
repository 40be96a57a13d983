//! From a line to a handler, through the gates.

use super::{Session, answer, info};
use crate::data::port::DataPort;
use crate::data::wait::Stop;
use crate::policy::{Denied, permit, permit_command};
use crate::proto::command::{Command, Request, SyntaxError};
use crate::proto::pathname::{Escaped, VirtualPath};
use crate::proto::reply::Reply;
use crate::session::Seat;
use crate::session::list::Form;
use crate::session::store::How;

impl<S: Seat> Session<'_, S> {
    /// Executes one line; the reply is its final one.
    pub(super) fn execute(&mut self, line: &[u8]) -> Result<Reply, Stop> {
        let after_transfer = std::mem::take(&mut self.after_transfer);
        // RNTO follows RNFR at once, or not at all.
        let rename_from = self.rename_from.take();
        let request = match Request::parse(line) {
            Ok(request) => request,
            Err(error) => {
                // What was meant is unknown, so it may have been a password.
                log::debug!("{}: unknown command of {} bytes", self.ends.peer, line.len());
                return Ok(answer::syntax(error));
            }
        };
        let argument = if request.verb.gate.secret { b"***" } else { request.argument };
        log::debug!("{}: {} {}", self.ends.peer, request.verb.name, Escaped(argument));
        if let Err(denied) = permit(self.subject(), &request) {
            return Ok(self.refuse(&request, answer::denied(denied)));
        }
        match request.command() {
            // The transfer was over before ABOR was read, which is then done (RFC 959 §4.1.3, case 1):
            // suppaftp closes the data connection first, and waits for this reply.
            Ok(Command::Abor) if after_transfer => Ok(Reply::new(226, "Abort successful: the transfer has ended.")),
            Ok(command) => {
                if let Err(denied) = permit_command(self.subject(), &command) {
                    return Ok(answer::denied(denied));
                }
                let reply = self.dispatch(command, rename_from)?;
                self.after_transfer = request.verb.gate.transfer && matches!(reply.code(), 226 | 426);
                Ok(reply)
            }
            Err(SyntaxError::Family) => Ok(self.refuse(&request, answer::wrong_family(self.peer().is_ipv4()))),
            Err(error) => Ok(self.refuse(&request, answer::syntax(error))),
        }
    }

    /// A refused command leaves nothing behind of what it would have used up or replaced.
    fn refuse(&mut self, request: &Request<'_>, reply: Reply) -> Reply {
        if request.verb.gate.transfer {
            self.restart = None;
        }
        if request.verb.gate.transfer || matches!(request.verb.name, "PORT" | "EPRT" | "PASV" | "EPSV") {
            self.port = DataPort::None;
        }
        reply
    }

    fn dispatch(&mut self, command: Command<'_>, rename_from: Option<VirtualPath>) -> Result<Reply, Stop> {
        Ok(match command {
            Command::User(name) => self.user(name),
            Command::Pass(password) => self.pass(password),
            Command::Acct => Reply::new(202, "No account is needed."),
            Command::Rein => self.reinitialize(),
            Command::Quit => info::goodbye(),
            Command::Host => self.host(),
            Command::Clnt => Reply::new(200, "Noted."),
            Command::Cwd(path) => self.change_directory(path),
            Command::Cdup => self.change_directory(b".."),
            Command::Pwd => self.print_directory(),
            Command::Active(address) => self.active(address),
            Command::Pasv => self.passive(),
            Command::Epsv(argument) => self.extended_passive(argument),
            Command::Type(representation) => self.set_type(representation),
            Command::Structure => Reply::new(200, "Structure is file."),
            Command::Mode => Reply::new(200, "Mode is stream."),
            Command::Rest(marker) => self.restart_at(marker),
            Command::Allo(bytes) => self.allocate(bytes),
            Command::Utf8(on) => info::utf8(on),
            Command::MlstFacts(facts) => self.select_facts(facts),
            Command::Retr(path) => return self.retrieve(path),
            Command::List(argument) => return self.list(argument, Form::Long),
            Command::Nlst(argument) => return self.list(argument, Form::Names),
            Command::Mlsd(path) => return self.list_facts(path),
            Command::Abor => self.abort(),
            Command::Mlst(path) => self.facts_of(path),
            Command::Size(path) => self.size(path),
            Command::Mdtm(path) => self.modification_time(path),
            Command::Stat(b"") => self.status(),
            Command::Stat(argument) => return self.list_here(argument),
            Command::Feat => self.features(),
            Command::Help(verb) => self.help(verb),
            Command::SiteHelp => self.site_help(),
            Command::Syst => Reply::new(215, "UNIX Type: L8"),
            Command::Noop => Reply::new(200, "NOOP ok."),
            Command::Lang(tag) => info::language(tag),
            Command::Stor(path) => return self.store(path, How::Store),
            Command::Stou(path) => return self.store(path, How::Unique),
            Command::Appe(path) => return self.store(path, How::Append),
            Command::Dele(path) => self.delete(path),
            Command::Rmd(path) => self.remove_folder(path),
            Command::Mkd(path) => self.make_folder(path),
            Command::Rnfr(path) => self.rename_from(path),
            Command::Rnto(path) => self.rename_to(rename_from, path),
            Command::Mfmt(modified, path) => self.modify_time(modified, path),
            Command::Mff(facts, path) => self.modify_facts(facts, path),
            Command::Chmod(mode, path) => self.change_mode(mode, path),
            Command::Umask(umask) => self.set_umask(umask),
            Command::NotOffered => answer::denied(Denied::NotOffered),
        })
    }
}
