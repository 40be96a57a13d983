//! One session of a client: log in, do what its kind says, say goodbye.

use std::time::{Duration, Instant};

use super::client::{Buffers, Control};
use super::fault::{Failure, Fault};
use super::measure::Seen;
use super::plan::Ticket;
use super::wire::{Data, Server};
use crate::config::load::{Kind, Load};
use crate::config::url::FtpUrl;

/// Most files that are fetched in turn, and most folders that are looked into for them.
const FILES_MAX: usize = 1000;
const FOLDERS_MAX: usize = 100;

/// Most bytes of a listing that are read for names; and those after which nothing more of it is received.
const LISTING_MAX: usize = 1 << 20;
const LISTING_END: usize = 256 << 20;

/// How the names of all uploaded files begin.
pub const UPLOAD_NAME: &str = "plimsoll-load-";

/// What the sessions of a load have in common.
#[derive(Debug)]
pub struct Job {
    /// Where, and how long to wait.
    pub server: Server,
    user: Vec<u8>,
    password: Vec<u8>,
    folder: Vec<u8>,
    files: Vec<Vec<u8>>,
    idle_for: Duration,
    upload_size: u64,
    /// How the names of uploaded files begin: no other run has that.
    upload_name: Vec<u8>,
}

impl Job {
    /// What sessions of this load have to do at this server. Where files of a folder are to be fetched they
    /// are looked for here, once.
    ///
    /// # Errors
    /// The files can't be listed, or there are none.
    pub fn new(load: &Load, url: &FtpUrl, server: Server) -> Result<Self, String> {
        let mut job = Self {
            server,
            user: url.user.clone(),
            password: url.password.clone(),
            folder: as_argument(url.folder()),
            files: vec![as_argument(&url.path)],
            idle_for: load.idle_for,
            upload_size: load.upload_size,
            upload_name: [url.folder(), UPLOAD_NAME.as_bytes(), run_name().as_bytes()].concat(),
        };
        let fetches = load.mix.iter().any(|(kind, _)| *kind == Kind::Fetch);
        if fetches && url.is_folder() {
            job.files = job.files_below(url).map_err(told)?;
            if job.files.is_empty() {
                return Err("there is no file to fetch; --mix without fetch needs none".to_owned());
            }
        }
        Ok(job)
    }

    /// Runs one session of a client, which should have begun at `begin`. It is at rest no longer than `until`, nor when
    /// `stopped` says so.
    ///
    /// # Errors
    /// Refused, or failed.
    pub fn run(
        &self,
        (client, ticket): (usize, &Ticket),
        begin: Instant,
        buffers: &mut Buffers,
        seen: &mut Seen,
        (until, stopped): (Option<Instant>, impl Fn() -> bool),
    ) -> Result<Duration, Fault> {
        let mut control = Control::connect(&self.server, buffers)?;
        seen.connected = true;
        control.log_in(&self.user, &self.password)?;
        seen.logon = Some(begin.elapsed());
        match ticket.kind {
            Kind::Logon => {}
            Kind::Fetch => {
                control.command("TYPE", b"I", &[200])?;
                let index = usize::try_from(ticket.turn % self.files.len().max(1) as u64).unwrap_or(0);
                let file = self.files.get(index).map(Vec::as_slice).unwrap_or_default();
                self.receive(&mut control, "RETR", file, begin, seen)?;
            }
            Kind::List => self.receive(&mut control, "LIST", &self.folder, begin, seen)?,
            Kind::Upload => self.upload(&mut control, client, seen)?,
            Kind::Idle => seen.cut = !control.idle(self.idle_for, until, stopped)?,
        }
        control.quit()?;
        let whole = begin.elapsed();
        control.leave();
        Ok(whole)
    }

    fn receive(
        &self,
        control: &mut Control<'_>,
        verb: &'static str,
        argument: &[u8],
        begin: Instant,
        seen: &mut Seen,
    ) -> Result<(), Fault> {
        let mut data = control.transfer(verb, argument)?;
        let received = receive_all(&mut data, control.data_buffer(), |part| {
            if seen.first_byte.is_none() {
                seen.first_byte = Some(begin.elapsed());
            }
            seen.received += part.len() as u64;
            Ok(())
        });
        drop(data);
        conclude(control, verb, received).0
    }

