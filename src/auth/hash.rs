//! Password hashes: argon2id in PHC form, and `$5$` and `$6$` of crypt(3).
//!
//! Owns which hashes are taken, and the memory in which they are computed. Every hash that
//! exists is within the bounds of [`limits`]; comparisons take the same time wherever the difference is. Never
//! sees a name, and never keeps a password.

use std::fmt;
use std::ops::RangeInclusive;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64ct::{Base64ShaCrypt, Base64Unpadded, Encoding};
use ctutils::CtEq;
use sha_crypt::{PasswordHashRef, PasswordVerifier, ShaCrypt, password_hash};

use super::cost::{Cost, OUTPUT_MADE, SALT_MADE};
use crate::limits;

/// Lengths of an argon2 salt and of its hash, in bytes (RFC 9106 §3.1 has no upper ones worth the name).
const SALT_BYTES: RangeInclusive<usize> = 8..=48;
const OUTPUT_BYTES: RangeInclusive<usize> = 16..=64;
/// Bytes of a salt of crypt(3).
const CRYPT_SALT_BYTES: RangeInclusive<usize> = 1..=16;
/// Rounds of crypt(3) where the hash does not tell, and the least that there can be.
const CRYPT_ROUNDS: u32 = 5_000;
const CRYPT_ROUNDS_MIN: u32 = 1_000;

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
    /// A hash that costs just this much and is that of no password.
    #[must_use]
    pub fn decoy(cost: Cost) -> Hash {
        let crypt = |id: char, rounds: u32, salt: usize, digits: usize| {
            Form::Crypt(format!("${id}$rounds={rounds}${}${}", ".".repeat(salt), ".".repeat(digits)).into())
        };
        let form = match cost {
            Cost::Argon2id { salt, output, .. } => {
                Form::Argon2id { salt: vec![0; salt].into(), output: vec![0; output].into() }
            }
            Cost::Sha256 { rounds, salt } => crypt('5', rounds, salt, Digest::Sha256.digits()),
            Cost::Sha512 { rounds, salt } => crypt('6', rounds, salt, Digest::Sha512.digits()),
        };
        Hash { cost, form }
    }

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
        let mut hash = Hash::decoy(Cost::MADE);
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
                match ShaCrypt::default().verify_password(password, hash) {
                    Ok(()) => Ok(true),
                    Err(password_hash::Error::PasswordInvalid) => Ok(false),
                    Err(_) => Err(NotChecked),
                }
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
        let params = Params::new(memory, passes, lanes, Some(output.len())).map_err(|_| NotChecked)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
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

