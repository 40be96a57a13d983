//! The names in one folder and what a listing tells of them, packed: some 25 bytes for a file, because one in a
//! large folder is much like the one before it.

use super::pieces::Piece;
use super::slot::Size;
use crate::limits::{LISTING_PIECE, NAME_MAX};
use crate::proto::listing::Kind;
use crate::vfs::Status;

/// A name alone: its status has to be asked for.
const NAME: u8 = 0;
/// A name and the status of a file with one hard link.
const FILE: u8 = 1;

/// Packs records, each as what differs from the one before.
#[derive(Debug, Default)]
pub(super) struct Packer {
    record: Vec<u8>,
    last: Last,
}

/// The record that came before.
#[derive(Debug, Default)]
struct Last {
    name: Vec<u8>,
    modified: u64,
    inode: u64,
    mode: u64,
}

impl Packer {
    /// Packs a name and what is known of it. Only of a file that has no other name, and lies on the folder's own
    /// `device`, is anything remembered: a folder changes with what is in it, a link with what it leads to, and a
    /// file with two names by way of the other one, and none of this is heard of here. `None` for a name
    /// that no file can have; nothing can be packed after it.
    pub(super) fn pack(&mut self, name: &[u8], status: Option<&Status>, device: u64) -> Option<&[u8]> {
        if name.is_empty() || name.len() > NAME_MAX {
            return None;
        }
        let Self { record, last } = self;
        let shared = last.name.iter().zip(name).take_while(|(last, this)| last == this).count();
        let rest = name.get(shared..)?;
        let file = status.filter(|s| s.kind == Kind::File && s.links == 1 && s.device == device);
        record.clear();
        record.push(if file.is_some() { FILE } else { NAME });
        record.extend_from_slice(&[u8::try_from(shared).ok()?, u8::try_from(rest.len()).ok()?]);
        record.extend_from_slice(rest);
        last.name.truncate(shared);
        last.name.extend_from_slice(rest);
        if let Some(status) = file {
            push(record, status.size);
            let modified = status.modified.cast_unsigned();
            for (last, this) in
                [(&mut last.modified, modified), (&mut last.inode, status.inode), (&mut last.mode, status.mode.into())]
            {
                push(record, folded(this.wrapping_sub(*last)));
                *last = this;
            }
        }
        Some(record)
    }
}

/// The records of one folder, in the order in which they came.
#[derive(Debug)]
pub struct Records {
    device: u64,
    /// Each piece with the bytes of it that are used: a record is never in two of them.
    pieces: Vec<(Piece, usize)>,
    count: usize,
}

impl Records {
    /// None yet, of a folder on this device.
    pub(super) fn new(device: u64) -> Self {
        Self { device, pieces: Vec::new(), count: 0 }
    }

    /// How many there are, and the memory that they take.
    pub(super) fn size(&self) -> Size {
        Size { entries: self.count, bytes: self.pieces.len() * LISTING_PIECE }
    }

    /// Adds a packed record; asks for one more piece where it does not fit.
    ///
    /// # Errors
    /// That of `more`: there is none.
    pub(super) fn push<E>(&mut self, record: &[u8], more: impl FnOnce() -> Result<Piece, E>) -> Result<(), E> {
        if self.pieces.last().is_none_or(|(piece, used)| piece.len() - used < record.len()) {
            self.pieces.push((more()?, 0));
        }
        if let Some((piece, used)) = self.pieces.last_mut()
            && let Some(place) = piece.get_mut(*used..*used + record.len())
        {
            place.copy_from_slice(record);
            *used += record.len();
            self.count += 1;
        }
        Ok(())
    }

    /// Gives each name to `take`, with the status that is remembered, if one is.
    ///
    /// # Errors
    /// That of `take`, which ends it.
    pub fn each<E>(&self, mut take: impl FnMut(&[u8], Option<Status>) -> Result<(), E>) -> Result<(), E> {
        let mut last = Last { name: Vec::with_capacity(NAME_MAX), ..Last::default() };
        for (piece, used) in &self.pieces {
            let mut rest = piece.get(..*used).unwrap_or_default();
            while let Some(status) = last.unpack(&mut rest, self.device) {
                take(&last.name, status)?;
            }
        }
        Ok(())
    }
}

