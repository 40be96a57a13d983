//! A fixed amount of memory in pieces of one size, lent and given back.

use crate::limits::LISTING_PIECE;
use parking_lot::Mutex;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// All the pieces there are. Allocated once, for the life of the process; one that was never lent was never
/// touched, and costs nothing.
#[derive(Debug)]
pub(super) struct Pieces {
    free: Mutex<Vec<&'static mut [u8]>>,
    all: usize,
}

/// One piece of [`LISTING_PIECE`] bytes, which goes back by itself.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: &'static mut [u8],
    home: Arc<Pieces>,
}

impl Pieces {
    /// As many as `bytes` are good for.
    pub(super) fn of(bytes: usize) -> Arc<Self> {
        let all = bytes / LISTING_PIECE;
        let memory: &'static mut [u8] = Box::leak(vec![0; all * LISTING_PIECE].into_boxed_slice());
        Arc::new(Self { free: Mutex::new(memory.chunks_exact_mut(LISTING_PIECE).collect()), all })
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.all * LISTING_PIECE
    }

    /// Bytes of those that are lent.
    pub(super) fn lent(&self) -> usize {
        self.bytes() - self.free.lock().len() * LISTING_PIECE
    }

    /// One of them, with anything in it; `None` if all are lent.
    pub(super) fn take(self: &Arc<Self>) -> Option<Piece> {
        let bytes = self.free.lock().pop()?;
        Some(Piece { bytes, home: Arc::clone(self) })
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.free.lock().push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_pieces_than_there_are_and_each_comes_back() {
        let pieces = Pieces::of(3 * LISTING_PIECE + 1);
        assert_eq!((pieces.bytes(), pieces.lent()), (3 * LISTING_PIECE, 0));
        for _ in 0..2 {
            let lent: Vec<Piece> = std::iter::from_fn(|| pieces.take()).collect();
            assert_eq!(lent.iter().map(|piece| piece.len()).collect::<Vec<_>>(), vec![LISTING_PIECE; 3]);
            assert_eq!(pieces.lent(), pieces.bytes());
        }
        assert_eq!(pieces.lent(), 0);
        assert!(Pieces::of(LISTING_PIECE - 1).take().is_none());
    }
}
