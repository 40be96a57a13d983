//! Pathnames as clients see them, and names as bytes in replies, listings and the log.
//!
//! Owns the one form that a pathname has inside the server. All of it is lexical: nothing here knows
//! whether a path exists or where a link leads. Confinement to the root is not done here but where
//! files are opened.

use std::fmt::{self, Display, Formatter, Write};

use crate::limits::{NAME_MAX, PATH_MAX};

/// An absolute path inside the served root, normalised: it begins with `/`, has no empty, `.` or `..`
/// components and no NUL, ends with `/` only if it is the root, is at most [`PATH_MAX`] bytes long, and
/// each of its names at most [`NAME_MAX`]. Its names are bytes of no particular encoding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VirtualPath {
    bytes: Vec<u8>,
}

/// Why an argument is no pathname. Each becomes a 501, because the argument is at fault whatever is
/// served; no file system is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// 501 "A pathname is needed.": there is nothing in it. The table of verbs refuses most of these
    /// before; commands that can do without a pathname mean the current folder, and don't come here.
    Empty,
    /// 501 "A pathname can't hold a NUL.": it holds one, and no file system can store that.
    Nul,
    /// 501 "That pathname is too long.": one of its names is longer than [`NAME_MAX`], or the whole is
    /// longer than [`PATH_MAX`] once it was joined to the current folder.
    TooLong,
}

impl VirtualPath {
    /// The served root, `/`.
    pub fn root() -> Self {
        Self { bytes: b"/".to_vec() }
    }

    /// The path that `argument` means when this is the current folder. It is absolute if it begins with
    /// `/`; `..` takes the last name off and stays at the root.
    ///
    /// # Errors
    /// See [`PathError`]. A name that is too long is refused even where `..` follows it.
    pub fn join(&self, argument: &[u8]) -> Result<Self, PathError> {
        if argument.is_empty() {
            return Err(PathError::Empty);
        }
        if memchr::memchr(0, argument).is_some() {
            return Err(PathError::Nul);
        }
        let mut path = if argument.starts_with(b"/") { Self::root() } else { self.clone() };
        path.bytes.reserve(argument.len() + 1);
        for name in argument.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => path.pop(),
                _ if name.len() > NAME_MAX => return Err(PathError::TooLong),
                _ => path.push(name),
            }
        }
        if path.bytes.len() > PATH_MAX {
            return Err(PathError::TooLong);
        }
        Ok(path)
    }

    /// The folder that this is in; the root is in itself.
    pub fn parent(&self) -> Self {
        let mut parent = self.clone();
        parent.pop();
        parent
    }

    /// The last name, or `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        if self.is_root() { None } else { Some(&self.bytes[self.last_slash() + 1..]) }
    }

    /// The path as clients see it, beginning with `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The path from the root's descriptor: no leading slash, `.` for the root itself.
    pub fn relative(&self) -> &[u8] {
        if self.is_root() { b"." } else { &self.bytes[1..] }
    }

    /// Whether this is the served root.
    pub fn is_root(&self) -> bool {
        self.bytes.len() == 1
    }

    fn push(&mut self, name: &[u8]) {
        if !self.is_root() {
            self.bytes.push(b'/');
        }
        self.bytes.extend_from_slice(name);
    }

    fn pop(&mut self) {
        let length = self.last_slash().max(1);
        self.bytes.truncate(length);
    }

    fn last_slash(&self) -> usize {
        memchr::memrchr(b'/', &self.bytes).unwrap_or(0)
    }
}

