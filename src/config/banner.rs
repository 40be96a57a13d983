//! The text of the greeting (RFC 959 §5.4, reply 220), as typed or in a file.
//!
//! Owns what a banner may hold; never puts a reply code before it.

use std::fs::File;
use std::io::{self, Read};

use super::Fault;
use super::problems::plain;
use crate::limits;

/// Longest line of a banner in bytes: a reply line less its code, the character after it, and CRLF.
const LINE_MAX: usize = limits::REPLY_LINE_MAX - 6;

/// Reads the lines of `--banner`, which is the text itself or `@FILE`.
pub(super) fn lines(value: &str) -> Result<Vec<String>, Fault> {
    let Some(path) = value.strip_prefix('@') else {
        return split(value).map_err(Fault::usage);
    };
    if path.is_empty() {
        return Err(Fault::usage("\"@\" names no file".to_owned()));
    }
    let name = format!("file {path:?}");
    let text = read(path).map_err(|error| Fault::environment(format!("{name}: {}", plain(&error))))?;
    let text = String::from_utf8(text).map_err(|_| Fault::environment(format!("{name}: not UTF-8")))?;
    split(&text).map_err(|error| Fault::environment(format!("{name}: {error}")))
}

/// Reads a file, but no more of it than shows that it is too long.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let (bytes_max, _) = limits::BANNER_MAX;
    let mut text = Vec::new();
    File::open(path)?.take(u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut text)?;
    Ok(text)
}

fn split(text: &str) -> Result<Vec<String>, String> {
    let (bytes_max, lines_max) = limits::BANNER_MAX;
    if text.len() > bytes_max {
        return Err(format!("more than {bytes_max} bytes"));
    }
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.iter().all(String::is_empty) {
        return Err("no text".to_owned());
    }
    if lines.len() > lines_max {
        return Err(format!("{} lines, more than {lines_max}", lines.len()));
    }
    for (number, line) in (1..).zip(&lines) {
        if let Some(control) = line.chars().find(|character| character.is_control()) {
            return Err(format!("line {number} holds the control character {control:?}"));
        }
        if line.len() > LINE_MAX {
            return Err(format!("line {number} has more than {LINE_MAX} bytes"));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn text_becomes_lines() {
        let cases = [
            ("plimsoll ready", &["plimsoll ready"][..]),
            ("one\ntwo", &["one", "two"]),
            ("one\r\n\r\ntwo\r\n", &["one", "", "two"]),
            ("a\\nb", &["a\\nb"]),
            ("Grüße", &["Grüße"]),
        ];
        for (text, expected) in cases {
            assert_eq!(lines(text).unwrap(), expected, "{text:?}");
        }
        let (_, lines_max) = limits::BANNER_MAX;
        assert_eq!(lines(&"x\n".repeat(lines_max)).unwrap().len(), lines_max);
        assert_eq!(lines(&"x".repeat(LINE_MAX)).unwrap().len(), 1);
    }

    #[test]
    fn text_that_no_reply_can_hold() {
        let (bytes_max, lines_max) = limits::BANNER_MAX;
        let full_line = "x".repeat(99) + "\n";
        let cases = [
            (String::new(), "no text".to_owned()),
            ("\n\n".to_owned(), "no text".to_owned()),
            ("@".to_owned(), "\"@\" names no file".to_owned()),
            ("a\tb".to_owned(), "line 1 holds the control character '\\t'".to_owned()),
            ("a\n\u{1b}[2J".to_owned(), "line 2 holds the control character '\\u{1b}'".to_owned()),
            ("a\rb".to_owned(), "line 1 holds the control character '\\r'".to_owned()),
            ("a\u{85}b".to_owned(), "line 1 holds the control character '\\u{85}'".to_owned()),
            ("x\n".repeat(lines_max + 1), "25 lines, more than 24".to_owned()),
            ("x".repeat(LINE_MAX + 1), "line 1 has more than 504 bytes".to_owned()),
            (full_line.repeat(bytes_max / 100 + 1), "more than 2048 bytes".to_owned()),
        ];
        for (text, expected) in cases {
            assert_eq!(lines(&text), Err(Fault::usage(expected)), "{text:?}");
        }
    }

    #[test]
    fn a_file_holds_the_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("banner");
        let value = format!("@{}", path.display());
        fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(lines(&value).unwrap(), ["one", "two"]);

        let fault = |expected: &str| Err(Fault::environment(format!("file {path:?}: {expected}")));
        for (content, expected) in [
            (&b"a\xff"[..], "not UTF-8"),
            (b"", "no text"),
            (b"a\n\x07", "line 2 holds the control character '\\u{7}'"),
            (&[b'x'; 1 << 20], "more than 2048 bytes"),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(lines(&value), fault(expected));
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(lines(&value), fault("no such file or directory"));
        fs::create_dir(&path).unwrap();
        assert_eq!(lines(&value), fault("is a directory"));
    }
}
