//! Replies (RFC 959 §4.2), and the one place that writes and escapes them.
//!
//! A reply is one line `NNN text`, or several: `NNN-first`, inner lines that begin with a space (so
//! that none can be taken for the end), and `NNN last`. Whatever the text holds, what is written is
//! one well-formed reply: control bytes become `?`, and a byte 255 is doubled, because the control
//! connection is a Telnet connection.

use std::borrow::Cow;

/// A reply with its code, final or preliminary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    text: Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    Line(Cow<'static, [u8]>),
    Lines { first: Vec<u8>, inner: Vec<Vec<u8>>, last: Vec<u8> },
}

impl Reply {
    /// A reply of one line with a fixed text.
    #[must_use]
    pub const fn new(code: u16, text: &'static str) -> Self {
        Reply { code, text: Text::Line(Cow::Borrowed(text.as_bytes())) }
    }

    /// A reply of one line with a text made for it.
    #[must_use]
    pub fn with(code: u16, text: impl Into<Vec<u8>>) -> Self {
        Reply { code, text: Text::Line(Cow::Owned(text.into())) }
    }

    /// A reply of several lines. Inner lines are written with a space before them.
    #[must_use]
    pub fn lines(code: u16, first: impl Into<Vec<u8>>, inner: Vec<Vec<u8>>, last: impl Into<Vec<u8>>) -> Self {
        Reply { code, text: Text::Lines { first: first.into(), inner, last: last.into() } }
    }

    /// The three-digit code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Whether the control connection is closed after this reply: 221 and 421.
    #[must_use]
    pub fn closes(&self) -> bool {
        matches!(self.code, 221 | 421)
    }

    /// Appends the reply as it goes over the wire.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.text {
            Text::Line(text) => line(out, self.code, b' ', text),
            Text::Lines { first, inner, last } => {
                line(out, self.code, b'-', first);
                for text in inner {
                    inner_line(out, text);
                }
                line(out, self.code, b' ', last);
            }
        }
    }
}

/// Appends the first line of a reply whose inner lines follow one by one.
pub fn first_line(out: &mut Vec<u8>, code: u16, text: &[u8]) {
    line(out, code, b'-', text);
}

/// Appends an inner line of a reply of several lines.
pub fn inner_line(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b' ');
    escape(out, text);
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, code: u16, separator: u8, text: &[u8]) {
    for unit in [100, 10, 1] {
        out.push(b'0' + u8::try_from(code / unit % 10).unwrap_or(0));
    }
    out.push(separator);
    escape(out, text);
    out.extend_from_slice(b"\r\n");
}

fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            0..0x20 | 0x7F => out.push(b'?'),
            0xFF => out.extend_from_slice(&[0xFF, 0xFF]),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(reply: &Reply) -> Vec<u8> {
        let mut out = Vec::new();
        reply.encode(&mut out);
        out
    }

    #[test]
    fn one_line_and_several() {
        assert_eq!(encoded(&Reply::new(200, "Done.")), b"200 Done.\r\n");
        let feat = Reply::lines(211, "Features:", vec![b"MDTM".to_vec(), b"123 x".to_vec()], "End");
        assert_eq!(encoded(&feat), b"211-Features:\r\n MDTM\r\n 123 x\r\n211 End\r\n");
    }

    #[test]
    fn what_could_forge_a_line_is_masked_and_telnet_is_doubled() {
        let reply = Reply::with(257, b"\"/a\r\n230 in\x1b[2J\xff\"".as_slice());
        assert_eq!(encoded(&reply), b"257 \"/a??230 in?[2J\xff\xff\"\r\n");
    }

    proptest! {
        #[test]
        fn any_text_is_one_well_formed_reply(code in 100u16..600, first: Vec<u8>, inner: Vec<Vec<u8>>, last: Vec<u8>) {
            let out = encoded(&Reply::lines(code, first, inner.clone(), last));
            let text = out.strip_suffix(b"\r\n").unwrap();
            let lines: Vec<_> = text.split(|&b| b == b'\n').collect();
            prop_assert_eq!(lines.len(), inner.len() + 2);
            for (number, line) in lines.iter().enumerate() {
                let line = if number + 1 < lines.len() { line.strip_suffix(b"\r").unwrap() } else { line };
                prop_assert!(line.iter().all(|&b| b >= 0x20 && b != 0x7f));
                if number == 0 {
                    let start = format!("{code}-");
                    prop_assert!(line.starts_with(start.as_bytes()));
                } else if number + 1 < lines.len() {
                    prop_assert!(line.starts_with(b" "));
                } else {
                    let start = format!("{code} ");
                    prop_assert!(line.starts_with(start.as_bytes()));
                }
            }
        }
    }
}
