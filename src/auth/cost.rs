//! What it costs to check a password hash.
//!
//! Pure. Two hashes of one cost are told apart by no clock, so nothing is left out on which the work depends.

use crate::limits;

/// Bytes of the salt and of the hash that are made here (RFC 9106 §4).
pub(super) const SALT_MADE: usize = 16;
pub(super) const OUTPUT_MADE: usize = 32;
/// What a hash other than argon2 needs for a moment, in bytes: it works on the stack.
const CRYPT_MEMORY: usize = 4 * 1024;

/// All that the work of a check depends on, besides the password. Two hashes of one cost are told apart by no
/// clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// Memory in KiB, passes, lanes, bytes of the salt and of the hash.
    Argon2id {
        /// KiB.
        memory: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
        /// Bytes.
        salt: usize,
        /// Bytes.
        output: usize,
    },
    /// `$5$`, by rounds and bytes of the salt.
    Sha256 {
        /// Rounds.
        rounds: u32,
        /// Bytes.
        salt: usize,
    },
    /// `$6$`, likewise.
    Sha512 {
        /// Rounds.
        rounds: u32,
        /// Bytes.
        salt: usize,
    },
}

impl Cost {
    /// The cost of what [`Hash::make`](super::Hash::make) makes.
    pub const MADE: Cost = Cost::Argon2id {
        memory: limits::ARGON2_MEMORY,
        passes: limits::ARGON2_PASSES,
        lanes: limits::ARGON2_LANES,
        salt: SALT_MADE,
        output: OUTPUT_MADE,
    };

    /// Bytes of memory that one check takes.
    #[must_use]
    pub fn memory(self) -> usize {
        match self {
            Cost::Argon2id { memory, .. } => usize::try_from(memory).unwrap_or(usize::MAX).saturating_mul(1024),
            Cost::Sha256 { .. } | Cost::Sha512 { .. } => CRYPT_MEMORY,
        }
    }

    /// The name of the algorithm, as people know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Cost::Argon2id { .. } => "argon2id",
            Cost::Sha256 { .. } => "sha256-crypt",
            Cost::Sha512 { .. } => "sha512-crypt",
        }
    }
}
