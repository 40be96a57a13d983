//! Listings: what is to be listed is decided before there is a data connection; then lines are made one
//! by one and written as they come, from what is remembered of the folder or from the folder itself. Memory does
//! not grow with the folder.

use super::answer;
use crate::data::port::DataError;
use crate::proto::glob;
use crate::proto::listing::{Entry, Facts, Kind, LISTING_LINE_MAX, Perm, facts_line, long_line};
use crate::proto::pathname::{VirtualPath, shown};
use crate::proto::reply::Reply;
use crate::session::sink::Sink;
use crate::vfs::{Fit, Folder, KnownFolders, NameBuffer, ReadBuffer, Recalled, Recorder, Root, Status, VfsError};

/// Entries looked at, and perhaps none of them shown, after which the control connection is heard.
const BREATH: u32 = 256;

/// How an entry is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As `ls -l` does.
    Long,
    /// The name alone.
    Names,
    /// As RFC 3659 §7 says.
    Facts(Facts, Perm),
}

/// Which hidden names are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hidden {
    /// None.
    No,
    /// All but `.` and `..`.
    Almost,
    /// All.
    Yes,
}

/// What is to be listed: resolved and opened.
pub(super) struct Listing {
    what: What,
    form: Form,
    hidden: Hidden,
    /// What is written before each name, so that it can be used as it is (NLST, RFC 1123 §4.1.2.7).
    prefix: Vec<u8>,
    now: i64,
}

enum What {
    Folder { folder: Folder, path: VirtualPath, pattern: Option<Vec<u8>> },
    One { status: Status, name: Vec<u8>, path: VirtualPath },
}

impl What {
    /// Finds what `argument` means in `cwd`, and what has to stand before the names in it to lead there
    /// from `cwd`.
    fn find(root: &Root, cwd: &VirtualPath, argument: &[u8]) -> Result<(Self, Vec<u8>), Reply> {
        if argument.is_empty() {
            let folder = open(root, cwd)?;
            return Ok((What::Folder { folder, path: cwd.clone(), pattern: None }, Vec::new()));
        }
        let path = cwd.join(argument).map_err(answer::path)?;
        match root.open_folder(&path) {
            Ok(folder) => {
                let leading = if path == *cwd { Vec::new() } else { with_slash(argument) };
                Ok((What::Folder { folder, path, pattern: None }, leading))
            }
            Err(VfsError::NotAFolder) => {
                let status = root.status(&path).map_err(|error| answer::file(&error))?;
                Ok((What::One { status, name: argument.to_vec(), path }, Vec::new()))
            }
            Err(VfsError::Missing) => Self::matching(root, cwd, argument),
            Err(error) => Err(answer::file(&error)),
        }
    }

    /// The same for what nothing is called: it may be a pattern.
    fn matching(root: &Root, cwd: &VirtualPath, argument: &[u8]) -> Result<(Self, Vec<u8>), Reply> {
        let (parent, pattern) = split_pattern(argument).ok_or_else(|| answer::file(&VfsError::Missing))?;
        let path = if parent.is_empty() { cwd.clone() } else { cwd.join(parent).map_err(answer::path)? };
        let folder = open(root, &path)?;
        Ok((What::Folder { folder, path, pattern: Some(pattern.to_vec()) }, parent.to_vec()))
    }
}

impl Listing {
    /// Finds what `argument` means in `cwd`: a folder, one entry, or a pattern in a folder.
    ///
    /// # Errors
    /// The reply, where there is no such thing.
    pub(super) fn find(
        root: &Root,
        cwd: &VirtualPath,
        argument: &[u8],
        form: Form,
        hidden: Hidden,
        now: i64,
    ) -> Result<Self, Reply> {
        let (what, leading) = What::find(root, cwd, argument)?;
        let prefix = if form == Form::Names { leading } else { Vec::new() };
        Ok(Listing { what, form, hidden, prefix, now })
    }

