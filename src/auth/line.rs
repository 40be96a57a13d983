//! A line of the accounts file: `NAME:HASH` or `NAME:HASH:KEY=VALUE,...`, a comment, or nothing.
//!
//! Pure. Owns the form; what an option means is the account's.

use super::account::check_name;
use super::hash::Hash;
use super::options::Options;
use crate::limits;

/// What a line says of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its name.
    pub name: &'a str,
    /// The hash of its password.
    pub hash: Hash,
    /// Its options.
    pub options: Options,
}

/// The lines of a text, without their line feeds. A line feed ends a line, so there is none after the last.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|&byte| byte == b'\n')
}

/// Reads a line; `None` where it is blank or a comment.
///
/// # Errors
/// Everything that is wrong with it, at least one text; none of them holds a part of the hash.
pub fn parse(line: &[u8]) -> Result<Option<Line<'_>>, Vec<String>> {
    if line.len() > limits::ACCOUNT_LINE_MAX {
        return Err(vec![format!("a line of more than {} bytes", limits::ACCOUNT_LINE_MAX)]);
    }
    if line.first().is_none_or(|&first| first == b'#') || line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
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
        (Ok(name), Ok(hash), Ok(options)) => Ok(Some(Line { name, hash, options })),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA";

    fn with(rest: &str) -> Vec<u8> {
        format!("alice:{HASH}{rest}").into_bytes()
    }

    #[test]
    fn a_line_is_an_account_or_nothing() {
        for line in ["", "  ", "\t", "#", "# alice:x", "#\u{7}\u{e9}"] {
            assert_eq!(parse(line.as_bytes()), Ok(None), "{line:?}");
        }
        for rest in ["", ":write=all", ":root=/a:b,from=2001:db8::/32"] {
            let line = with(rest);
            let Ok(Some(Line { name, hash, options })) = parse(&line) else { panic!("{rest}") };
            assert_eq!((name, hash.to_string().as_str()), ("alice", HASH));
            assert_eq!(format(name, &hash, &options), line);
        }
    }

    #[test]
    fn what_is_malformed_is_told_and_never_the_hash() {
        let cases: [(Vec<u8>, &[&str]); 13] = [
            (b"alice".to_vec(), &["an account is NAME:HASH or"]),
            (b" # comment".to_vec(), &["an account is NAME:HASH or"]),
            (b":".to_vec(), &["the name is empty", "the hash is empty"]),
            (format!(":{HASH}").into_bytes(), &["the name is empty"]),
            (b"alice:".to_vec(), &["the hash is empty"]),
            (b"alice::write=all".to_vec(), &["the hash is empty"]),
            (b"alice:sesame".to_vec(), &["the hash is none of"]),
            (b"alice:\xff".to_vec(), &["the hash is not ASCII"]),
            (
                b"al\xffice:sesame:x".to_vec(),
                &["the name is not UTF-8", "the hash is none of", "\"x\" is not key=value"],
            ),
            (with(":"), &["nothing follows the second colon"]),
            (with("\r"), &["holds the control character '\\r'"]),
            (with(":root=/a\0b"), &["holds the control character '\\0'"]),
            (with(&format!(":root=/{}", "x".repeat(limits::ACCOUNT_LINE_MAX))), &["a line of more than 12288 bytes"]),
        ];
        for (line, expected) in cases {
            let faults = parse(&line).unwrap_err();
            assert_eq!(faults.len(), expected.len(), "{faults:?}");
            for (fault, expected) in faults.iter().zip(expected) {
                assert!(fault.starts_with(expected), "{fault:?} should begin with {expected:?}");
                assert!(!fault.contains("sesame"), "{fault}");
            }
        }
    }

    #[test]
    fn the_longest_path_fits_a_line() {
        let path = format!("/{}", ",".repeat(limits::PATH_MAX - 2));
        let mut options = Options::default();
        options.set("root", path.as_bytes()).unwrap();
        let hash = Hash::parse(HASH).unwrap();
        let line = format(&"x".repeat(limits::ACCOUNT_NAME_MAX), &hash, &options);
        assert!(parse(&line).is_ok());
    }

    #[test]
    fn lines_end_with_a_line_feed() {
        let of = |text: &'static str| lines(text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(of("a\nb"), [b"a", b"b"]);
        assert_eq!(of("a\nb\n"), [b"a", b"b"]);
        assert_eq!(of("a\n\n"), [b"a".as_slice(), b""]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let mut line = with(":");
            line.extend_from_slice(&bytes);
            let _ = parse(&line);
        }

        #[test]
        fn what_is_taken_reads_back_as_written(name in "[^:\\s#\\x00-\\x1f\\x7f]{1,16}", root in "/[a-z,:\\\\é]{0,9}") {
            let mut options = Options::default();
            options.set("root", root.as_bytes()).unwrap();
            let hash = Hash::parse(HASH).unwrap();
            let line = format(&name, &hash, &options);
            match parse(&line) {
                Ok(read) => prop_assert_eq!(read, Some(Line { name: &name, hash, options })),
                Err(faults) => prop_assert!(check_name(&name).is_err(), "{:?}", faults),
            }
        }
    }
}
