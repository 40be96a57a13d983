//! Password hashes: argon2id in PHC form, and `$5$` and `$6$` of crypt(3).
//!
//! Owns which hashes are taken, what each costs, and the memory in which they are computed. Every hash that
//! exists is within the bounds of [`limits`]; comparisons take the same time wherever the difference is. Never
//! sees a name, and never keeps a password.

use std::fmt::{self, Write as _};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64ct::{Base64ShaCrypt, Base64Unpadded, Encoding};
use ctutils::CtEq;
use sha_crypt::{PasswordHashRef, PasswordVerifier, ShaCrypt};

use crate::limits;

/// Lengths of an argon2 salt and of its hash, in bytes (RFC 9106 §3.1 has no upper ones worth the name).
const SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=48;
const OUTPUT_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// Lengths of those that are made here (RFC 9106 §4).
const SALT_MADE: usize = 16;
const OUTPUT_MADE: usize = 32;
/// Bytes of a salt of crypt(3).
const CRYPT_SALT_BYTES: std::ops::RangeInclusive<usize> = 1..=16;
/// Rounds of crypt(3) where the hash does not tell, and the least that there can be.
const CRYPT_ROUNDS: u32 = 5_000;
const CRYPT_ROUNDS_MIN: u32 = 1_000;
/// What a hash other than argon2 needs for a moment, in bytes: it works on the stack.
const CRYPT_MEMORY: usize = 4 * 1024;

/// A password hash that can be checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    cost: Cost,
    form: Form,
}

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Argon2id {
        salt: Box<[u8]>,
        output: Box<[u8]>,
    },
    /// As it stands in the file.
    Crypt(Box<str>),
}

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
    /// The cost of what [`Hash::make`] makes.
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

    /// A hash that costs just this much and is that of no password.
    #[must_use]
    pub fn decoy(self) -> Hash {
        let crypt = |id: char, rounds: u32, salt: usize, digits: usize| {
            Form::Crypt(format!("${id}$rounds={rounds}${}${}", ".".repeat(salt), ".".repeat(digits)).into())
        };
        let form = match self {
            Cost::Argon2id { salt, output, .. } => {
                Form::Argon2id { salt: vec![0; salt].into(), output: vec![0; output].into() }
            }
            Cost::Sha256 { rounds, salt } => crypt('5', rounds, salt, Digest::Sha256.digits()),
            Cost::Sha512 { rounds, salt } => crypt('6', rounds, salt, Digest::Sha512.digits()),
        };
        Hash { cost: self, form }
    }

    /// argon2, set to this cost.
    fn argon2(memory: u32, passes: u32, lanes: u32, output: usize) -> Result<Argon2<'static>, NotChecked> {
        let params = Params::new(memory, passes, lanes, Some(output)).map_err(|_| NotChecked)?;
        Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
    }
}

/// The two digests of crypt(3).
#[derive(Debug, Clone, Copy)]
enum Digest {
    Sha256,
    Sha512,
}

impl Digest {
    fn digits(self) -> usize {
        match self {
            Digest::Sha256 => 43,
            Digest::Sha512 => 86,
        }
    }
}

/// There was no memory for a check, so nothing is known of the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotChecked;

/// The memory in which hashes are computed, kept from one check to the next: an allocation of this size that
/// comes and goes in every thread would stay with each of them.
#[derive(Default)]
pub struct Workspace(Vec<Block>);

impl Workspace {
    /// Room for this many blocks; none where the system has no memory.
    fn blocks(&mut self, count: usize) -> Option<&mut [Block]> {
        if self.0.len() < count {
            // The old ones are given back first.
            self.0 = Vec::new();
            self.0.try_reserve_exact(count).ok()?;
            self.0.resize_with(count, Block::default);
        }
        self.0.get_mut(..count)
    }

    /// Bytes that are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.capacity() * Block::SIZE
    }
}

impl fmt::Debug for Workspace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Workspace({} bytes)", self.bytes())
    }
}

impl Hash {
    /// Reads a hash as it stands in a file.
    ///
    /// # Errors
    /// What is wrong with it, without the hash.
    pub fn parse(text: &str) -> Result<Hash, String> {
        match text.strip_prefix('$').and_then(|rest| rest.split_once('$')) {
            Some(("argon2id", rest)) => argon2id(rest),
            Some(("5", rest)) => crypt(text, rest, Digest::Sha256),
            Some(("6", rest)) => crypt(text, rest, Digest::Sha512),
            Some(("argon2i" | "argon2d", _)) => Err("only the argon2id kind of argon2 is taken".to_owned()),
            _ => Err("the hash is none of $argon2id$, $6$ and $5$".to_owned()),
        }
    }

