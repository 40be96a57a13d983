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
