//! The names of one folder in order, in a buffer of fixed size: all at once, or one bufferful after the other.
//!
//! Never allocates after it was made: names are packed from the front, and where they lie from the back.

use super::{Entries, VfsError};
use crate::limits::NAMES_BUFFER;

/// Bytes that tell where one name lies: its start and its length, as two 16-bit numbers.
const PLACE: usize = 4;

// Every start and every length must fit 16 bits.
const _: () = assert!(NAMES_BUFFER <= 65_536);

/// Room for the names of one folder: [`NAMES_BUFFER`] bytes, some 2,500 names of 15 bytes. One for each
/// worker, allocated once.
#[derive(Debug)]
pub struct NameBuffer {
    bytes: &'static mut [u8],
    used: usize,
    count: usize,
}

/// Whether a [`NameBuffer`] holds what was left of a folder.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// All of it.
    Rest,
    /// As much as it holds; the next one goes on from there.
    Part,
}

impl NameBuffer {
    /// Works in `bytes`, of which no more than [`NAMES_BUFFER`] are used.
    #[must_use]
    pub fn over(bytes: &'static mut [u8]) -> Self {
        let length = bytes.len().min(NAMES_BUFFER);
        let (bytes, _) = bytes.split_at_mut(length);
        Self { bytes, used: 0, count: 0 }
    }

    /// One of its own, for tests.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::over(Box::leak(vec![0; NAMES_BUFFER].into_boxed_slice()))
    }

    /// Takes the next names of a folder for which `keep` says yes, as many as there is room for, and sorts
    /// them. What was in the buffer before is gone.
    ///
    /// # Errors
    /// Those of reading the folder; the buffer is then empty.
    pub fn collect(&mut self, entries: &mut Entries<'_>, keep: impl FnMut(&[u8]) -> bool) -> Result<Fit, VfsError> {
        self.clear();
        let outcome = self.fill(entries, keep);
        match outcome {
            Ok(_) => self.sort(),
            Err(_) => self.clear(),
        }
        outcome
    }

    /// The names collected, in the order of their bytes.
    pub fn sorted(&self) -> impl Iterator<Item = &[u8]> {
        let (names, places) = self.bytes.split_at(self.bytes.len() - self.count * PLACE);
        let (places, _) = places.as_chunks::<PLACE>();
        places.iter().map(|place| name_at(names, *place))
    }

    fn clear(&mut self) {
        self.used = 0;
        self.count = 0;
    }

    fn fill(&mut self, entries: &mut Entries<'_>, mut keep: impl FnMut(&[u8]) -> bool) -> Result<Fit, VfsError> {
        while let Some(name) = entries.next_name()? {
            if keep(name) && self.push(name).is_none() {
                // One that an empty buffer can't hold would come again for ever; no file system has it.
                if self.count == 0 {
                    return Err(VfsError::NameTooLong);
                }
                entries.put_back();
                return Ok(Fit::Part);
            }
        }
        Ok(Fit::Rest)
    }

    /// `None` if there is no room.
    fn push(&mut self, name: &[u8]) -> Option<()> {
        let start = u16::try_from(self.used).ok()?.to_le_bytes();
        let length = u16::try_from(name.len()).ok()?.to_le_bytes();
        let taken = self.count * PLACE;
        let free = self.bytes.len().checked_sub(self.used + taken)?;
        let rest = free.checked_sub(name.len() + PLACE)?;
        let (_, free) = self.bytes.split_at_mut(self.used);
        let (text, free) = free.split_at_mut(name.len());
        let (_, free) = free.split_at_mut(rest);
        text.copy_from_slice(name);
        *free.first_chunk_mut::<PLACE>()? = [start[0], start[1], length[0], length[1]];
        self.used += name.len();
        self.count += 1;
        Some(())
    }

    fn sort(&mut self) {
        let middle = self.bytes.len() - self.count * PLACE;
        let (names, places) = self.bytes.split_at_mut(middle);
        let (places, _) = places.as_chunks_mut::<PLACE>();
        places.sort_unstable_by(|a, b| name_at(names, *a).cmp(name_at(names, *b)));
    }
}

