//! The text of a `.message` file, as lines of the reply to CWD.

use crate::limits::{MESSAGE_MAX, REPLY_LINE_MAX};

/// Most bytes of a line: a reply line less its code, the character after it, and CRLF.
const LINE_MAX: usize = REPLY_LINE_MAX - 6;

/// The lines of a message, which may end with LF or CR LF. Of a message that is longer than [`MESSAGE_MAX`] it is
/// the beginning. Control characters are left out, but a tab is a space; what is not UTF-8 is `?`. Empty lines at
/// the end are left out, so a message without text has no lines.
#[must_use]
pub fn message(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (bytes_max, lines_max) = MESSAGE_MAX;
    let bytes = whole(bytes, bytes_max);
    let mut lines: Vec<Vec<u8>> = bytes.split(|&byte| byte == b'\n').take(lines_max).map(line).collect();
    let end = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    lines.truncate(end);
    lines
}

/// At most so many bytes, without a part of a character at the end where it was cut.
fn whole(bytes: &[u8], most: usize) -> &[u8] {
    let Some(mut kept) = bytes.get(..most).filter(|kept| kept.len() < bytes.len()) else {
        return bytes;
    };
    let goes_on = |byte: Option<&u8>| byte.is_some_and(|byte| byte & 0xC0 == 0x80);
    // A character has four bytes at most; what has more that go on is no text anyway.
    for _ in 0..3 {
        match bytes.get(kept.len()) {
            next if goes_on(next) => kept = kept.split_last().map_or(kept, |(_, rest)| rest),
            _ => break,
        }
    }
    kept
}

fn line(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let shown = match character {
                '\t' => ' ',
                control if control.is_control() => continue,
                plain => plain,
            };
            if out.len() + shown.len_utf8() > LINE_MAX {
                return out;
            }
            out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes());
        }
        if !chunk.invalid().is_empty() && out.len() < LINE_MAX {
            out.push(b'?');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(bytes: &[u8]) -> Vec<String> {
        message(bytes).into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn lines_end_with_lf_or_crlf_and_controls_are_left_out() {
        let cases: [(&[u8], &[&str]); 9] = [
            (b"", &[]),
            (b"\r\n\n\r\n", &[]),
            (b"Welcome", &["Welcome"]),
            (b"one\r\n\r\ntwo\nthree\r\n\n", &["one", "", "two", "three"]),
            (b"a\tb\x1b[2Jc\x07\0", &["a b[2Jc"]),
            ("\u{9b}31m red\u{85}line".as_bytes(), &["31m redline"]),
            (b"\xff\xfe caf\xe9", &["?? caf?"]),
            ("Grüße".as_bytes(), &["Grüße"]),
            (b"  226 forged", &["  226 forged"]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(told(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_long_message_is_its_beginning() {
        let (bytes_max, lines_max) = MESSAGE_MAX;
        assert_eq!(told(&b"x\n".repeat(100)).len(), lines_max);
        let lines = told(&b"x".repeat(10_000));
        assert_eq!(lines, ["x".repeat(LINE_MAX)]);
        let many: usize = told("0123456789\n".repeat(lines_max).as_bytes()).iter().map(|line| line.len() + 1).sum();
        assert_eq!(many, 11 * lines_max);
        // The cut is within the last character, which is left out.
        for (character, left) in [("ü", 1), ("€", 1), ("€", 2), ("𝄞", 1), ("𝄞", 3)] {
            let head = format!("{}\n", "x".repeat(99)).repeat(bytes_max / 100 - 1);
            let text = format!("{head}{}{character}more", "y".repeat(bytes_max - head.len() - left));
            let last = told(text.as_bytes()).pop().unwrap();
            assert_eq!(last, "y".repeat(bytes_max - head.len() - left), "{character}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_few_short_lines_of_text(bytes in prop::collection::vec(any::<u8>(), 0..4000), text: String) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let lines = told(bytes);
                prop_assert!(lines.len() <= MESSAGE_MAX.1);
                for line in &lines {
                    prop_assert!(line.len() <= LINE_MAX && !line.chars().any(char::is_control), "{line:?}");
                }
                prop_assert!(lines.last().is_none_or(|line| !line.is_empty()));
            }
        }
    }
}