    /// Uploads a file whose name no other client has, and takes it away again. A client has one name for all
    /// of its sessions: where nothing can be deleted a run leaves at most a file for each client.
    fn upload(&self, control: &mut Control<'_>, client: usize, seen: &mut Seen) -> Result<(), Fault> {
        let name = [self.upload_name.as_slice(), format!("-{client}").as_bytes()].concat();
        let name = as_argument(&name);
        control.command("TYPE", b"I", &[200])?;
        let mut data = control.transfer("STOR", &name)?;
        seen.left_behind = true;
        let sent = self.send(&mut data, control, seen);
        drop(data);
        let (stored, answered) = conclude(control, "STOR", sent);
        if !answered {
            return stored;
        }
        match control.command("DELE", &name, &[250, 200]) {
            Ok(_) => seen.left_behind = false,
            // It was uploaded all the same. What was refused in the end may not be there at all.
            Err(Fault::Refused(_)) => seen.left_behind = !matches!(stored, Err(Fault::Refused(_))),
            Err(failed) => return Err(failed),
        }
        stored
    }

    fn send(&self, data: &mut Data, control: &mut Control<'_>, seen: &mut Seen) -> Result<(), Failure> {
        let mut left = self.upload_size;
        while left > 0 {
            let buffer = control.data_buffer();
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get(..count).unwrap_or_default();
            data.send(part)?;
            left -= part.len() as u64;
            seen.sent += part.len() as u64;
        }
        Ok(())
    }

    /// The files of a folder and of those below it, nearest first: by MLSD, or, where the server does not
    /// know that, the names of the one folder by NLST.
    fn files_below(&self, url: &FtpUrl) -> Result<Vec<Vec<u8>>, Fault> {
        let mut buffers = Buffers::new(self.server.source(0));
        let mut control = Control::connect(&self.server, &mut buffers)?;
        control.log_in(&self.user, &self.password)?;
        control.command("TYPE", b"I", &[200])?;
        let mut folders = vec![url.folder().to_vec()];
        let mut files = Vec::new();
        let mut looked_into = 0;
        while let Some(folder) = folders.get(looked_into).cloned() {
            looked_into += 1;
            let listing = match listing(&mut control, "MLSD", &as_argument(&folder)) {
                Ok(listing) => listing,
                Err(Fault::Refused(refusal)) if looked_into == 1 && matches!(refusal.code, 500..=504) => {
                    let listing = listing(&mut control, "NLST", &as_argument(&folder))?;
                    for name in lines(&listing).take(FILES_MAX) {
                        let path = as_argument(&below(&folder, name));
                        if may_be_file(&mut control, &path)? {
                            files.push(path);
                        }
                    }
                    break;
                }
                // One of the folders below may be closed to us.
                Err(Fault::Refused(_)) if looked_into > 1 => continue,
                Err(fault) => return Err(fault),
            };
            for (name, is_folder) in lines(&listing).filter_map(entry) {
                let path = below(&folder, name);
                if !is_folder {
                    files.push(as_argument(&path));
                } else if folders.len() < FOLDERS_MAX {
                    folders.push([path.as_slice(), b"/"].concat());
                }
            }
            if files.len() >= FILES_MAX {
                break;
            }
        }
        files.truncate(FILES_MAX);
        control.quit()?;
        control.leave();
        Ok(files)
    }
}

/// Receives to the end, and hands on each part of it, until it is to be no more.
fn receive_all(
    data: &mut Data,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        match data.receive(buffer)? {
            0 => return Ok(()),
            count => take(buffer.get(..count).unwrap_or_default())?,
        }
    }
}

/// Ends a transfer whose data connection ended so; tells also whether the server has answered, so that it can be asked for
/// more. A server that breaks a transfer off says why, and that is what there is to be told.
fn conclude(control: &mut Control<'_>, verb: &'static str, moved: Result<(), Failure>) -> (Result<(), Fault>, bool) {
    let said = match moved {
        Ok(()) => control.finish(verb),
        // The server has had its time.
        Err(Failure::Timeout) => return (Err(Failure::Timeout.into()), false),
        Err(_) => control.explanation(verb),
    };
    let answered = !matches!(said, Err(Fault::Failed(_)));
    match (moved, said) {
        (Err(failure), Ok(()) | Err(Fault::Failed(_))) => (Err(failure.into()), answered),
        (_, said) => (said, answered),
    }
}

