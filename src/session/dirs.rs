//! Folders: CWD, CDUP, PWD, LIST, NLST, MLSD, MLST, and STAT of a path.

use super::list::{Form, Hidden, Listing, entry};
use super::sink::{ControlSink, DataSink};
use super::{Session, Work, answer};
use crate::auth::Write;
use crate::data::port::DataError;
use crate::data::wait::Stop;
use crate::limits::MESSAGE_MAX;
use crate::policy::{Rights, Subject};
use crate::proto::listing::{Kind, ListArguments, Perm, facts_line};
use crate::proto::message::message;
use crate::proto::pathname::quote;
use crate::proto::reply::Reply;
use crate::session::Seat;
use crate::session::transfer::Way;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The file whose text is shown to those who enter its folder (`--messages`).
const MESSAGE_FILE: &[u8] = b".message";

impl<S: Seat> Session<'_, S> {
    pub(super) fn change_directory(&mut self, argument: &[u8]) -> Reply {
        let path = match self.resolve(argument) {
            Ok(path) => path,
            Err(reply) => return reply,
        };
        match self.root.enter(&path) {
            Ok(()) => {
                self.cwd = path;
                self.message().unwrap_or_else(|| Reply::new(250, "Directory changed."))
            }
            Err(error) => answer::file(&error),
        }
    }

    /// The text of `.message` in the current directory, where it is to be shown and there is one.
    fn message(&self) -> Option<Reply> {
        if !self.context.config.access().messages {
            return None;
        }
        let path = self.cwd.join(MESSAGE_FILE).ok()?;
        let text = self.root.read_small(&path, MESSAGE_MAX.0).ok()?;
        let lines = message(&text);
        if lines.is_empty() {
            return None;
        }
        Some(Reply::lines(250, "Directory changed:", lines, "End of message."))
    }

    /// What may be done with entries, as MLST's perm tells it.
    fn perm(&self) -> Perm {
        match self.subject() {
            Subject::Member(Rights { read: false, .. }) => Perm::Drop,
            Subject::Member(Rights { write: Write::All, .. }) => Perm::All,
            Subject::Member(Rights { write: Write::Add, .. }) => Perm::Add,
            _ => Perm::Read,
        }
    }

    pub(super) fn print_directory(&self) -> Reply {
        let mut text = Vec::new();
        quote(self.cwd.as_bytes(), &mut text);
        text.extend_from_slice(b" is the current directory");
        Reply::with(257, text)
    }

    /// LIST and NLST.
    pub(super) fn list(&mut self, argument: &[u8], form: Form) -> Result<Reply, Stop> {
        let arguments = ListArguments::parse(Some(argument));
        let listing = Listing::find(&self.root, &self.cwd, arguments.path, form, hidden(&arguments), now());
        self.send_listing(listing)
    }

    /// MLSD.
    pub(super) fn list_facts(&mut self, argument: &[u8]) -> Result<Reply, Stop> {
        let path = if argument.is_empty() { Ok(self.cwd.clone()) } else { self.resolve(argument) };
        let listing = path.and_then(|path| Listing::of_folder(&self.root, path, self.facts, self.perm()));
        self.send_listing(listing)
    }

    fn send_listing(&mut self, listing: Result<Listing, Reply>) -> Result<Reply, Stop> {
        // Whatever comes of it, a transfer command uses up the data port and the restart marker.
        let port = std::mem::take(&mut self.port);
        self.restart = None;
        let listing = match listing {
            Ok(listing) => listing,
            Err(reply) => return Ok(reply),
        };
        let root = Arc::clone(&self.root);
        let known = &self.context.known;
        let opening = Reply::new(150, "Here comes the listing.");
        self.transfer(port, &opening, None, &listing.path(), Way::Listing, |sender, work| {
            let Work { data, names, read } = work;
            let mut sink = DataSink::new(sender, data);
            listing.write((&root, known), names, read, &mut sink)?;
            sink.end()
        })
    }

    /// STAT with a path: the listing as a reply.
    pub(super) fn list_here(&mut self, argument: &[u8]) -> Result<Reply, Stop> {
        let arguments = ListArguments::parse(Some(argument));
        let listing = match Listing::find(&self.root, &self.cwd, arguments.path, Form::Long, hidden(&arguments), now())
        {
            Ok(listing) => listing,
            Err(reply) => return Ok(reply),
        };
        self.control.send_first(213, b"Status follows:")?;
        let Work { names, read, .. } = &mut *self.work;
        match listing.write((&self.root, &self.context.known), names, read, &mut ControlSink(&mut self.control)) {
            Err(DataError::Stopped(stop)) => {
                // Whatever is said next, this reply has to end first.
                let _ = self.control.send(&Reply::new(213, "End of status: it is not complete."));
                Err(stop)
            }
            Err(_) => Ok(Reply::new(213, "End of status: it is not complete.")),
            Ok(()) => Ok(Reply::new(213, "End of status")),
        }
    }

    /// MLST: the facts of one entry, and its full path.
    pub(super) fn facts_of(&self, argument: &[u8]) -> Reply {
        let path = if argument.is_empty() { Ok(self.cwd.clone()) } else { self.resolve(argument) };
        let path = match path {
            Ok(path) => path,
            Err(reply) => return reply,
        };
        let root = &self.root;
        // As MLSD shows it: a link to a file as the file, any other link as a link.
        let status = root.link_status(&path).map(|status| match status.kind {
            Kind::Link => root.status(&path).ok().filter(|target| target.kind == Kind::File).unwrap_or(status),
            _ => status,
        });
        match status {
            Ok(status) => {
                let mut line = Vec::new();
                facts_line(&mut line, &entry(b"", &status, None), self.facts, self.perm(), path.as_bytes());
                Reply::lines(250, "Facts follow:", vec![line], "End")
            }
            Err(error) => answer::file(&error),
        }
    }
}

fn hidden(arguments: &ListArguments<'_>) -> Hidden {
    match (arguments.all, arguments.almost_all) {
        (true, _) => Hidden::Yes,
        (false, true) => Hidden::Almost,
        (false, false) => Hidden::No,
    }
}

/// Seconds since the epoch, for the dates of LIST.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