fn name_at(names: &[u8], place: [u8; PLACE]) -> &[u8] {
    let [a, b, c, d] = place;
    let start = usize::from(u16::from_le_bytes([a, b]));
    let length = usize::from(u16::from_le_bytes([c, d]));
    names.get(start..start + length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::ReadBuffer;
    use crate::vfs::tests::{at, roots};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn names_come_in_the_order_of_their_bytes() {
        let served = tempfile::tempdir().unwrap();
        let names: [&[u8]; 7] = [b"b", b"a", b"ab", b"B", b"\xff", b".hidden", b"a\n"];
        for name in names {
            fs::write(served.path().join(OsStr::from_bytes(name)), "").unwrap();
        }
        let folder = roots(served.path())[0].open_folder(&at(b"/")).unwrap();
        let mut buffer = NameBuffer::new();
        let mut read = ReadBuffer::new();
        let fit = buffer.collect(&mut folder.entries(&mut read).unwrap(), |name| !name.starts_with(b".")).unwrap();
        assert_eq!(fit, Fit::Rest);
        let sorted: Vec<&[u8]> = buffer.sorted().collect();
        let expected: [&[u8]; 6] = [b"B", b"a", b"a\n", b"ab", b"b", b"\xff"];
        assert_eq!(sorted, expected);
    }

    #[test]
    fn a_folder_that_does_not_fit_comes_in_parts_of_which_each_is_in_order() {
        let served = tempfile::tempdir().unwrap();
        // A buffer holds 189 names of 255 bytes with their places.
        let all: BTreeSet<Vec<u8>> = (0..500).map(|number| format!("{number:0255}").into_bytes()).collect();
        for name in &all {
            fs::write(served.path().join(OsStr::from_bytes(name)), "").unwrap();
        }
        let folder = roots(served.path())[0].open_folder(&at(b"/")).unwrap();
        let (mut names, mut buffer) = (NameBuffer::new(), ReadBuffer::new());
        let (mut parts, mut seen) = (Vec::new(), BTreeSet::new());
        let mut entries = folder.entries(&mut buffer).unwrap();
        loop {
            let fit = names.collect(&mut entries, |_| true).unwrap();
            let part: Vec<Vec<u8>> = names.sorted().map(<[u8]>::to_vec).collect();
            assert!(part.is_sorted());
            parts.push(part.len());
            seen.extend(part);
            if fit == Fit::Rest {
                break;
            }
        }
        assert_eq!((parts, &seen), (vec![189, 189, 122], &all));

        // A part of it does fit.
        let fit = names.collect(&mut folder.entries(&mut buffer).unwrap(), |name| name.ends_with(b"7"));
        assert_eq!(fit, Ok(Fit::Rest));
        assert_eq!(names.sorted().count(), 50);
    }

    #[test]
    fn the_buffer_fills_to_its_last_byte() {
        let mut buffer = NameBuffer::new();
        let mut left = NAMES_BUFFER;
        while left > 8 {
            assert!(buffer.push(b"name").is_some());
            left -= 8;
        }
        assert!(buffer.push(b"names").is_none());
        assert!(buffer.push(b"last").is_some());
        assert!(buffer.push(b"").is_none());
        assert_eq!(buffer.sorted().count(), NAMES_BUFFER / 8);
        assert_eq!(buffer.sorted().last(), Some(&b"name"[..]));
    }

    proptest! {
        #[test]
        fn every_name_comes_once_and_in_order(
            names in prop::collection::btree_set(prop::collection::vec(1_u8.., 1..40), 0..300),
            order in any::<prop::sample::Index>(),
        ) {
            let mut buffer = NameBuffer::new();
            let mut shuffled: Vec<&Vec<u8>> = names.iter().collect();
            if !shuffled.is_empty() {
                let middle = order.index(shuffled.len());
                shuffled.rotate_left(middle);
            }
            for name in &shuffled {
                prop_assert!(buffer.push(name).is_some());
            }
            buffer.sort();
            let sorted: Vec<Vec<u8>> = buffer.sorted().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(&sorted.iter().cloned().collect::<BTreeSet<_>>(), &names);
            prop_assert_eq!(sorted, names.into_iter().collect::<Vec<_>>());
        }
    }
}
