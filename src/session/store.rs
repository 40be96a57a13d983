//! Uploads: STOR, APPE, STOU, and the room for them: ALLO.
//!
//! A file is written under a hidden name and takes its own only when it is whole, so whatever ends an upload
//! leaves what was there before. REST with STOR, and APPE, change a file in place: that is what they are for.

use super::member::Drops;
use super::{Session, answer};
use crate::auth::Write;
use crate::config::MinFree;
use crate::data::port::{DataError, DataPort};
use crate::data::pulse::{Phase, Pulse, Tick};
use crate::data::receive::Incoming;
use crate::data::wait::Stop;
use crate::limits::{DATA_BUFFER, SPACE_EVERY};
use crate::policy::{Denied, Rights, Subject};
use crate::proto::ascii;
use crate::proto::params::RepresentationType;
use crate::proto::pathname::{Escaped, VirtualPath, shown};
use crate::proto::reply::Reply;
use crate::session::Seat;
use crate::session::transfer::Way;
use crate::vfs::{Existing, Free, Offset, Upload, VfsError};

/// What a client wants stored, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// STOR.
    Store,
    /// APPE.
    Append,
    /// STOU.
    Unique,
}

/// Name of an upload for which the client has none (STOU).
const NAMELESS: &[u8] = b"upload";

/// Names that are tried for it; then the end decides.
const NUMBERS_TRIED: u32 = 100;

/// What is written, and what holds for it.
struct Sink<'a> {
    upload: Upload,
    pulse: &'a Pulse,
    max_file: Option<u64>,
    min_free: MinFree,
    /// Length at which the disk is asked for its room again.
    ask_at: u64,
}

impl Sink<'_> {
    /// Writes these bytes, once it is sure that they may be there. As long as the disk takes for that nobody
    /// is to blame the client for not sending.
    fn write(&mut self, bytes: &[u8]) -> Result<(), VfsError> {
        self.pulse.enter(Phase::Work, Tick::NEVER);
        let outcome = self.write_if_it_may_be(bytes);
        self.pulse.enter(Phase::Transfer, Tick::NEVER);
        outcome
    }

    fn write_if_it_may_be(&mut self, bytes: &[u8]) -> Result<(), VfsError> {
        let after = self.upload.length().saturating_add(self.upload.growth(bytes.len() as u64));
        if self.max_file.is_some_and(|most| after > most) {
            return Err(VfsError::TooLarge);
        }
        if after >= self.ask_at {
            self.ask_at = after.saturating_add(self.ask_for_room()?);
        }
        self.upload.write(bytes)
    }

    /// All has come: makes it durable, if it is to be, as far as it can be before it has its name.
    fn finish(&mut self, durable: bool) -> Result<(), VfsError> {
        self.pulse.enter(Phase::Work, Tick::NEVER);
        self.upload.complete(durable)
    }

    /// Asks the disk whether more is free than has to stay free; tells after how many bytes it is to be asked
    /// again: the less there is, the sooner.
    fn ask_for_room(&self) -> Result<u64, VfsError> {
        let free = self.upload.free()?;
        let above =
            if self.upload.in_place() { bytes_above(&free, self.min_free) } else { above(&free, self.min_free) };
        Ok(above?.clamp(DATA_BUFFER as u64, SPACE_EVERY))
    }
}

impl<'a, S: Seat> Session<'a, S> {
    pub(super) fn store(&mut self, argument: &[u8], how: How) -> Result<Reply, Stop> {
        let port = std::mem::take(&mut self.port);
        let offset = self.restart.take().map_or(0, |marker| marker.offset());
        match self.open_upload(argument, how, offset) {
            Ok(sink) => self.receive_file(port, sink, how),
            Err(reply) => Ok(reply),
        }
    }

