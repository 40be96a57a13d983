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

#[cfg(test)]
mod tests {
    use super::super::event::LONGEST;
    use super::*;
    use crate::limits::PATH_MAX;
    use proptest::prelude::*;
    use serde_json::Value;

    const AT: Moment = Moment { seconds: 1_709_210_096, millis: 7 };

    fn line(event: &Event<'_>) -> String {
        let mut out = Vec::new();
        write(&mut out, event, AT);
        assert!(out.len() <= event.longest(), "{} bytes, {} at most", out.len(), event.longest());
        String::from_utf8(out).unwrap()
    }

    fn peer() -> SocketAddr {
        "[::ffff:192.0.2.7]:4000".parse().unwrap()
    }

    /// The bytes of a field, as a reader finds them.
    fn bytes(object: &Value, name: &str) -> Vec<u8> {
        let text = object[name].as_str().unwrap();
        let latin1 = object["latin1"].as_array().is_some_and(|names| names.iter().any(|other| other == name));
        if latin1 {
            text.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect()
        } else {
            text.as_bytes().to_vec()
        }
    }

    #[test]
    fn each_event_has_its_members() {
        let took = Duration::from_millis(1_050);
        let cases: [(Event<'_>, &str); 9] = [
            (Event::Login { peer: peer(), user: b"ann" }, r#""login",P,"user":"ann"}"#),
            (
                Event::LoginRefused { peer: peer(), user: b"a\"b\\", why: "wrong password" },
                r#""login-refused",P,"user":"a\"b\\","why":"wrong password"}"#,
            ),
            (Event::Refused { peer: peer(), why: "full" }, r#""refused",P,"why":"full"}"#),
            (Event::Shed { peer: peer(), user: None, took, bytes: 0 }, r#""shed",P,"bytes":0,"seconds":1.050}"#),
            (
                Event::Ended { peer: peer(), user: Some(b"ann"), why: "quit", took, bytes: 7 },
                r#""ended",P,"user":"ann","bytes":7,"seconds":1.050,"why":"quit"}"#,
            ),
            (
                Event::Transfer {
                    peer: peer(),
                    user: b"ann",
                    path: b"/a",
                    direction: Direction::Out,
                    kind: Kind::Binary,
                    bytes: u64::MAX,
                    took,
                    broken: None,
                },
                r#""transfer",P,"user":"ann","path":"/a","direction":"out","type":"binary","bytes":18446744073709551615,"seconds":1.050,"complete":true}"#,
            ),
            (
                Event::Transfer {
                    peer: peer(),
                    user: b"ann",
                    path: b"/a",
                    direction: Direction::In,
                    kind: Kind::Ascii,
                    bytes: 1,
                    took,
                    broken: Some("stalled"),
                },
                r#""transfer",P,"user":"ann","path":"/a","direction":"in","type":"ascii","bytes":1,"seconds":1.050,"complete":false,"why":"stalled"}"#,
            ),
            (
                Event::Change { peer: peer(), user: b"ann", verb: "RNTO", path: b"/a", to: Some(b"/b") },
                r#""change",P,"user":"ann","verb":"RNTO","path":"/a","to":"/b"}"#,
            ),
            (
                Event::Change { peer: peer(), user: b"ann", verb: "DELE", path: b"/\xff", to: None },
                r#""change",P,"user":"ann","verb":"DELE","path":"/ÿ","latin1":["path"]}"#,
            ),
        ];
        for (event, expected) in cases {
            let expected = expected.replacen('P', r#""peer":"192.0.2.7","port":4000"#, 1);
            assert_eq!(line(&event), format!(r#"{{"time":"2024-02-29T12:34:56.007Z","event":{expected}"#));
            serde_json::from_str::<Value>(&line(&event)).unwrap();
        }
        let mut out = Vec::new();
        write_dropped(&mut out, 12, AT);
        assert_eq!(out, br#"{"time":"2024-02-29T12:34:56.007Z","event":"dropped","lines":12}"#);
    }

    #[test]
    fn the_longest_line_is_known() {
        // Each byte becomes six.
        let field = [0x80; PATH_MAX + 100];
        let event = Event::Change { peer: peer(), user: &field, verb: "RNTO", path: &field, to: Some(&field) };
        let length = line(&event).len();
        assert!(length > 3 * PATH_MAX * 6 && length <= LONGEST, "{length}");
        assert_eq!(event.longest(), LONGEST);
        let object: Value = serde_json::from_str(&line(&event)).unwrap();
        assert_eq!(bytes(&object, "to"), field[..PATH_MAX]);
        assert_eq!(object["latin1"], serde_json::json!(["user", "path", "to"]));
    }

    /// Any bytes, and text with all that readers take for the end of a line.
    fn field() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..4096),
            any::<String>().prop_map(String::into_bytes),
            "[\r\n\u{b}\u{c}\u{1b}\u{1c}-\u{1f}\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\"\\\\a/]{0,60}"
                .prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_line_that_parses_back(user in field(), path in field(), to in field()) {
            let event = Event::Change { peer: peer(), user: &user, verb: "RNTO", path: &path, to: Some(&to) };
            let line = line(&event);
            prop_assert!(!line.chars().any(|c| c.is_control() || c == '\u{2028}' || c == '\u{2029}'), "{line:?}");
            let object: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(bytes(&object, "user"), user);
            prop_assert_eq!(bytes(&object, "path"), path);
            prop_assert_eq!(bytes(&object, "to"), to);
            prop_assert_eq!(&object["verb"], "RNTO");
        }
    }
}
