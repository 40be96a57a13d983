//! Events as JSON (RFC 8259), one object a line.
//!
//! Owns the names of members and how bytes become text. A field that is UTF-8 is that text. A field that is not
//! is read as Latin-1, so that each byte is one character, and is named in the member `latin1`: whoever wants
//! the bytes encodes the text as Latin-1 again. What ends a line for any reader, and what moves a cursor, is
//! escaped: controls of ASCII and Latin-1, DEL, U+2028 and U+2029.

use super::event::{Direction, Event, Kind, Moment, cut};
use crate::proto::date::write_rfc3339;
use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// Appends the line of an event without its end.
pub(super) fn write(out: &mut Vec<u8>, event: &Event<'_>, at: Moment) {
    let mut object = Object::begin(out, at);
    match *event {
        Event::Login { peer, user } => {
            object.event("login", Some(peer));
            object.bytes("user", user);
        }
        Event::LoginRefused { peer, user, why } => {
            object.event("login-refused", Some(peer));
            object.bytes("user", user);
            object.text("why", why);
        }
        Event::Refused { peer, why } => {
            object.event("refused", Some(peer));
            object.text("why", why);
        }
        Event::Shed { peer, user, took, bytes } => {
            object.event("shed", Some(peer));
            object.end_of_session(user, took, bytes);
        }
        Event::Ended { peer, user, why, took, bytes } => {
            object.event("ended", Some(peer));
            object.end_of_session(user, took, bytes);
            object.text("why", why);
        }
        Event::Transfer { peer, user, path, direction, kind, bytes, took, broken } => {
            object.event("transfer", Some(peer));
            object.bytes("user", user);
            object.bytes("path", path);
            object.text("direction", if direction == Direction::In { "in" } else { "out" });
            object.text("type", if kind == Kind::Ascii { "ascii" } else { "binary" });
            object.number("bytes", bytes);
            object.seconds(took);
            object.number("complete", broken.is_none());
            if let Some(why) = broken {
                object.text("why", why);
            }
        }
        Event::Change { peer, user, verb, path, to } => {
            object.event("change", Some(peer));
            object.bytes("user", user);
            object.text("verb", verb);
            object.bytes("path", path);
            if let Some(to) = to {
                object.bytes("to", to);
            }
        }
    }
    object.end();
}

/// Appends a line, without its end, that tells how many lines are missing.
pub(super) fn write_dropped(out: &mut Vec<u8>, lines: u64, at: Moment) {
    let mut object = Object::begin(out, at);
    object.event("dropped", None);
    object.number("lines", lines);
    object.end();
}

/// An object that is being written.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    /// The members that are not UTF-8.
    latin1: Vec<&'static str>,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut Vec<u8>, at: Moment) -> Self {
        out.extend_from_slice(b"{\"time\":\"");
        write_rfc3339(out, at.seconds, at.millis);
        out.push(b'"');
        Object { out, latin1: Vec::new() }
    }

    fn end(self) {
        if !self.latin1.is_empty() {
            let _ = write!(self.out, ",\"latin1\":[\"{}\"]", self.latin1.join("\",\""));
        }
        self.out.push(b'}');
    }

    fn event(&mut self, name: &'static str, peer: Option<SocketAddr>) {
        self.text("event", name);
        if let Some(peer) = peer {
            let _ = write!(self.out, ",\"peer\":\"{}\",\"port\":{}", peer.ip().to_canonical(), peer.port());
        }
    }

    fn end_of_session(&mut self, user: Option<&[u8]>, took: Duration, bytes: u64) {
        if let Some(user) = user {
            self.bytes("user", user);
        }
        self.number("bytes", bytes);
        self.seconds(took);
    }

    fn number(&mut self, name: &'static str, value: impl Display) {
        let _ = write!(self.out, ",\"{name}\":{value}");
    }

    fn seconds(&mut self, took: Duration) {
        self.number("seconds", format_args!("{}.{:03}", took.as_secs(), took.subsec_millis()));
    }

    fn text(&mut self, name: &'static str, text: &str) {
        let _ = write!(self.out, ",\"{name}\":\"");
        text.chars().for_each(|character| self.character(character));
        self.out.push(b'"');
    }

    fn bytes(&mut self, name: &'static str, field: &[u8]) {
        let field = cut(field);
        if let Ok(text) = std::str::from_utf8(field) {
            return self.text(name, text);
        }
        self.latin1.push(name);
        let _ = write!(self.out, ",\"{name}\":\"");
        field.iter().for_each(|&byte| self.character(char::from(byte)));
        self.out.push(b'"');
    }

    fn character(&mut self, character: char) {
        match character {
            '"' | '\\' => {
                let _ = write!(self.out, "\\{character}");
            }
            '\u{2028}' | '\u{2029}' => self.code(character),
            control if control.is_control() => self.code(control),
            plain => {
                let _ = write!(self.out, "{plain}");
            }
        }
    }

    fn code(&mut self, character: char) {
        let _ = write!(self.out, "\\u{:04x}", u32::from(character));
    }
}
