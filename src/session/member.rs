//! Who is logged in, and what that gives: rights, a root, a rate, and room.

use crate::auth::UserId;
use crate::data::pace::Pace;
use crate::policy::Rights;
use crate::vfs::{Reservation, Usage};
use std::sync::Arc;
use std::time::Duration;

/// One who is logged in. Only as long as `L` lives does the session count for the user.
pub(super) struct Member<L> {
    pub(super) user: UserId,
    pub(super) rights: Rights,
    /// The rate, where there is one; all sessions of an account share it.
    pub(super) pace: Option<Arc<Pace>>,
    /// The bytes that may be in use, where that is limited.
    pub(super) room: Option<Room>,
    /// The account's own idle timeout.
    pub(super) idle: Option<Duration>,
    /// What holds for what is dropped into the drop-box.
    pub(super) drop_box: Option<Drops>,
    pub(super) _login: L,
}

/// Bytes in use below a root, and how many there may be.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) usage: Arc<Usage>,
    /// `None`: they are counted for others who share the root.
    pub(super) limit: Option<u64>,
}

impl Room {
    /// Reserves so many bytes, if that is within the limit.
    pub(super) fn reserve(&self, bytes: u64) -> Option<Reservation> {
        self.usage.reserve(bytes, self.limit.unwrap_or(u64::MAX))
    }

    /// Whether there is room for so many bytes now.
    pub(super) fn has(&self, bytes: u64) -> bool {
        self.limit.is_none_or(|limit| self.usage.used().saturating_add(bytes) <= limit)
    }
}

/// Rules for files in the drop-box.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drops {
    pub(super) mode: u32,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) max_file: Option<u64>,
}