impl Last {
    /// Becomes the next record, which is taken off `rest`; gives its status.
    fn unpack(&mut self, rest: &mut &[u8], device: u64) -> Option<Option<Status>> {
        let (&[tag, shared, length], after) = rest.split_first_chunk()?;
        let (name, after) = after.split_at_checked(length.into())?;
        *rest = after;
        self.name.truncate(shared.into());
        self.name.extend_from_slice(name);
        if tag == NAME {
            return Some(None);
        }
        let size = take(rest)?;
        for number in [&mut self.modified, &mut self.inode, &mut self.mode] {
            *number = number.wrapping_add(unfolded(take(rest)?));
        }
        let (modified, mode) = (self.modified.cast_signed(), u32::try_from(self.mode).ok()?);
        Some(Some(Status { kind: Kind::File, mode, size, modified, links: 1, device, inode: self.inode }))
    }
}

/// A small difference as a small number, whatever its sign.
fn folded(difference: u64) -> u64 {
    let signed = difference.cast_signed();
    ((signed << 1) ^ (signed >> 63)).cast_unsigned()
}

fn unfolded(folded: u64) -> u64 {
    (folded >> 1) ^ (folded & 1).wrapping_neg()
}

/// Seven bits in each byte, the lowest first; the eighth says that more follow.
fn push(record: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        record.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return;
        }
    }
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::known::pieces::Pieces;
    use proptest::prelude::*;

    fn file(size: u64, modified: i64, inode: u64, mode: u32) -> Status {
        Status { kind: Kind::File, mode, size, modified, links: 1, device: 7, inode }
    }

    fn records(entries: &[(Vec<u8>, Option<Status>)], bytes: usize) -> Option<Records> {
        let pieces = Pieces::of(bytes);
        let (mut records, mut packer) = (Records::new(7), Packer::default());
        for (name, status) in entries {
            records.push(packer.pack(name, status.as_ref(), 7)?, || pieces.take().ok_or(())).ok()?;
        }
        Some(records)
    }

    fn all(records: &Records) -> Vec<(Vec<u8>, Option<Status>)> {
        let mut all = Vec::new();
        let Ok(()) = records.each(|name, status| {
            all.push((name.to_vec(), status));
            Ok::<_, std::convert::Infallible>(())
        });
        all
    }

    #[test]
    fn nothing_is_remembered_of_what_may_change_unheard() {
        let plain = file(1, 2, 3, 0o644);
        let others = [
            Status { kind: Kind::Folder, ..plain },
            Status { kind: Kind::Link, ..plain },
            Status { kind: Kind::Other, ..plain },
            Status { links: 2, ..plain },
            Status { device: 8, ..plain },
        ];
        for status in others {
            let made = records(&[(b"name".to_vec(), Some(status))], LISTING_PIECE).unwrap();
            assert_eq!(all(&made), [(b"name".to_vec(), None)], "{status:?}");
        }
    }

    #[test]
    fn a_name_that_no_file_can_have_is_refused() {
        assert!(Packer::default().pack(b"", None, 7).is_none());
        assert!(Packer::default().pack(&[b'x'; 256], None, 7).is_none());
        let most = file(u64::MAX, i64::MIN, u64::MAX, u32::MAX);
        assert!(Packer::default().pack(&[b'x'; 255], Some(&most), 7).is_some());
    }

    #[test]
    fn no_more_memory_is_taken_than_there_is() {
        let entries: Vec<_> =
            (0..10_000).map(|n: u32| (format!("file-{n:06}.txt").into_bytes(), Some(file(5, 6, 7, 0o644)))).collect();
        assert!(records(&entries, LISTING_PIECE).is_none());
        let fits = records(&entries, 2 * LISTING_PIECE).unwrap();
        assert_eq!(fits.size(), Size { entries: 10_000, bytes: 2 * LISTING_PIECE });
        assert_eq!(all(&fits), entries);
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out_again(
            entries in prop::collection::vec((
                prop::collection::vec(any::<u8>(), 1..=255),
                prop::option::of((any::<u64>(), any::<i64>(), any::<u64>(), 0_u32..=0o7777)),
            ), 0..600),
        ) {
            let entries: Vec<(Vec<u8>, Option<Status>)> = entries
                .into_iter()
                .map(|(name, status)| (name, status.map(|(size, modified, inode, mode)| file(size, modified, inode, mode))))
                .collect();
            let made = records(&entries, 8 * LISTING_PIECE).unwrap();
            prop_assert_eq!(all(&made), entries);
        }
    }
}
