//! The transfer log: a line for each transfer in the form of wu-ftpd's xferlog(5), which vsftpd and ProFTPD
//! write as well.
//!
//! Owns that form; fields are separated by single spaces, so none may hold one: every byte of a name other
//! than the printable ones of ASCII, and the space and the percent sign, is `%XX` as in a URL. The originals
//! write `_` instead, which cannot be undone.

use super::event::{ANONYMOUS, Direction, Event, Kind, Moment, cut};
use crate::proto::date::write_asctime;
use std::io::Write;

/// Appends the line of a transfer without its end; other events have none.
pub(super) fn write(out: &mut Vec<u8>, event: &Event<'_>, at: Moment) {
    let Event::Transfer { peer, user, path, direction, kind, bytes, took, broken } = *event else {
        return;
    };
    write_asctime(out, at.seconds);
    // Whole seconds; those who divide by them must not meet a zero.
    let seconds = (took.as_millis().saturating_add(500) / 1000).max(1);
    let _ = write!(out, " {seconds} {} {bytes} ", peer.ip().to_canonical());
    name(out, path);
    let anonymous = user == ANONYMOUS;
    for letter in [
        if kind == Kind::Ascii { b'a' } else { b'b' },
        b'_',
        if direction == Direction::In { b'i' } else { b'o' },
        if anonymous { b'a' } else { b'r' },
    ] {
        out.extend_from_slice(&[b' ', letter]);
    }
    out.push(b' ');
    name(out, user);
    out.extend_from_slice(b" ftp 0 * ");
    out.push(if broken.is_none() { b'c' } else { b'i' });
}

/// Appends a line, without its end, that tells how many lines are missing.
pub(super) fn write_dropped(out: &mut Vec<u8>, lines: u64, at: Moment) {
    out.extend_from_slice(b"# ");
    write_asctime(out, at.seconds);
    let _ = write!(out, " {lines} lines dropped");
}

/// Appends a field. An empty one is a dash, so that the fields after it stay where they are.
fn name(out: &mut Vec<u8>, field: &[u8]) {
    if field.is_empty() {
        out.push(b'-');
    }
    for &byte in cut(field) {
        match byte {
            b'%' | 0..=b' ' | 0x7F.. => {
                let _ = write!(out, "%{byte:02X}");
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const AT: Moment = Moment { seconds: 1_094_766_255, millis: 0 };

    fn line(event: &Event<'_>) -> String {
        let mut out = Vec::new();
        write(&mut out, event, AT);
        String::from_utf8(out).unwrap()
    }

    fn transfer<'a>(user: &'a [u8], path: &'a [u8]) -> Event<'a> {
        Event::Transfer {
            peer: "[::ffff:192.0.2.7]:4000".parse().unwrap(),
            user,
            path,
            direction: Direction::In,
            kind: Kind::Ascii,
            bytes: 5_000_000_000,
            took: Duration::from_millis(61_500),
            broken: Some("stalled"),
        }
    }

    #[test]
    fn a_line_is_in_the_form_of_wu_ftpd() {
        let head = "Thu Sep  9 21:44:15 2004 62 192.0.2.7 5000000000";
        let cases: [(&[u8], &[u8], &str); 4] = [
            (b"ann", b"/a.txt", "/a.txt a _ i r ann ftp 0 * i"),
            (b"anonymous", b"/100% of it", "/100%25%20of%20it a _ i a anonymous ftp 0 * i"),
            (b"a b", b"/\r\n\x1b\"\xff\xc3\xbc", "/%0D%0A%1B\"%FF%C3%BC a _ i r a%20b ftp 0 * i"),
            (b"", b"", "- a _ i r - ftp 0 * i"),
        ];
        for (user, path, expected) in cases {
            assert_eq!(line(&transfer(user, path)), format!("{head} {expected}"));
        }
        let short = Event::Transfer {
            peer: "[2001:db8::1]:4000".parse().unwrap(),
            user: b"anonymous",
            path: b"/a",
            direction: Direction::Out,
            kind: Kind::Binary,
            bytes: 0,
            took: Duration::ZERO,
            broken: None,
        };
        let expected = "Thu Sep  9 21:44:15 2004 1 2001:db8::1 0 /a b _ o a anonymous ftp 0 * c";
        assert_eq!(line(&short), expected);
        assert_eq!(line(&Event::Login { peer: "192.0.2.7:1".parse().unwrap(), user: b"ann" }), "");
        let mut out = Vec::new();
        write_dropped(&mut out, 12, AT);
        assert_eq!(out, b"# Thu Sep  9 21:44:15 2004 12 lines dropped");
    }

    fn decoded(field: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut bytes = field.bytes();
        while let Some(byte) = bytes.next() {
            let mut digit = || char::from(bytes.next().unwrap()).to_digit(16).unwrap();
            out.push(if byte == b'%' { u8::try_from(16 * digit() + digit()).unwrap() } else { byte });
        }
        out
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_line_with_all_its_fields(
            user in prop::collection::vec(any::<u8>(), 1..300),
            path in prop::collection::vec(any::<u8>(), 1..4096),
        ) {
            let event = transfer(&user, &path);
            let line = line(&event);
            prop_assert!(line.len() <= event.longest());
            prop_assert!(line.bytes().all(|byte| (b' '..0x7F).contains(&byte)));
            // The date has single spaces here but for the day: as a reader splits it.
            let fields: Vec<&str> = line.split_whitespace().collect();
            prop_assert_eq!(fields.len(), 18);
            prop_assert_eq!((decoded(fields[8]), decoded(fields[13])), (path, user));
            prop_assert_eq!((fields[7], fields[17]), ("5000000000", "i"));
        }
    }
}