/// Receives a listing, as much of it as is read.
fn listing(control: &mut Control<'_>, verb: &'static str, argument: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut data = control.transfer(verb, argument)?;
    let mut listing = Vec::new();
    let mut received: usize = 0;
    let ended = receive_all(&mut data, control.data_buffer(), |part| {
        received = received.saturating_add(part.len());
        let room = LISTING_MAX - listing.len();
        listing.extend_from_slice(part.get(..room).unwrap_or(part));
        if received > LISTING_END { Err(Failure::Data) } else { Ok(()) }
    });
    drop(data);
    match conclude(control, verb, ended) {
        // Broken off by us, so it does not matter what the server makes of it.
        (_, true) if received > LISTING_END => Ok(listing),
        (said, _) => said.map(|()| listing),
    }
}

/// Whether a name of NLST, which tells nothing but names, is that of a file: folders have no size. A server
/// that knows no SIZE (RFC 3659 §4) does not tell.
fn may_be_file(control: &mut Control<'_>, path: &[u8]) -> Result<bool, Fault> {
    match control.command("SIZE", path, &[213]) {
        Ok(_) => Ok(true),
        Err(Fault::Refused(refusal)) => Ok(matches!(refusal.code, 500..=504)),
        Err(failed) => Err(failed),
    }
}

/// Whole lines that can be sent as names.
fn lines(listing: &[u8]) -> impl Iterator<Item = &[u8]> {
    listing
        .split_inclusive(|&byte| byte == b'\n')
        .filter_map(|line| line.strip_suffix(b"\n"))
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty() && line.len() < FILES_MAX && !line.iter().any(u8::is_ascii_control))
}

/// The name in a line of MLSD, and whether it is that of a folder; nothing for other kinds, and for names
/// that the server may have changed to show them (RFC 3659 §7).
fn entry(line: &[u8]) -> Option<(&[u8], bool)> {
    let space = memchr::memchr(b' ', line)?;
    let (facts, name) = (line.get(..space)?, line.get(space + 1..)?);
    let kind = facts.split(|&byte| byte == b';').find_map(|fact| {
        let (name, value) = fact.split_at_checked(5)?;
        name.eq_ignore_ascii_case(b"type=").then_some(value)
    })?;
    let is_folder = kind.eq_ignore_ascii_case(b"dir");
    (is_folder || kind.eq_ignore_ascii_case(b"file")).then_some((name, is_folder)).filter(|(name, _)| !name.is_empty())
}

/// A name in a folder, unless it is a path already, as some servers have it.
fn below(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if name.contains(&b'/') { name.to_vec() } else { [folder, name].concat() }
}

/// A name that no other run has, on whatever host and in whatever container.
fn run_name() -> String {
    let mut random = [0; 8];
    // Without it the time tells them apart.
    if rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        random = u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or_default().to_le_bytes();
    }
    format!("{:016x}", u64::from_le_bytes(random))
}

/// A path as it is sent: one that begins with a hyphen would be taken for options.
fn as_argument(path: &[u8]) -> Vec<u8> {
    if path.starts_with(b"-") { [b"./", path].concat() } else { path.to_vec() }
}

/// A fault in words.
#[must_use]
pub fn told(fault: Fault) -> String {
    match fault {
        Fault::Refused(refusal) => format!("the server answers {} to {}", refusal.code, refusal.to),
        Fault::Failed(Failure::Timeout) => "no answer within --timeout".to_owned(),
        Fault::Failed(failure) => failure.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mlsd_are_files_folders_or_nothing() {
        let cases: [(&str, Option<(&str, bool)>); 9] = [
            ("type=file;size=3; a.txt", Some(("a.txt", false))),
            ("Size=3;Type=dir;Modify=1; a b", Some(("a b", true))),
            ("TYPE=FILE; x", Some(("x", false))),
            ("type=cdir; .", None),
            ("type=pdir; ..", None),
            ("type=OS.unix=slink:/x; y", None),
            ("size=3; y", None),
            ("type=file;", None),
            ("type=file; ", None),
        ];
        for (line, expected) in cases {
            let expected = expected.map(|(name, is_folder)| (name.as_bytes(), is_folder));
            assert_eq!(entry(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn only_whole_lines_that_can_be_sent_are_names() {
        let found: Vec<_> = lines(b"a\r\nb\n\r\nc\x1bd\ne\rf\ng").collect();
        assert_eq!(found, [b"a", b"b"]);
        assert_eq!(below(b"sub/", b"a"), b"sub/a");
        assert_eq!(below(b"sub/", b"sub/a"), b"sub/a");
        assert_eq!((as_argument(b"-la"), as_argument(b"a-b")), (b"./-la".to_vec(), b"a-b".to_vec()));
    }
}