    /// Opens what is to be written, and asks for room.
    fn open_upload(&self, argument: &[u8], how: How, offset: u64) -> Result<Sink<'a>, Reply> {
        let (rights, drops) = match (self.subject(), self.member()) {
            (Subject::Member(rights), Some(member)) => (rights, member.drop_box),
            _ => return Err(answer::denied(Denied::NotLoggedIn)),
        };
        if offset > 0 && rights.write != Write::All {
            return Err(answer::denied(Denied::AddOnly));
        }
        if offset > 0 && self.representation == RepresentationType::Ascii {
            return Err(Reply::new(554, "REST works in image type only: send TYPE I."));
        }
        let argument = if argument.is_empty() { NAMELESS } else { argument };
        let mut path = self.resolve(argument)?;
        self.visible(&path)?;
        if how == How::Unique {
            path = self.free_name(path)?;
        }
        let mode = drops.map_or(0o666 & !self.umask, |drops| drops.mode);
        let upload = match how {
            How::Append => self.root.change(&path, Offset::Append, mode),
            How::Store if offset > 0 => self.root.change(&path, Offset::At(offset), mode),
            How::Store | How::Unique => self.root.upload(&path, existing(how, rights, drops), mode),
        };
        upload.and_then(|upload| self.sink(upload, drops)).map_err(|error| answer::file(&error))
    }

    /// Whether the name of what is new may be this one: programs of the operator may obey what they find in
    /// hidden files and folders, and no stranger is to drop something there.
    fn visible(&self, path: &VirtualPath) -> Result<(), Reply> {
        let drops = self.member().is_some_and(|member| member.drop_box.is_some());
        if drops && path.as_bytes().split(|&byte| byte == b'/').any(|name| name.starts_with(b".")) {
            return Err(Reply::new(553, "That name is not allowed here."));
        }
        Ok(())
    }

    fn sink(&self, mut upload: Upload, drops: Option<Drops>) -> Result<Sink<'a>, VfsError> {
        if let Some((user, group)) = drops.and_then(|drops| drops.owner) {
            upload.set_owner(Some(user), Some(group))?;
        }
        if let Some(room) = self.member().and_then(|member| member.room.as_ref()) {
            upload.charge(room.reserve(0).ok_or(VfsError::OverQuota)?);
        }
        let min_free = self.context.config.storing().min_free;
        let pulse = self.seat.pulse();
        let max_file = drops.and_then(|drops| drops.max_file);
        let mut sink = Sink { upload, pulse, max_file, min_free, ask_at: 0 };
        sink.ask_at = sink.upload.length().saturating_add(sink.ask_for_room()?);
        Ok(sink)
    }

    fn receive_file(&mut self, port: DataPort, mut sink: Sink<'_>, how: How) -> Result<Reply, Stop> {
        let representation = self.representation;
        let opening = match (how, representation) {
            // RFC 1123 §4.1.2.9.
            (How::Unique, _) => Reply::with(150, self.told(b"FILE: ", sink.upload.path())),
            (_, RepresentationType::Ascii) => Reply::new(150, "Opening ASCII mode data connection."),
            (_, RepresentationType::Image) => Reply::new(150, "Opening BINARY mode data connection."),
        };
        let path = sink.upload.path().clone();
        let mut failure = None;
        let durable = self.context.config.storing().durable;
        let look = self.end_look();
        let received = self.receive(port, &opening, &path, |incoming, work| {
            let written = match representation {
                RepresentationType::Image => image(incoming, work.data, &mut sink),
                RepresentationType::Ascii => text(incoming, work.data, &mut sink),
            };
            // The disk is at work while the client is looked at, and the last look comes after it.
            let whole = written.and_then(|()| Ok(sink.finish(durable)?)).and_then(|()| Ok(incoming.confirm_end(look)?));
            whole.map_err(|ended| match ended {
                Ended::Data(error) => error,
                Ended::Here(error) => {
                    failure = Some(error);
                    DataError::Local
                }
            })
        });
        // From here on nothing is waited for but the disk.
        self.seat.pulse().enter(Phase::Work, Tick::NEVER);
        let mut stored = None;
        let outcome = match received {
            Ok(()) => match sink.upload.commit(durable) {
                Ok(committed) => {
                    stored = Some(committed.path);
                    Ok(())
                }
                Err(error) => {
                    failure = Some(error);
                    Err(DataError::Local)
                }
            },
            Err(error) => {
                self.keep_or_discard(sink.upload);
                Err(error)
            }
        };
        let written_down = stored.as_ref().unwrap_or(&path);
        let why = failure.map(|failure| self.failed("STOR", &path, &failure));
        let reply = self.end_transfer(Way::In, written_down, outcome, why)?;
        Ok(match (failure, stored) {
            (Some(failure), _) => answer::file(&failure),
            // The client has to be told a name that it did not choose.
            (None, Some(name)) if how == How::Unique || name != path => {
                Reply::with(226, self.told(b"Transfer complete. FILE: ", &name))
            }
            (None, _) => reply,
        })
    }

    /// The upload broke: what came is deleted, or kept for a client that may go on with it. What was changed in
    /// place stays in any case.
    fn keep_or_discard(&self, upload: Upload) {
        let may_go_on = self.member().is_some_and(|member| member.rights.write == Write::All);
        if upload.in_place() || !may_go_on || !self.context.config.storing().keep_partial {
            return;
        }
        let path = upload.path().clone();
        match upload.keep() {
            Ok(Some(kept)) => {
                log::info!("{}: what came is kept as {}", self.ends.peer, Escaped(kept.path.as_bytes()));
            }
            Ok(None) => {}
            Err(error) => {
                let path = Escaped(path.as_bytes());
                log::warn!("{}: what came of {path} can't be kept: {error}", self.ends.peer);
            }
        }
    }

    /// A name that nothing has, like the one that is wished for. Whether it is still free is seen in the end.
    fn free_name(&self, wish: VirtualPath) -> Result<VirtualPath, Reply> {
        let mut path = wish.clone();
        for number in 1..=NUMBERS_TRIED {
            if self.root.link_status(&path) == Err(VfsError::Missing) {
                break;
            }
            let name = wish.file_name().unwrap_or_default();
            let numbered = [name, format!(".{number}").as_bytes()].concat();
            path = wish.parent().join(&numbered).map_err(answer::path)?;
        }
        Ok(path)
    }

    /// A text that ends with the name of a file: as it is in the current directory, else the whole path.
    fn told(&self, text: &[u8], path: &VirtualPath) -> Vec<u8> {
        let mut text = text.to_vec();
        let name = if path.parent() == self.cwd { path.file_name().unwrap_or_default() } else { path.as_bytes() };
        shown(name, &mut text);
        text
    }

    /// ALLO (RFC 959 §4.1.3): whether an upload of so many bytes would find room now.
    pub(super) fn allocate(&self, bytes: u64) -> Reply {
        let may_write = matches!(self.subject(), Subject::Member(rights) if rights.write != Write::No);
        if !may_write {
            return Reply::new(202, "No need to allocate.");
        }
        if let Some(member) = self.member() {
            if member.drop_box.and_then(|drops| drops.max_file).is_some_and(|most| bytes > most) {
                return answer::file(&VfsError::TooLarge);
            }
            if member.room.as_ref().is_some_and(|room| !room.has(bytes)) {
                return answer::file(&VfsError::OverQuota);
            }
        }
        let min_free = self.context.config.storing().min_free;
        match self.root.free(&self.cwd).and_then(|free| bytes_above(&free, min_free)) {
            Ok(above) if above < bytes => answer::file(&VfsError::NoSpace),
            Ok(_) => Reply::new(202, "There is room; no need to allocate."),
            Err(error) => answer::file(&error),
        }
    }

    /// Whether there may be one more name in this folder: also one that holds nothing takes room, of which the
    /// quotas do not know.
    pub(super) fn room_in(&self, folder: &VirtualPath) -> Result<(), VfsError> {
        above(&self.root.free(folder)?, self.context.config.storing().min_free).map(drop)
    }
}

