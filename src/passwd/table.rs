//! The accounts as a table for people, without what could help to guess a password.
//!
//! Pure.

use super::document::Document;
use crate::auth::line::Line;
use crate::proto::pathname::Escaped;

/// The columns: the root comes last, because it may be long.
const KEYS: [&str; 8] = ["write", "max-sessions", "max-rate", "quota", "idle-timeout", "from", "expires", "root"];

/// A line for each account, after one that names the columns; `-` stands for an option that is not set.
pub(super) fn of(document: &Document) -> String {
    let mut rows = vec![["name", "hash"].iter().chain(&KEYS).map(|name| name.to_uppercase()).collect::<Vec<_>>()];
    for Line { name, hash, options } in document.accounts() {
        let value = |key: &&str| options.value(key).map_or_else(|| "-".to_owned(), |value| Escaped(&value).to_string());
        let row = [Escaped(name.as_bytes()).to_string(), hash.cost().name().to_owned()];
        rows.push(row.into_iter().chain(KEYS.iter().map(value)).collect());
    }
    let columns = KEYS.len() + 2;
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut table = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        table.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Options;

    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn columns_are_as_wide_as_what_they_hold() {
        let text = format!(
            "zoë:{HASH}:write=all,root=/srv/\u{202e}x,quota=5G\n# none\nb:$5$abcd${}:from=192.0.2.0/24,expires=2027-01-31,\
             idle-timeout=90s,max-rate=1M,max-sessions=2\n",
            ".".repeat(43)
        );
        let expected = "\
NAME  HASH          WRITE  MAX-SESSIONS  MAX-RATE  QUOTA  IDLE-TIMEOUT  FROM          EXPIRES     ROOT
zoë   argon2id      all    -             -         5G     -             -             -           /srv/\\xe2\\x80\\xaex
b     sha256-crypt  -      2             1M        -      90s           192.0.2.0/24  2027-01-31  -
";
        assert_eq!(of(&Document::new(text.as_bytes())), expected);
        assert_eq!(of(&Document::new(b"")).lines().count(), 1);
    }

    #[test]
    fn every_option_has_a_column() {
        let mut keys = Options::KEYS;
        let mut columns = KEYS;
        keys.sort_unstable();
        columns.sort_unstable();
        assert_eq!(keys, columns);
    }
}