/// Appends the path in quotes as a 257 reply has it, inner quotes doubled (RFC 959 appendix II).
pub fn quote(path: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in path {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Appends a name as a listing shows it: every ASCII control byte becomes `?`, as `ls -q` has it, so
/// that a name can never end a line. The length stays the same.
pub fn shown(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(bytes);
    let copy = &mut out[start..];
    // Eight bytes at a time, the last eight perhaps for a second time, since hardly a name has any.
    let (words, _) = copy.as_chunks_mut::<8>();
    words.iter_mut().for_each(mask_word);
    match copy.last_chunk_mut::<8>() {
        Some(word) => mask_word(word),
        None => mask(copy),
    }
}

fn mask_word(word: &mut [u8; 8]) {
    const LOW: u64 = u64::from_ne_bytes([0x7F; 8]);
    let bytes = u64::from_ne_bytes(*word);
    // The highest bit of each byte, without a carry into the next: clear where it is less than 0x20 in
    // the first sum, set where it is 0x7F in the second. Bytes from 0x80 on are no control bytes.
    let printable = (bytes & LOW) + u64::from_ne_bytes([0x60; 8]);
    let delete = (bytes & LOW) + u64::from_ne_bytes([0x01; 8]);
    if (!printable | delete) & !bytes & !LOW != 0 {
        mask(word);
    }
}

fn mask(bytes: &mut [u8]) {
    for byte in bytes {
        if byte.is_ascii_control() {
            *byte = b'?';
        }
    }
}

/// Bytes from outside as the log shows them, on one line and without any power over a terminal:
/// printable ASCII and valid UTF-8 stay, a backslash is doubled, and every byte of anything else,
/// control characters, line separators and characters that turn the direction of writing included,
/// becomes `\xNN`.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => formatter.write_str("\\\\")?,
                    _ if is_harmless(character) => formatter.write_char(character)?,
                    _ => escape(character.encode_utf8(&mut [0; 4]).as_bytes(), formatter)?,
                }
            }
            escape(chunk.invalid(), formatter)?;
        }
        Ok(())
    }
}

fn escape(bytes: &[u8], formatter: &mut Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(formatter, "\\x{byte:02x}"))
}

