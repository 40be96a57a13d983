//! A line of the accounts file: `NAME:HASH` or `NAME:HASH:KEY=VALUE,...`, a comment, or nothing.
//!
//! Pure. Owns the form; what an option means is the account's.

use super::account::{Options, check_name};
use super::hash::Hash;
use crate::limits;

/// What a line holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// Nothing, or what begins with `#`.
    Comment,
    /// An account.
    Account {
        /// Its name.
        name: &'a str,
        /// The hash of its password.
        hash: Hash,
        /// Its options.
        options: Options,
    },
}

/// The lines of a text, without their line feeds. A line feed ends a line, so there is none after the last.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|&byte| byte == b'\n')
}

/// Reads a line.
///
/// # Errors
/// Everything that is wrong with it, at least one text; none of them holds a part of the hash.
pub fn parse(line: &[u8]) -> Result<Line<'_>, Vec<String>> {
    if line.len() > limits::ACCOUNT_LINE_MAX {
        return Err(vec![format!("a line of more than {} bytes", limits::ACCOUNT_LINE_MAX)]);
    }
    if line.first().is_none_or(|&first| first == b'#') || line.iter().all(u8::is_ascii_whitespace) {
        return Ok(Line::Comment);
    }
    if let Some(control) = line.iter().find(|byte| byte.is_ascii_control()) {
        return Err(vec![format!("holds the control character {:?}", char::from(*control))]);
    }
    let mut fields = line.splitn(3, |&byte| byte == b':');
    let (Some(name), Some(hash)) = (fields.next(), fields.next()) else {
        return Err(vec!["an account is NAME:HASH or NAME:HASH:KEY=VALUE,...".to_owned()]);
    };
    let mut faults = Vec::new();
    let name = std::str::from_utf8(name).map_err(|_| "the name is not UTF-8".to_owned());
    let name = name.and_then(|name| check_name(name).map(|()| name)).map_err(|fault| faults.push(fault));
    let hash = std::str::from_utf8(hash).map_err(|_| "the hash is not ASCII".to_owned());
    let hash = hash.and_then(|hash| match hash {
        "" => Err("the hash is empty".to_owned()),
        hash => Hash::parse(hash),
    });
    let hash = hash.map_err(|fault| faults.push(fault));
    let options = match fields.next() {
        None => Ok(Options::default()),
        Some(b"") => Err(vec!["nothing follows the second colon".to_owned()]),
        Some(options) => Options::parse(options),
    };
    match (name, hash, options) {
        (Ok(name), Ok(hash), Ok(options)) => Ok(Line::Account { name, hash, options }),
        (_, _, options) => {
            faults.extend(options.err().unwrap_or_default());
            Err(faults)
        }
    }
}

/// The line of an account, without a line feed.
#[must_use]
pub fn format(name: &str, hash: &Hash, options: &Options) -> Vec<u8> {
    let mut line = format!("{name}:{hash}").into_bytes();
    let options = options.to_bytes();
    if !options.is_empty() {
        line.push(b':');
        line.extend_from_slice(&options);
    }
    line
}
