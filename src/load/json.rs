//! JSON, as much of it as a report needs (RFC 8259).

use std::fmt::{Display, Write};

/// An object that grows.
#[derive(Debug)]
pub struct Object(String);

impl Object {
    /// Without members.
    #[must_use]
    pub fn new() -> Self {
        Self("{".to_owned())
    }

    /// Adds a member whose value is JSON as it is displayed: a whole number, a truth value, an object.
    pub fn member(&mut self, key: &str, value: &dyn Display) {
        if self.0.len() > 1 {
            self.0.push_str(", ");
        }
        let _ = write!(self.0, "{}: {value}", quoted(key));
    }

    /// Adds a text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.member(key, &quoted(value));
    }

    /// Adds a number with three decimals, or null.
    pub fn decimal(&mut self, key: &str, value: Option<f64>) {
        match value.filter(|value| value.is_finite()) {
            Some(value) => self.member(key, &format_args!("{value:.3}")),
            None => self.member(key, &"null"),
        }
    }

    /// The whole object.
    #[must_use]
    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}

/// An array of values that are JSON already.
#[must_use]
pub fn list(values: impl Iterator<Item = String>) -> String {
    let mut out = "[".to_owned();
    for value in values {
        if out.len() > 1 {
            out.push_str(", ");
        }
        out.push_str(&value);
    }
    out.push(']');
    out
}

/// A text (RFC 8259 §7).
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if u32::from(control) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        assert_eq!(quoted("a\"b\\c\nd\u{1}\u{e9}/"), "\"a\\\"b\\\\c\\u000ad\\u0001\u{e9}/\"");
    }

    #[test]
    fn objects_and_lists_of_any_length() {
        let mut object = Object::new();
        assert_eq!(Object::new().end(), "{}");
        object.text("a", "b");
        object.decimal("c", Some(1.23456));
        object.decimal("d", Some(f64::NAN));
        object.member("e", &list([].into_iter()));
        object.member("f", &list(["1".to_owned(), "2".to_owned()].into_iter()));
        assert_eq!(object.end(), r#"{"a": "b", "c": 1.235, "d": null, "e": [], "f": [1, 2]}"#);
    }
}
