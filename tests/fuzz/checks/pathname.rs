//! Pathnames: whatever is joined to whatever stays below the root, in the one form there is; and what is
//! shown of one is one line, and can be told from any other.

use plimsoll::limits::{NAME_MAX, PATH_MAX};
use plimsoll::proto::pathname::{Escaped, PathError, VirtualPath, quote, shown};

/// The bytes are arguments of CWD, one after the other, each ended by a line feed.
pub fn check(data: &[u8]) {
    let mut path = VirtualPath::root();
    let mut names: Vec<&[u8]> = Vec::new();
    for argument in data.split(|&b| b == b'\n') {
        match (path.join(argument), join(&names, argument)) {
            (Ok(joined), Ok(expected)) => {
                assert_eq!(joined.as_bytes(), text_of(&expected));
                whole(&joined, &expected);
                path = joined;
                names = expected;
            }
            (joined, expected) => assert_eq!(joined.err(), expected.err(), "{argument:?}"),
        }
    }
    for bytes in [data, path.as_bytes()] {
        told(bytes);
    }
}

/// The rules, told over a stack of names.
fn join<'a>(names: &[&'a [u8]], argument: &'a [u8]) -> Result<Vec<&'a [u8]>, PathError> {
    if argument.is_empty() {
        return Err(PathError::Empty);
    }
    if argument.contains(&0) {
        return Err(PathError::Nul);
    }
    let mut stack = if argument[0] == b'/' { Vec::new() } else { names.to_vec() };
    for name in argument.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(stack.pop()),
            _ if name.len() > NAME_MAX => return Err(PathError::TooLong),
            _ => stack.push(name),
        }
    }
    if text_of(&stack).len() > PATH_MAX {
        return Err(PathError::TooLong);
    }
    Ok(stack)
}

fn text_of(names: &[&[u8]]) -> Vec<u8> {
    [b"/".as_slice(), &names.join(&b'/')].concat()
}

fn whole(path: &VirtualPath, names: &[&[u8]]) {
    assert_eq!(path.is_root(), names.is_empty());
    assert_eq!(path.file_name(), names.last().copied());
    let parent = names.split_last().map_or(&[][..], |(_, rest)| rest);
    assert_eq!(path.parent().as_bytes(), text_of(parent));
    let relative = path.relative();
    assert!(!relative.starts_with(b"/") && !relative.is_empty());
    assert!(relative.split(|&b| b == b'/').all(|name| !name.is_empty() && name != b".."));
    // CWD takes the string of PWD.
    assert_eq!(VirtualPath::root().join(path.as_bytes()).as_ref(), Ok(path));
}

fn told(bytes: &[u8]) {
    let mut quoted = Vec::new();
    quote(bytes, &mut quoted);
    let inner = quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).expect("quotes");
    let mut plain = Vec::new();
    let mut rest = inner;
    while let Some((&b, later)) = rest.split_first() {
        plain.push(b);
        rest = if b == b'"' { later.strip_prefix(b"\"").expect("a doubled quote") } else { later };
    }
    assert_eq!(plain, bytes);

    let mut line = Vec::new();
    shown(bytes, &mut line);
    assert_eq!(line.len(), bytes.len());
    assert!(!line.iter().any(u8::is_ascii_control));

    let escaped = Escaped(bytes).to_string();
    assert!(!escaped.chars().any(char::is_control));
    assert_eq!(unescape(&escaped), bytes);
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => return bytes,
            [b'\\', b'\\', later @ ..] => {
                bytes.push(b'\\');
                rest = later;
            }
            [b'\\', b'x', high, low, later @ ..] => {
                let digits = [*high, *low];
                let text = str::from_utf8(&digits).expect("two digits");
                bytes.push(u8::from_str_radix(text, 16).expect("two digits"));
                rest = later;
            }
            [plain, later @ ..] => {
                bytes.push(*plain);
                rest = later;
            }
        }
    }
}
