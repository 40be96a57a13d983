//! Files: RETR, SIZE, MDTM.

use super::{Session, answer};
use crate::data::port::DataPort;
use crate::data::wait::Stop;
use crate::proto::date::time_val;
use crate::proto::listing::Kind;
use crate::proto::params::RepresentationType;
use crate::proto::pathname::VirtualPath;
use crate::proto::reply::Reply;
use crate::session::Seat;
use crate::session::transfer::Way;
use crate::vfs::{OpenFile, Status};
use std::os::fd::AsFd;

impl<S: Seat> Session<'_, S> {
    /// Opens the file once, before the data connection, and from then on uses only its descriptor.
    pub(super) fn retrieve(&mut self, argument: &[u8]) -> Result<Reply, Stop> {
        let port = std::mem::take(&mut self.port);
        let offset = self.restart.take().map_or(0, |marker| marker.offset());
        match self.open_at(argument, offset) {
            Ok((path, file)) => self.send_file(port, &path, &file, offset),
            Err(reply) => Ok(reply),
        }
    }

    fn open_at(&self, argument: &[u8], offset: u64) -> Result<(VirtualPath, OpenFile), Reply> {
        let path = self.resolve(argument)?;
        let file = self.root.open_file(&path).map_err(|error| answer::file(&error))?;
        if offset > file.length {
            return Err(Reply::new(554, "The restart marker is past the end of the file."));
        }
        // A marker counts bytes as transferred (RFC 3659 §5); in ASCII they could be found only by
        // converting the whole file up to there.
        if offset > 0 && self.representation == RepresentationType::Ascii {
            return Err(Reply::new(554, "REST works in image type only: send TYPE I."));
        }
        Ok((path, file))
    }

    fn send_file(&mut self, port: DataPort, path: &VirtualPath, file: &OpenFile, offset: u64) -> Result<Reply, Stop> {
        let (opening, expected) = match (self.representation, offset) {
            (RepresentationType::Ascii, _) => (Reply::new(150, "Opening ASCII mode data connection."), None),
            // ncftp and curl take the number in parentheses for what will come, so it is left out after REST.
            (RepresentationType::Image, 0) => (
                Reply::with(150, format!("Opening BINARY mode data connection ({} bytes)", file.length)),
                Some(file.length),
            ),
            (RepresentationType::Image, _) => {
                (Reply::new(150, "Opening BINARY mode data connection."), Some(file.length - offset))
            }
        };
        let representation = self.representation;
        self.transfer(port, &opening, expected, path, Way::Out, |sender, work| match representation {
            RepresentationType::Image => sender.file(file.file.as_fd(), offset, file.length, work.data),
            RepresentationType::Ascii => sender.ascii_file(file.file.as_fd(), file.length, work.data),
        })
    }

    pub(super) fn size(&mut self, argument: &[u8]) -> Reply {
        if self.representation == RepresentationType::Ascii {
            return Reply::new(550, "SIZE not allowed in ASCII mode.");
        }
        match self.regular_file(argument) {
            Ok(status) => Reply::with(213, status.size.to_string()),
            Err(reply) => reply,
        }
    }

    pub(super) fn modification_time(&mut self, argument: &[u8]) -> Reply {
        if let Some(reply) = self.modify_time_by_mdtm(argument) {
            return reply;
        }
        match self.regular_file(argument) {
            Ok(status) => Reply::with(213, time_val(status.modified)),
            Err(reply) => reply,
        }
    }

    fn regular_file(&self, argument: &[u8]) -> Result<Status, Reply> {
        let path = self.resolve(argument)?;
        let status = self.root.status(&path).map_err(|error| answer::file(&error))?;
        match status.kind {
            Kind::File => Ok(status),
            Kind::Folder => Err(Reply::new(550, "That is a folder, not a file.")),
            Kind::Link | Kind::Other => Err(Reply::new(550, "That is not a regular file.")),
        }
    }

    /// The pathname that the argument means, from the current directory.
    pub(super) fn resolve(&self, argument: &[u8]) -> Result<VirtualPath, Reply> {
        self.cwd.join(argument).map_err(answer::path)
    }
}