fn is_harmless(character: char) -> bool {
    let separator = matches!(character, '\u{2028}' | '\u{2029}');
    let bidirectional = matches!(
        character,
        '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    );
    !character.is_control() && !separator && !bidirectional
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> VirtualPath {
        VirtualPath::root().join(text.as_bytes()).unwrap()
    }

    #[test]
    fn join_normalises() {
        for (folder, argument, expected) in [
            ("/", "a", "/a"),
            ("/a", "b c", "/a/b c"),
            ("/a/b", "..", "/a"),
            ("/a/b", "../../..", "/"),
            ("/a/b", "/c/", "/c"),
            ("/a", "//c//d//", "/c/d"),
            ("/a", "./b/./.", "/a/b"),
            ("/a", "b/../../../c", "/c"),
            ("/a", ".", "/a"),
            ("/a", "...", "/a/..."),
            ("/a", "..\\b", "/a/..\\b"),
            ("/a", " ", "/a/ "),
        ] {
            let joined = path(folder).join(argument.as_bytes()).unwrap();
            assert_eq!(joined, VirtualPath { bytes: expected.into() }, "{folder} {argument}");
        }
    }

    #[test]
    fn join_refuses_what_no_file_can_be_called() {
        let root = VirtualPath::root();
        assert_eq!(root.join(b""), Err(PathError::Empty));
        assert_eq!(root.join(b"a\0b"), Err(PathError::Nul));
        assert!(root.join(&[b'x'; NAME_MAX]).is_ok());
        assert_eq!(root.join(&[b'x'; NAME_MAX + 1]), Err(PathError::TooLong));
        let longest = [b"/".repeat(9), b"/x".repeat(PATH_MAX / 2)].concat();
        let longest = root.join(&longest).unwrap();
        assert_eq!(longest.as_bytes().len(), PATH_MAX);
        assert_eq!(longest.join(b"y"), Err(PathError::TooLong));
        assert_eq!(longest.join(b"y/../../xx"), Err(PathError::TooLong));
        assert_eq!(longest.join(b"y/.."), Ok(longest.clone()));
    }

    #[test]
    fn parts_of_a_path() {
        let file = path("/a/b");
        assert_eq!(file.file_name(), Some(&b"b"[..]));
        assert_eq!(file.relative(), b"a/b");
        assert_eq!(file.parent(), path("/a"));
        let root = file.parent().parent();
        assert!(root.is_root() && !file.is_root());
        assert_eq!((root.file_name(), root.relative(), root.as_bytes()), (None, &b"."[..], &b"/"[..]));
        assert_eq!(root.parent(), root);
    }

    #[test]
    fn quotes_are_doubled() {
        let mut out = b"257 ".to_vec();
        quote(b"/a \"b\"\xFF", &mut out);
        assert_eq!(out, b"257 \"/a \"\"b\"\"\xFF\"");
    }

    /// Each byte in each place, alone and among others, since eight are looked at together.
    #[test]
    fn no_other_byte_of_a_shown_name_changes() {
        let expected = |name: &[u8]| -> Vec<u8> {
            name.iter().map(|byte| if byte.is_ascii_control() { b'?' } else { *byte }).collect()
        };
        for byte in 0..=u8::MAX {
            for length in 0..20 {
                for at in 0..length {
                    for filler in [b'a', 0x7E, 0x7F, 0x1F, 0x80, 0xFF] {
                        let mut name = vec![filler; length];
                        name[at] = byte;
                        let mut out = b"\r\n".to_vec();
                        shown(&name, &mut out);
                        assert_eq!(out.split_off(2), expected(&name), "{name:x?}");
                        assert_eq!(out, b"\r\n", "what was there is left alone");
                    }
                }
            }
        }
    }

    #[test]
    fn shown_names_hold_no_controls() {
        let mut out = b"name: ".to_vec();
        shown(b"a\r\nb\x1B[0m\x7F\0\xC3\xA4\xFF?", &mut out);
        assert_eq!(out, b"name: a??b?[0m??\xC3\xA4\xFF?");
    }

    #[test]
    fn escaped_bytes_stay_on_one_line() {
        let shown = |bytes: &[u8]| Escaped(bytes).to_string();
        assert_eq!(shown("a \"b\" äöü 日本".as_bytes()), "a \"b\" äöü 日本");
        assert_eq!(shown(b"a\r\n\t\x1B[0m\x7F\0\\n"), "a\\x0d\\x0a\\x09\\x1b[0m\\x7f\\x00\\\\n");
        assert_eq!(shown(b"\xFFa\xC3"), "\\xffa\\xc3");
        assert_eq!(shown("\u{85}\u{2028}".as_bytes()), "\\xc2\\x85\\xe2\\x80\\xa8");
        assert_eq!(shown("\u{202E}\u{2067}".as_bytes()), "\\xe2\\x80\\xae\\xe2\\x81\\xa7");
    }

    /// Bytes in which slashes and dots are frequent.
    fn arguments() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![3 => Just(b'/'), 3 => Just(b'.'), 2 => Just(b'a'), 1 => any::<u8>()];
        prop_oneof![
            4 => proptest::collection::vec(byte.clone(), 0..60),
            1 => proptest::collection::vec(prop_oneof![Just(b'a'), byte], 200..5000),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_normal_path(folder in arguments(), argument in arguments()) {
            let folder = VirtualPath::root().join(&folder).unwrap_or_else(|_| VirtualPath::root());
            if let Ok(path) = folder.join(&argument) {
                let bytes = path.as_bytes();
                prop_assert!(bytes.starts_with(b"/") && bytes.len() <= PATH_MAX && !bytes.contains(&0));
                if !path.is_root() {
                    for name in path.relative().split(|&byte| byte == b'/') {
                        prop_assert!(!name.is_empty() && name.len() <= NAME_MAX);
                        prop_assert!(name != b"." && name != b"..");
                    }
                    prop_assert_eq!(path.parent().join(path.file_name().unwrap()), Ok(path.clone()));
                }
                prop_assert_eq!(folder.join(bytes), Ok(path.clone()));
                prop_assert_eq!(VirtualPath::root().join(path.relative()), Ok(path.clone()));
            }
        }

        #[test]
        fn quoted_paths_can_be_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut out = Vec::new();
            quote(&bytes, &mut out);
            let inner = out.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap();
            let mut read = Vec::new();
            let mut rest = inner.iter();
            while let Some(&byte) = rest.next() {
                prop_assert!(byte != b'"' || rest.next() == Some(&b'"'));
                read.push(byte);
            }
            prop_assert_eq!(read, bytes);
        }

        #[test]
        fn escaped_bytes_hold_no_controls_and_can_be_read_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let text = Escaped(&bytes).to_string();
            prop_assert!(text.chars().all(is_harmless));
            let mut read = Vec::new();
            let mut rest = text.as_bytes();
            while let Some((&byte, after)) = rest.split_first() {
                rest = after;
                match (byte, after) {
                    (b'\\', [b'\\', after @ ..]) => {
                        read.push(b'\\');
                        rest = after;
                    }
                    (b'\\', [b'x', high, low, after @ ..]) => {
                        let digits = [*high, *low];
                        let digits = std::str::from_utf8(&digits).unwrap();
                        read.push(u8::from_str_radix(digits, 16).unwrap());
                        rest = after;
                    }
                    _ => read.push(byte),
                }
            }
            prop_assert_eq!(read, bytes);
        }
    }
}
