//! The text of an accounts file, of which one line is changed and every other one kept, byte for byte.
//!
//! Pure. Expects a text that a server would take.

use crate::auth::line::{self, Line};
use crate::auth::{Hash, Options};

/// The text, line by line.
#[derive(Debug)]
pub(super) struct Document<'a> {
    lines: Vec<Text<'a>>,
}

#[derive(Debug)]
enum Text<'a> {
    Kept(&'a [u8]),
    Changed(Vec<u8>),
}

impl Text<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Text::Kept(bytes) => bytes,
            Text::Changed(bytes) => bytes,
        }
    }

    fn account(&self) -> Option<Line<'_>> {
        line::parse(self.bytes()).ok().flatten()
    }
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let lines = if text.is_empty() { Vec::new() } else { line::lines(text).map(Text::Kept).collect() };
        Self { lines }
    }

    /// The accounts in the order of their lines.
    pub(super) fn accounts(&self) -> impl Iterator<Item = Line<'_>> {
        self.lines.iter().filter_map(Text::account)
    }

    /// The hash and the options of an account.
    pub(super) fn find(&self, name: &str) -> Option<(Hash, Options)> {
        self.accounts().find(|line| line.name == name).map(|line| (line.hash, line.options))
    }

    /// Writes the line of an account: where it was, or at the end.
    pub(super) fn set(&mut self, name: &str, hash: &Hash, options: &Options) {
        let line = Text::Changed(line::format(name, hash, options));
        match self.position(name) {
            Some(index) => self.lines.splice(index..=index, [line]).for_each(drop),
            None => self.lines.push(line),
        }
    }

    /// Takes the line of an account out; whether there was one.
    pub(super) fn delete(&mut self, name: &str) -> bool {
        let index = self.position(name);
        index.map(|index| self.lines.remove(index)).is_some()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.lines.iter().position(|line| line.account().is_some_and(|line| line.name == name))
    }

    /// The text, with a line feed after each line.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut text = Vec::new();
        for line in &self.lines {
            text.extend_from_slice(line.bytes());
            text.push(b'\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA";
    const OTHER: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$BBBBBBBBBBBBBBBBBBBBBA";

    fn text() -> String {
        format!("# first\n\nalice:{HASH}\n#alice:{HASH}\n \nbob:{HASH}:root=/a\\:b\n# last")
    }

    fn edited(text: &str, edit: impl FnOnce(&mut Document)) -> String {
        let mut document = Document::new(text.as_bytes());
        edit(&mut document);
        String::from_utf8(document.into_bytes()).unwrap()
    }

    #[test]
    fn one_line_is_changed_and_the_others_are_kept() {
        let other = Hash::parse(OTHER).unwrap();
        let changed = edited(&text(), |document| document.set("alice", &other, &Options::default()));
        assert_eq!(changed, text().replace(&format!("\nalice:{HASH}"), &format!("\nalice:{OTHER}")) + "\n");
        let added = edited(&text(), |document| document.set("ali", &other, &Options::parse(b"write=all").unwrap()));
        assert_eq!(added, format!("{}\nali:{OTHER}:write=all\n", text()));
        let deleted = edited(&text(), |document| assert!(document.delete("bob")));
        assert_eq!(deleted, text().replace(&format!("bob:{HASH}:root=/a\\:b\n"), "") + "\n");
        assert_eq!(edited(&text(), |document| assert!(!document.delete("carl"))), text() + "\n");
    }

    #[test]
    fn an_empty_text_has_no_line() {
        let hash = Hash::parse(HASH).unwrap();
        assert_eq!(edited("", |document| document.set("a", &hash, &Options::default())), format!("a:{HASH}\n"));
        assert_eq!(edited("", |document| assert!(!document.delete("a"))), "");
        assert_eq!(edited("\n", |document| document.set("a", &hash, &Options::default())), format!("\na:{HASH}\n"));
    }

    #[test]
    fn accounts_are_found_in_their_order() {
        let text = text();
        let document = Document::new(text.as_bytes());
        assert_eq!(document.accounts().map(|line| line.name).collect::<Vec<_>>(), ["alice", "bob"]);
        let (hash, options) = document.find("bob").unwrap();
        assert_eq!((hash.to_string().as_str(), options.to_bytes().as_slice()), (HASH, &b"root=/a:b"[..]));
        assert!(document.find("#alice").is_none() && document.find("").is_none());
    }

    proptest! {
        #[test]
        fn whatever_is_not_touched_is_kept(text in "([a-z#: =\\x00\\xff]{0,6}\n){0,5}") {
            prop_assert_eq!(edited(&text, |_| {}), text.clone());
            let hash = Hash::parse(HASH).unwrap();
            let added = edited(&text, |document| document.set("A", &hash, &Options::default()));
            prop_assert_eq!(edited(&added, |document| assert!(document.delete("A"))), text);
        }
    }
}