fn base64(what: &str, text: &str, bytes: &RangeInclusive<usize>) -> Result<Box<[u8]>, String> {
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
    format!("{:?}", text.chars().take(20).collect::<String>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hashes and their passwords: of the reference implementation of argon2, of the specification of
    /// SHA-crypt, and of `openssl passwd`.
    const KNOWN: [(&str, &[u8]); 7] = [
        ("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", b"password"),
        ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", b"password"),
        ("$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", b"password"),
        ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", b"Hello world!"),
        (
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H\
             9qs/y3RnOaw5v.",
            b"Hello world!",
        ),
        ("$6$abcd$2xnokga/nDtRjwwaEJ4P2es2v4q8kfckDGncd4naCsE699Y0JnDNWStYgMPa.X.VcIxFM3oLKIRKkAYD33oqG.", b"secret"),
        ("$5$2pL65JSpZSzDnDBo$0QDJcJmKB4zilR1nO3j3fPBnBlZ6Nw/dYnKJtHrC.tA", b"secret"),
    ];

    /// The cheapest there is.
    const CHEAP: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA";

    fn check(hash: &str, password: &[u8]) -> bool {
        Hash::parse(hash).unwrap().check(password, &mut Workspace::default()).unwrap()
    }

    #[test]
    fn the_right_password_and_no_other() {
        for (hash, password) in KNOWN {
            assert!(check(hash, password), "{hash}");
            let mut longer = password.to_vec();
            longer.push(0);
            for wrong in [b"".as_slice(), b"passwore", b"Secret", &longer, &password[1..]] {
                assert!(!check(hash, wrong), "{hash}: {wrong:?}");
            }
        }
    }

    #[test]
    fn what_is_made_is_right_and_written_as_it_is_read() {
        let mut workspace = Workspace::default();
        let hash = Hash::make(b"secret", [7; 16], &mut workspace).unwrap();
        let text = hash.to_string();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$"), "{text}");
        assert_eq!(Hash::parse(&text).as_ref(), Ok(&hash));
        assert_eq!((hash.cost(), hash.cost().memory()), (Cost::MADE, 19 << 20));
        assert!(hash.check(b"secret", &mut workspace).unwrap());
        assert!(!hash.check(b"secreu", &mut workspace).unwrap());
        for (known, _) in KNOWN {
            assert_eq!(Hash::parse(known).unwrap().to_string(), known);
        }
        assert_ne!(Hash::make(b"secret", [8; 16], &mut workspace).unwrap().to_string(), text);
        assert!(!format!("{hash:?}").contains("BwcH"), "{hash:?}");
    }

    #[test]
    fn the_memory_of_a_check_is_kept_for_the_next_and_grows_only_for_a_dearer_one() {
        let mut workspace = Workspace::default();
        let hash = |memory| Hash::parse(&CHEAP.replace("m=8", &format!("m={memory}"))).unwrap();
        for (memory, held) in [(64, 64), (8, 64), (64, 64), (100, 100), (8, 100)] {
            hash(memory).check(b"x", &mut workspace).unwrap();
            assert_eq!(workspace.bytes(), held * 1024);
            assert_eq!(hash(memory).cost().memory(), memory * 1024);
        }
    }

    #[test]
    fn a_check_fits_the_smallest_stack() {
        let stack = usize::try_from(limits::STACK_SIZE_MIN).unwrap();
        let all = || KNOWN.iter().skip(1).filter(|(hash, password)| check(hash, password)).count();
        let thread = std::thread::Builder::new().stack_size(stack).spawn(all).unwrap();
        assert_eq!(thread.join().unwrap(), KNOWN.len() - 1);
    }

    #[test]
    fn a_decoy_costs_the_same_and_is_no_hash() {
        for (hash, password) in KNOWN {
            let cost = Hash::parse(hash).unwrap().cost();
            let decoy = Hash::decoy(cost);
            assert_eq!(decoy.cost(), cost);
            assert_eq!(Hash::parse(&decoy.to_string()).map(|hash| hash.cost()), Ok(cost), "{decoy}");
            assert!(!decoy.check(password, &mut Workspace::default()).unwrap());
        }
    }

    #[test]
    fn what_is_not_taken_is_told_without_the_hash() {
        let sha = |start: &str| format!("{start}${}", ".".repeat(86));
        let argon2 = |from: &str, to: &str| CHEAP.replace(from, to);
        let cases = [
            (String::new(), "the hash is none of $argon2id$, $6$ and $5$"),
            ("secret".to_owned(), "the hash is none of"),
            ("$1$abcdefgh$hAFhYp4bHbxMvJ7GrMSy81".to_owned(), "the hash is none of"),
            ("$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe".to_owned(), "the hash is none of"),
            (argon2("argon2id", "argon2i"), "only the argon2id kind"),
            (argon2("v=19", "v=16"), "argon2 of version 19 is taken, and not \"v=16\""),
            (argon2("v=19$", ""), "an argon2id hash is"),
            (argon2("m=8,t=1", "t=1,m=8"), "an argon2id hash is"),
            (argon2("p=1", "p=1,data=eA"), "an argon2id hash is"),
            (argon2("m=8", "m=08"), "an argon2id hash is"),
            (argon2("m=8", "m=+8"), "an argon2id hash is"),
            (argon2("m=8", "m=4294967296"), "an argon2id hash is"),
            (argon2("m=8", "m=7"), "argon2 with m=7: from 8 to 65536 is taken"),
            (argon2("m=8", "m=65537"), "argon2 with m=65537: from 8 to 65536 is taken"),
            (argon2("t=1", "t=0"), "argon2 with t=0: from 1 to 16 is taken"),
            (argon2("t=1", "t=17"), "argon2 with t=17: from 1 to 16 is taken"),
            (argon2("p=1", "p=5"), "argon2 with p=5: from 1 to 4 is taken"),
            (argon2("p=1", "p=2"), "argon2 with m=8: from 16 to 65536 is taken"),
            (argon2("c29tZXNhbHQ", "c29tZXNh"), "the salt of argon2 is from 8 to 48 bytes in base64"),
            (argon2("c29tZXNhbHQ", "c29tZXNhbHR"), "the salt of argon2 is"),
            (argon2("c29tZXNhbHQ", "c29t ZXNhbH"), "the salt of argon2 is"),
            (argon2("c29tZXNhbHQ", &"A".repeat(1 << 20)), "the salt of argon2 is"),
            (argon2("AAAA", ""), "the hash of argon2 is from 16 to 64 bytes in base64"),
            (CHEAP.to_owned() + "$", "an argon2id hash is"),
            (sha("$6$"), "the salt of a hash of this kind is 1 to 16"),
            (sha("$6$abcdefghijklmnopq"), "the salt of a hash of this kind is 1 to 16"),
            (sha("$6$ab*d"), "the salt of a hash of this kind is 1 to 16"),
            (sha("$6$rounds=999$abcd"), "rounds from 1000 to 1000000 are taken"),
            (sha("$6$rounds=1000001$abcd"), "rounds from 1000 to 1000000 are taken"),
            (sha("$6$rounds=05000$abcd"), "rounds from 1000 to 1000000 are taken"),
            (sha("$6$rounds=$abcd"), "rounds from 1000 to 1000000 are taken"),
            ("$6$rounds=5000".to_owned(), "a hash of this kind is $6$rounds=ROUNDS$SALT$HASH"),
            ("$6$abcd".to_owned(), "a hash of this kind is $6$SALT$HASH"),
            (sha("$6$abcd") + ".", "a hash of this kind ends in 86 characters"),
            (sha("$6$abcd") + "$", "a hash of this kind ends in 86 characters"),
            (sha("$5$abcd"), "a hash of this kind ends in 43 characters"),
            (sha("$6$abcd").replace("...", "..\u{e9}"), "a hash of this kind ends in 86 characters"),
        ];
        for (text, expected) in cases {
            let fault = Hash::parse(&text).unwrap_err();
            assert!(fault.starts_with(expected), "{text:.80}: {fault}");
            assert!(fault.len() < 120 && !fault.contains("...."), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_whatever_is_taken_can_be_checked(
            known in 1..KNOWN.len(),
            cut in any::<prop::sample::Index>(),
            put in "[$,=.vmtp0-9A-Za-z/]{0,3}",
            taken in 0..4_usize,
        ) {
            let text = KNOWN[known].0;
            let cut = cut.index(text.len());
            let rest = text.get(cut + taken..).unwrap_or_default();
            let text = format!("{}{put}{rest}", &text[..cut]);
            if let Ok(hash) = Hash::parse(&text) {
                prop_assert_eq!(hash.to_string(), text.clone());
                let affordable = match hash.cost() {
                    Cost::Argon2id { memory, passes, .. } => memory * passes < 4096,
                    Cost::Sha256 { rounds, .. } | Cost::Sha512 { rounds, .. } => rounds <= 20_000,
                };
                if affordable {
                    prop_assert!(hash.check(b"secret", &mut Workspace::default()).is_ok(), "{}", text);
                }
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,200}", start in "\\$(argon2id|5|6)\\$") {
            let _ = (Hash::parse(&text), Hash::parse(&(start + &text)));
        }
    }
}