    /// The hash of a password, argon2id with a salt that nobody has had.
    ///
    /// # Errors
    /// [`NotChecked`] where the system has no memory for it.
    pub fn make(password: &[u8], salt: [u8; SALT_MADE], workspace: &mut Workspace) -> Result<Hash, NotChecked> {
        let mut hash = Cost::MADE.decoy();
        let mut output = [0; OUTPUT_MADE];
        hash.compute(password, &salt, &mut output, workspace)?;
        hash.form = Form::Argon2id { salt: salt.into(), output: output.into() };
        Ok(hash)
    }

    /// What a check of it costs.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether it is that of this password.
    ///
    /// # Errors
    /// [`NotChecked`] where the system has no memory for it.
    pub fn check(&self, password: &[u8], workspace: &mut Workspace) -> Result<bool, NotChecked> {
        match &self.form {
            Form::Argon2id { salt, output } => {
                let mut computed = [0; *OUTPUT_BYTES.end()];
                let computed = computed.get_mut(..output.len()).ok_or(NotChecked)?;
                self.compute(password, salt, computed, workspace)?;
                Ok(output.as_ref().ct_eq(computed).to_bool())
            }
            Form::Crypt(text) => {
                let hash = PasswordHashRef::new(text).map_err(|_| NotChecked)?;
                Ok(ShaCrypt::default().verify_password(password, hash).is_ok())
            }
        }
    }

    fn compute(
        &self,
        password: &[u8],
        salt: &[u8],
        output: &mut [u8],
        workspace: &mut Workspace,
    ) -> Result<(), NotChecked> {
        let Cost::Argon2id { memory, passes, lanes, .. } = self.cost else {
            return Err(NotChecked);
        };
        let argon2 = Cost::argon2(memory, passes, lanes, output.len())?;
        let blocks = workspace.blocks(argon2.params().block_count()).ok_or(NotChecked)?;
        argon2.hash_password_into_with_memory(password, salt, output, blocks).map_err(|_| NotChecked)
    }
}

/// As it stands in a file.
impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.form, self.cost) {
            (Form::Argon2id { salt, output }, Cost::Argon2id { memory, passes, lanes, .. }) => {
                let (salt, output) = (Base64Unpadded::encode_string(salt), Base64Unpadded::encode_string(output));
                write!(formatter, "$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${output}")
            }
            (Form::Crypt(text), _) => formatter.write_str(text),
            (Form::Argon2id { .. }, _) => Err(fmt::Error),
        }
    }
}

/// No hash comes into a log by accident.
impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hash").field("cost", &self.cost).finish_non_exhaustive()
    }
}

/// What follows `$argon2id$`: version, parameters, salt and hash.
fn argon2id(text: &str) -> Result<Hash, String> {
    const SHAPE: &str = "an argon2id hash is $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH";
    let fields: Vec<&str> = text.splitn(5, '$').collect();
    let [version, params, salt, output] = fields[..] else {
        return Err(SHAPE.to_owned());
    };
    if version != "v=19" {
        return Err(format!("argon2 of version 19 is taken, and not {}", shown(version)));
    }
    let mut values = params.splitn(4, ',').zip(["m=", "t=", "p="]).map(|(field, key)| number(field.strip_prefix(key)?));
    let (Some(Some(memory)), Some(Some(passes)), Some(Some(lanes)), 3) =
        (values.next(), values.next(), values.next(), params.splitn(4, ',').count())
    else {
        return Err(SHAPE.to_owned());
    };
    let memory_max = limits::ARGON2_MEMORY_MAX;
    if !(1..=limits::ARGON2_LANES_MAX).contains(&lanes) {
        return Err(format!("argon2 with p={lanes}: from 1 to {} is taken", limits::ARGON2_LANES_MAX));
    }
    if !(1..=limits::ARGON2_PASSES_MAX).contains(&passes) {
        return Err(format!("argon2 with t={passes}: from 1 to {} is taken", limits::ARGON2_PASSES_MAX));
    }
    if !(8 * lanes..=memory_max).contains(&memory) {
        return Err(format!("argon2 with m={memory}: from {} to {memory_max} is taken", 8 * lanes));
    }
    let salt = base64("salt", salt, &SALT_BYTES)?;
    let output = base64("hash", output, &OUTPUT_BYTES)?;
    let cost = Cost::Argon2id { memory, passes, lanes, salt: salt.len(), output: output.len() };
    Ok(Hash { cost, form: Form::Argon2id { salt, output } })
}