    /// The listing of a folder and nothing else, for MLSD.
    ///
    /// # Errors
    /// The reply, where it is no folder.
    pub(super) fn of_folder(root: &Root, path: VirtualPath, facts: Facts, perm: Perm) -> Result<Self, Reply> {
        let folder = root.open_folder(&path).map_err(|error| match error {
            VfsError::NotAFolder => Reply::new(501, "MLSD is for folders: that is not a folder."),
            error => answer::file(&error),
        })?;
        let what = What::Folder { folder, path, pattern: None };
        Ok(Listing { what, form: Form::Facts(facts, perm), hidden: Hidden::Almost, prefix: Vec::new(), now: 0 })
    }

    /// The pathname of what is listed.
    pub(super) fn path(&self) -> VirtualPath {
        match &self.what {
            What::Folder { path, .. } | What::One { path, .. } => path.clone(),
        }
    }

    /// Writes the lines.
    ///
    /// # Errors
    /// What ended the sink, or that the folder can't be read on.
    pub(super) fn write(
        &self,
        (root, known): (&Root, &KnownFolders),
        names: &mut NameBuffer,
        read: &mut ReadBuffer,
        sink: &mut dyn Sink,
    ) -> Result<(), DataError> {
        let mut line = Vec::with_capacity(LISTING_LINE_MAX);
        let (folder, path, pattern) = match &self.what {
            What::One { status, name, .. } => {
                self.format(&mut line, name, status, None);
                return sink.line(&line);
            }
            What::Folder { folder, path, pattern } => (folder, path, pattern.as_deref()),
        };
        if self.hidden == Hidden::Yes && self.form == Form::Long && pattern.is_none() {
            self.write_dots(root, folder, path, &mut line, sink)?;
        }
        let target = [0; crate::limits::PATH_MAX];
        let mut emitter = Emitter { listing: self, root, folder, path, pattern, line, target, seen: 0, sink };
        // Of a listing of some names, or without their status, nothing is learnt that is worth to be remembered.
        let whole = pattern.is_none() && self.form != Form::Names;
        match known.recall(folder, whole) {
            Recalled::Known(records) => records.each(|name, status| emitter.emit(name, status).map(drop)),
            Recalled::Unknown(recorder) => emitter.read(names, read, recorder),
        }
    }

    fn write_dots(
        &self,
        root: &Root,
        folder: &Folder,
        path: &VirtualPath,
        line: &mut Vec<u8>,
        sink: &mut dyn Sink,
    ) -> Result<(), DataError> {
        let parent = root.status(&path.parent());
        for (name, status) in [(b".".as_slice(), folder.status(b".")), (b"..", parent)] {
            if let Ok(status) = status {
                self.format(line, name, &status, None);
                sink.line(line)?;
            }
        }
        Ok(())
    }

    fn format(&self, line: &mut Vec<u8>, name: &[u8], status: &Status, target: Option<&[u8]>) {
        line.clear();
        match self.form {
            Form::Names => {
                shown(&self.prefix, line);
                shown(name, line);
            }
            Form::Long => long_line(line, &entry(name, status, target), self.now),
            Form::Facts(facts, perm) => facts_line(line, &entry(name, status, target), facts, perm, name),
        }
    }
}

/// Makes the lines of one folder.
struct Emitter<'a> {
    listing: &'a Listing,
    root: &'a Root,
    folder: &'a Folder,
    path: &'a VirtualPath,
    pattern: Option<&'a [u8]>,
    line: Vec<u8>,
    target: [u8; crate::limits::PATH_MAX],
    seen: u32,
    sink: &'a mut dyn Sink,
}

