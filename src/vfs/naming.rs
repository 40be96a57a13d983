//! Which name a new file gets, and what becomes of what has it.
//!
//! Never replaces a folder, and no file where that was refused, however late the name was taken.

use super::place::{Place, random_digits};
use super::temporary::Temporary;
use super::{Kind, VfsError};
use crate::limits::NAME_MAX;
use crate::proto::pathname::VirtualPath;
use rustix::fs::Mode;
use rustix::io::Errno;

/// Numbers that are tried as the end of a name that something has; after them come random digits, so that
/// whoever has taken all the numbers only makes names ugly.
const NUMBERS_TRIED: u32 = 100;

/// Random ends that are tried.
const RANDOM_TRIED: u32 = 4;

/// What is done where something has the name of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// A file or a link is replaced; a folder never is.
    Replace,
    /// The upload is refused: at its start, and also if the name was taken in the meantime.
    Refuse,
    /// Another name is chosen: `name.1`, `name.2` and so on.
    Rename,
}

/// Looks at what has the name before a byte is sent. Whatever comes later, the commit decides.
pub(super) fn allowed(place: &Place, existing: Existing, mode: Mode) -> Result<Mode, VfsError> {
    let Some(found) = place.status()? else { return Ok(mode) };
    match (existing, found.kind) {
        (Existing::Rename, _) => Ok(mode),
        (_, Kind::Folder) => Err(VfsError::IsFolder),
        (Existing::Refuse, _) => Err(VfsError::Exists),
        (Existing::Replace, Kind::File) => Ok(Mode::from_raw_mode(found.mode & 0o777)),
        (Existing::Replace, Kind::Link) => Ok(mode),
        (Existing::Replace, Kind::Other) => Err(VfsError::NotAFile),
    }
}

/// Gives the file its name, as far as what has it allows that.
pub(super) fn settle(
    temporary: &mut Temporary,
    existing: Existing,
    path: &VirtualPath,
) -> Result<(VirtualPath, u64), VfsError> {
    if existing == Existing::Replace {
        let freed = temporary.replace()?;
        return Ok((path.clone(), freed));
    }
    let mut candidates = Candidates { path, number: 0, may_change: existing == Existing::Rename };
    while let Some(candidate) = candidates.next()? {
        match temporary.put(candidate.file_name().unwrap_or_default()) {
            Ok(()) => return Ok((candidate, 0)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(VfsError::Exists)
}

pub(super) fn not_replacing(existing: Existing) -> Existing {
    if existing == Existing::Replace { Existing::Refuse } else { existing }
}

/// The names that are tried for a file, one after the other.
struct Candidates<'a> {
    path: &'a VirtualPath,
    number: u32,
    may_change: bool,
}

impl Candidates<'_> {
    fn next(&mut self) -> Result<Option<VirtualPath>, VfsError> {
        let number = self.number;
        self.number += 1;
        match number {
            0 => Ok(Some(self.path.clone())),
            _ if !self.may_change => Ok(None),
            number if number <= NUMBERS_TRIED => ended(self.path, format!(".{number}").as_bytes()).map(Some),
            number if number <= NUMBERS_TRIED + RANDOM_TRIED => {
                ended(self.path, &[b".".as_slice(), &random_digits()?].concat()).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// The same name with this end. One that would get too long loses as much before it, whole characters
/// where it is UTF-8.
pub(super) fn ended(path: &VirtualPath, end: &[u8]) -> Result<VirtualPath, VfsError> {
    let name = path.file_name().ok_or(VfsError::BadName)?;
    let room = NAME_MAX.saturating_sub(end.len()).min(name.len());
    let (mut kept, _) = name.split_at(room);
    if let (Ok(text), true) = (str::from_utf8(name), room < name.len()) {
        kept = &name[..text.floor_char_boundary(room)];
    }
    path.parent().join(&[kept, end].concat()).map_err(|_| VfsError::NameTooLong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::tests::{at, writing_roots};
    use crate::vfs::{Committed, Root};
    use std::fs;
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;

    fn put(root: &Root, path: &[u8], content: &[u8]) -> Committed {
        let mut upload = root.upload(&at(path), Existing::Rename, 0o640).unwrap();
        upload.write(content).unwrap();
        upload.commit(false).unwrap()
    }

    #[test]
    fn a_free_name_is_chosen_by_number_and_then_by_chance() {
        for root_number in 0..4 {
            let served = tempfile::tempdir().unwrap();
            let roots = writing_roots(served.path());
            let Some(root) = roots.get(root_number) else { return };
            fs::create_dir(served.path().join("name")).unwrap();
            let mut chosen: Vec<VirtualPath> = Vec::new();
            for number in 0..NUMBERS_TRIED + 2 {
                chosen.push(put(root, b"/name", number.to_string().as_bytes()).path);
            }
            for (number, path) in (0..NUMBERS_TRIED).zip(&chosen) {
                assert_eq!(path, &at(format!("/name.{}", number + 1).as_bytes()));
            }
            let [.., one, other] = &chosen[..] else { panic!("too few") };
            assert_ne!(one, other);
            assert!(one.as_bytes().starts_with(b"/name.") && one.as_bytes().len() == 6 + 16, "{one:?}");
            for (number, path) in chosen.iter().enumerate() {
                let mut content = String::new();
                root.open_file(path).unwrap().file.read_to_string(&mut content).unwrap();
                assert_eq!(content, number.to_string());
            }
        }
    }

    #[test]
    fn a_long_name_loses_whole_characters_to_its_new_end() {
        let served = tempfile::tempdir().unwrap();
        let root = &writing_roots(served.path())[0];
        let umlauts = ["a".as_bytes(), &"ä".as_bytes().repeat(127)].concat();
        let bytes = [0xff; NAME_MAX];
        for (name, kept) in [(umlauts.as_slice(), 253), (&bytes, 253)] {
            put(root, name, b"");
            let second = put(root, name, b"").path;
            let second = second.file_name().unwrap();
            assert_eq!(second, [&name[..kept], b".1"].concat());
            assert!(served.path().join(std::ffi::OsStr::from_bytes(second)).exists());
        }
        let path = at(&umlauts[..253]);
        assert_eq!(ended(&path, b".12").unwrap().file_name().unwrap().len(), 251 + 3);
    }
}