fn base64(what: &str, text: &str, bytes: &std::ops::RangeInclusive<usize>) -> Result<Box<[u8]>, String> {
    let fault = || format!("the {what} of argon2 is from {} to {} bytes in base64", bytes.start(), bytes.end());
    // Four digits for three bytes.
    if text.len() > bytes.end().div_ceil(3) * 4 {
        return Err(fault());
    }
    let decoded = Base64Unpadded::decode_vec(text).map_err(|_| fault())?;
    if bytes.contains(&decoded.len()) { Ok(decoded.into()) } else { Err(fault()) }
}

/// What follows `$5$` or `$6$`: rounds, where they are told, salt and hash.
fn crypt(text: &str, rest: &str, digest: Digest) -> Result<Hash, String> {
    let id = if matches!(digest, Digest::Sha256) { 5 } else { 6 };
    let (rounds, rest) = match rest.strip_prefix("rounds=").map(|rest| rest.split_once('$')) {
        None => (CRYPT_ROUNDS, rest),
        Some(Some((rounds, rest))) => {
            let bounds = CRYPT_ROUNDS_MIN..=limits::CRYPT_ROUNDS_MAX;
            let rounds = number(rounds).filter(|rounds| bounds.contains(rounds));
            (rounds.ok_or_else(|| format!("rounds from {} to {} are taken", bounds.start(), bounds.end()))?, rest)
        }
        Some(None) => return Err(format!("a hash of this kind is ${id}$rounds=ROUNDS$SALT$HASH")),
    };
    let Some((salt, output)) = rest.split_once('$') else {
        return Err(format!("a hash of this kind is ${id}$SALT$HASH"));
    };
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    if !CRYPT_SALT_BYTES.contains(&salt.len()) || !salt.bytes().all(is_digit) {
        let (least, most) = (CRYPT_SALT_BYTES.start(), CRYPT_SALT_BYTES.end());
        return Err(format!("the salt of a hash of this kind is {least} to {most} characters of ./0-9A-Za-z"));
    }
    let digits = digest.digits();
    if output.len() != digits || Base64ShaCrypt::decode_vec(output).is_err() {
        return Err(format!("a hash of this kind ends in {digits} characters of ./0-9A-Za-z"));
    }
    let cost = match digest {
        Digest::Sha256 => Cost::Sha256 { rounds, salt: salt.len() },
        Digest::Sha512 => Cost::Sha512 { rounds, salt: salt.len() },
    };
    Ok(Hash { cost, form: Form::Crypt(text.into()) })
}

/// A decimal number in its shortest form.
fn number(text: &str) -> Option<u32> {
    let shortest = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if shortest { text.parse().ok() } else { None }
}

/// A few characters of what was found.
fn shown(text: &str) -> String {
    let mut out = String::new();
    let few = text.char_indices().nth(20).map_or(text, |(end, _)| text.get(..end).unwrap_or(text));
    let _ = write!(out, "{few:?}");
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The password of each is `secret`; made by openssl, by the specification of SHA-crypt, and by argon2(1).
    pub(crate) const SHA512: &str =
        "$6$abcd$2xnokga/nDtRjwwaEJ4P2es2v4q8kfckDGncd4naCsE699Y0JnDNWStYgMPa.X.VcIxFM3oLKIRKkAYD33oqG.";
    const SHA256: &str = "$5$2pL65JSpZSzDnDBo$0QDJcJmKB4zilR1nO3j3fPBnBlZ6Nw/dYnKJtHrC.tA";

    fn check(hash: &str, password: &[u8]) -> bool {
        Hash::parse(hash).unwrap().check(password, &mut Workspace::default()).unwrap()
    }

    #[test]
    fn the_right_password_and_no_other() {
        for hash in [SHA512, SHA256] {
            assert!(check(hash, b"secret"), "{hash}");
            for wrong in [&b""[..], b"Secret", b"secret ", b"secret\0", b"secre"] {
                assert!(!check(hash, wrong), "{hash}: {wrong:?}");
            }
        }
    }
}