impl Emitter<'_> {
    /// All entries from the folder itself, in runs of as many as fit the buffer of names.
    fn read(
        &mut self,
        names: &mut NameBuffer,
        read: &mut ReadBuffer,
        mut recorder: Recorder<'_>,
    ) -> Result<(), DataError> {
        let mut entries = self.folder.entries(read).map_err(|_| DataError::Local)?;
        loop {
            // Reading the names of a large folder takes time as well, in which the client is to be heard.
            let mut stopped = None;
            let fit = names.collect(&mut entries, |name| {
                if stopped.is_none() {
                    stopped = self.breathe().err();
                }
                stopped.is_none() && (recorder.wants_all() || self.shows(name))
            });
            if let Some(error) = stopped {
                return Err(error);
            }
            let fit = fit.map_err(|_| DataError::Local)?;
            for name in names.sorted() {
                let status = self.emit(name, None)?;
                recorder.note(name, status.as_ref());
            }
            if fit == Fit::Rest {
                break;
            }
        }
        recorder.finish(self.folder);
        Ok(())
    }

    /// Whether the listing has this name in it.
    fn shows(&self, name: &[u8]) -> bool {
        match self.pattern {
            Some(pattern) => glob::matches(pattern, name),
            None => self.listing.hidden != Hidden::No || !name.starts_with(b"."),
        }
    }

    /// One entry, if it is shown; one that is gone meanwhile is passed over. Returns its status where that was
    /// asked for.
    fn emit(&mut self, name: &[u8], known: Option<Status>) -> Result<Option<Status>, DataError> {
        self.breathe()?;
        if !self.shows(name) {
            return Ok(None);
        }
        if self.listing.form == Form::Names {
            self.line.clear();
            shown(&self.listing.prefix, &mut self.line);
            shown(name, &mut self.line);
            return self.sink.line(&self.line).map(|()| None);
        }
        let Some(found) = known.or_else(|| self.folder.status(name).ok()) else {
            return Ok(None);
        };
        let mut status = found;
        let mut target = None;
        if status.kind == Kind::Link {
            match self.listing.form {
                Form::Facts(..) => status = self.behind(name, status),
                Form::Long | Form::Names => target = self.folder.read_link(name, &mut self.target).ok(),
            }
        }
        self.listing.format(&mut self.line, name, &status, target);
        self.sink.line(&self.line)?;
        Ok(Some(found))
    }

    /// For programs, a link to a file is that file; a link to a folder stays a link, because basic-ftp
    /// would go into it and delete.
    fn behind(&self, name: &[u8], link: Status) -> Status {
        match self.root.follow(self.path, name) {
            Ok(Some(status)) if status.kind == Kind::File => status,
            _ => link,
        }
    }

    fn breathe(&mut self) -> Result<(), DataError> {
        self.seen = self.seen.wrapping_add(1);
        if self.seen.is_multiple_of(BREATH) { self.sink.breathe() } else { Ok(()) }
    }
}

/// The entry that a status and a name make.
pub(super) fn entry<'a>(name: &'a [u8], status: &Status, target: Option<&'a [u8]>) -> Entry<'a> {
    Entry {
        name,
        kind: status.kind,
        mode: status.mode,
        size: status.size,
        modified: status.modified,
        links: status.links.into(),
        device: status.device,
        inode: status.inode,
        target,
    }
}

fn open(root: &Root, path: &VirtualPath) -> Result<Folder, Reply> {
    root.open_folder(path).map_err(|error| answer::file(&error))
}

fn with_slash(argument: &[u8]) -> Vec<u8> {
    let mut prefix = argument.to_vec();
    if !prefix.ends_with(b"/") {
        prefix.push(b'/');
    }
    prefix
}

/// The folder and the pattern of an argument whose last element is one.
fn split_pattern(argument: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = argument.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
    let (parent, pattern) = argument.split_at(start);
    glob::is_pattern(pattern).then_some((parent, pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_element_is_a_pattern() {
        assert_eq!(split_pattern(b"*.txt"), Some((b"".as_slice(), b"*.txt".as_slice())));
        assert_eq!(split_pattern(b"/a b/x?"), Some((b"/a b/".as_slice(), b"x?".as_slice())));
        assert_eq!(split_pattern(b"*/plain"), None);
        assert_eq!(split_pattern(b"plain"), None);
    }
}