/// Bytes that are free above those that have to stay free.
fn bytes_above(free: &Free, least: MinFree) -> Result<u64, VfsError> {
    free.bytes.checked_sub(least.of(free.total)).ok_or(VfsError::NoSpace)
}

/// The same where a file is to be made: there have to be enough of these as well.
fn above(free: &Free, least: MinFree) -> Result<u64, VfsError> {
    if free.files < least.files_of(free.total_files) {
        return Err(VfsError::NoSpace);
    }
    bytes_above(free, least)
}

/// What becomes of what has the name.
fn existing(how: How, rights: Rights, drops: Option<Drops>) -> Existing {
    match (how, rights.write, drops) {
        (How::Unique, ..) | (.., Some(_)) => Existing::Rename,
        (_, Write::All, None) => Existing::Replace,
        (_, Write::Add | Write::No, None) => Existing::Refuse,
    }
}

/// What ended an upload before it was whole.
enum Ended {
    Data(DataError),
    Here(VfsError),
}

impl From<DataError> for Ended {
    fn from(error: DataError) -> Self {
        Ended::Data(error)
    }
}

impl From<VfsError> for Ended {
    fn from(error: VfsError) -> Self {
        Ended::Here(error)
    }
}

fn image(incoming: &mut Incoming<'_>, buffer: &mut [u8], sink: &mut Sink<'_>) -> Result<(), Ended> {
    loop {
        let count = incoming.receive(buffer)?;
        match buffer.get(..count) {
            None | Some([]) => return Ok(()),
            Some(bytes) => sink.write(bytes)?,
        }
    }
}

/// CR LF becomes LF (RFC 959 §3.1.1.1); a CR alone stays one.
fn text(incoming: &mut Incoming<'_>, buffer: &mut [u8], sink: &mut Sink<'_>) -> Result<(), Ended> {
    let (input, output) = buffer.split_at_mut(buffer.len() / 2);
    let mut converter = ascii::FromNetwork::new();
    loop {
        let count = incoming.receive(input)?;
        let Some(mut rest) = input.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        while !rest.is_empty() {
            let (consumed, produced) = converter.push(rest, output);
            sink.write(output.get(..produced).unwrap_or_default())?;
            rest = rest.get(consumed..).unwrap_or_default();
        }
    }
    if let Some(byte) = converter.finish() {
        sink.write(&[byte])?;
    }
    Ok(())
}
