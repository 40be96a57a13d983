//! The lines of LIST (as `ls -l` has them), of MLSD and MLST (RFC 3659 §7), and the arguments that
//! choose what is in them.
//!
//! Turns what is known of one file into bytes. Never reads a folder, never sorts, never follows a link,
//! and ends no line: the caller knows whether it goes to the data or the control connection.

use super::date::{listing_date, time_val, two};
use super::pathname::shown;
use crate::limits::{NAME_MAX, PATH_MAX};

/// The longest line that [`long_line`] or [`facts_line`] writes, in bytes without a line end, if a name
/// has at most [`NAME_MAX`] bytes and a target, or a path in place of a name, at most [`PATH_MAX`].
pub const LISTING_LINE_MAX: usize = LONG_COLUMNS_MAX + NAME_MAX + ARROW.len() + PATH_MAX;

/// What comes before the name in [`long_line`]: mode, links, owner and group, size, date and the
/// spaces between, with numbers of twenty digits. All facts and their space are no longer than this
/// together with a name, which a test holds.
const LONG_COLUMNS_MAX: usize = 10 + 1 + DIGITS_MAX + OWNER.len() + DIGITS_MAX + 1 + 12 + 1;

/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

/// Room for the columns of [`long_line`], and for every fact of [`facts_line`] at its longest.
const COLUMNS_MAX: usize = 128;

/// Owner and group: nobody's business, and the same for every file.
const OWNER: &[u8; 19] = b" ftp      ftp      ";
const ARROW: &[u8] = b" -> ";

/// What an entry of a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link that is shown as such.
    Link,
    /// A device, a socket or a FIFO, which is never served.
    Other,
}

/// One entry as it is listed.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its name in the folder, as bytes.
    pub name: &'a [u8],
    /// What it is.
    pub kind: Kind,
    /// Permission bits; those of the type are ignored.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// Last modification in seconds since the epoch.
    pub modified: i64,
    /// Hard links.
    pub links: u64,
    /// Number of the device it is on.
    pub device: u64,
    /// Number of its inode on that device.
    pub inode: u64,
    /// Where a link leads, if that is known.
    pub target: Option<&'a [u8]>,
}

/// What a user may do with what is listed, for the fact of that name (RFC 3659 §7.5.5). The file system may
/// refuse it all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Perm {
    /// Read.
    Read,
    /// Read, and add what is not there.
    Add,
    /// Add, and not read.
    Drop,
    /// Change everything.
    All,
}

/// Appends a line of LIST:
/// `-rw-r--r--   1 ftp      ftp          size Mmm dd HH:MM name`, with ` -> target` after the name of
/// a link. `now` in seconds since the epoch decides whether the date has a time or a year. Something
/// that is neither file nor folder nor link is shown like a file, as not every client knows more.
pub fn long_line(out: &mut Vec<u8>, entry: &Entry<'_>, now: i64) {
    let mut columns = Backwards::new();
    columns.put(b" ");
    columns.put(&listing_date(entry.modified, now));
    columns.put(b" ");
    columns.number(entry.size, 8);
    columns.put(OWNER);
    columns.number(entry.links, 3);
    columns.put(&mode_text(entry.kind, entry.mode));
    out.extend_from_slice(columns.written());
    shown(entry.name, out);
    if let (Kind::Link, Some(target)) = (entry.kind, entry.target) {
        out.extend_from_slice(ARROW);
        shown(target, out);
    }
}

/// Kind and permissions, and the space behind them.
fn mode_text(kind: Kind, mode: u32) -> [u8; 11] {
    let mut text = *b"-rwxrwxrwx ";
    for (at, letter) in text.iter_mut().skip(1).take(9).enumerate() {
        if mode & (0o400 >> at) == 0 {
            *letter = b'-';
        }
    }
    text[0] = match kind {
        Kind::Folder => b'd',
        Kind::Link => b'l',
        Kind::File | Kind::Other => b'-',
    };
    text
}

/// Appends a line of MLSD or MLST: the facts chosen, a space, and `name`, which is the entry's own for
/// MLSD and its full path for MLST (RFC 3659 §7.2). The size is given for files only.
pub fn facts_line(out: &mut Vec<u8>, entry: &Entry<'_>, facts: Facts, perm: Perm, name: &[u8]) {
    let mut text = Backwards::new();
    text.put(b" ");
    if facts.has(Facts::UNIX_MODE) {
        let digit = |shift: u32| b'0' + ((entry.mode >> shift) & 7) as u8;
        text.put(&[digit(9), digit(6), digit(3), digit(0), b';']);
        text.put(b"UNIX.mode=");
    }
    if facts.has(Facts::UNIQUE) {
        text.put(b";");
        text.hexadecimal(entry.inode);
        text.put(b"U");
        text.hexadecimal(entry.device);
        text.put(b"unique=");
    }
    if facts.has(Facts::PERM) {
        match (entry.kind, perm) {
            (Kind::File, Perm::Read | Perm::Add) => text.put(b"perm=r;"),
            (Kind::File, Perm::Drop) => text.put(b"perm=;"),
            (Kind::File, Perm::All) => text.put(b"perm=adfrw;"),
            (Kind::Folder, Perm::Read) => text.put(b"perm=el;"),
            (Kind::Folder, Perm::Drop) => text.put(b"perm=cel;"),
            (Kind::Folder, Perm::Add) => text.put(b"perm=celm;"),
            (Kind::Folder, Perm::All) => text.put(b"perm=cdeflmp;"),
            (Kind::Link | Kind::Other, _) => {}
        }
    }
    if facts.has(Facts::MODIFY) {
        text.put(b";");
        text.put(&time_val(entry.modified));
        text.put(b"modify=");
    }
    if facts.has(Facts::SIZE) && entry.kind == Kind::File {
        text.put(b";");
        text.number(entry.size, 0);
        text.put(b"size=");
    }
    if facts.has(Facts::TYPE) {
        match entry.kind {
            Kind::File => text.put(b"type=file;"),
            Kind::Folder => text.put(b"type=dir;"),
            Kind::Link => text.put(b"type=OS.unix=symlink;"),
            Kind::Other => text.put(b"type=OS.unix=special;"),
        }
    }
    out.extend_from_slice(text.written());
    shown(name, out);
}

/// What stands before a name, written from its end to its start: so the digits of a number come in the
/// order in which they are found, and a line is appended in one piece.
struct Backwards {
    text: [u8; COLUMNS_MAX],
    first: usize,
}

impl Backwards {
    fn new() -> Self {
        Self { text: [b' '; COLUMNS_MAX], first: COLUMNS_MAX }
    }

    fn written(&self) -> &[u8] {
        &self.text[self.first..]
    }

    /// Puts `bytes` before what was written. What there is no room for is left out, which a test holds
    /// to be nothing.
    fn put<const N: usize>(&mut self, bytes: &[u8; N]) {
        if let Some(place) = self.text[..self.first].last_chunk_mut() {
            *place = *bytes;
            self.first -= N;
        }
    }

    /// Puts the number in decimal, with spaces before it up to `width` columns.
    fn number(&mut self, number: u64, width: usize) {
        let padded = self.first.saturating_sub(width);
        let mut rest = number;
        while rest >= 100 {
            self.put(&two((rest % 100) as u8));
            rest /= 100;
        }
        let [ten, one] = two((rest % 100) as u8);
        if rest < 10 {
            self.put(&[one])
        } else {
            self.put(&[ten, one])
        }
        // There are spaces already.
        self.first = self.first.min(padded);
    }

    fn hexadecimal(&mut self, number: u64) {
        let mut rest = number;
        loop {
            self.put(&[b"0123456789abcdef"[(rest % 16) as usize]]);
            rest /= 16;
            if rest == 0 {
                break;
            }
        }
    }
}

/// A set of the facts that MLSD and MLST can give (RFC 3659 §7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    bits: u8,
}

impl Facts {
    /// Every fact: what a session begins with.
    pub const ALL: Self = Self { bits: 0b11_1111 };

    const TYPE: Self = Self { bits: 1 };
    const SIZE: Self = Self { bits: 1 << 1 };
    const MODIFY: Self = Self { bits: 1 << 2 };
    const PERM: Self = Self { bits: 1 << 3 };
    const UNIQUE: Self = Self { bits: 1 << 4 };
    const UNIX_MODE: Self = Self { bits: 1 << 5 };

    /// Each fact by its name, in the order of FEAT and of a line.
    const NAMES: [(Self, &'static [u8]); 6] = [
        (Self::TYPE, b"type"),
        (Self::SIZE, b"size"),
        (Self::MODIFY, b"modify"),
        (Self::PERM, b"perm"),
        (Self::UNIQUE, b"unique"),
        (Self::UNIX_MODE, b"UNIX.mode"),
    ];

    /// Reads the argument of OPTS MLST, `type;size;` (RFC 3659 §7.9). Case does not matter, facts that
    /// this server does not have are left out, and an empty argument chooses none.
    pub fn parse(argument: &[u8]) -> Self {
        let mut bits = 0;
        for word in argument.split(|&byte| byte == b';') {
            for (fact, name) in Self::NAMES {
                if name.eq_ignore_ascii_case(word) {
                    bits |= fact.bits;
                }
            }
        }
        Self { bits }
    }

    /// Appends what FEAT says after `MLST`: every fact, those in this set with a star (RFC 3659 §7.8).
    pub fn write_feat(self, out: &mut Vec<u8>) {
        for (fact, name) in Self::NAMES {
            out.extend_from_slice(name);
            out.extend_from_slice(if self.has(fact) { b"*;" } else { b";" });
        }
    }

    /// Appends the facts in this set, each with a semicolon, for the reply to OPTS MLST.
    pub fn write_selected(self, out: &mut Vec<u8>) {
        for (_, name) in Self::NAMES.into_iter().filter(|&(fact, _)| self.has(fact)) {
            out.extend_from_slice(name);
            out.push(b';');
        }
    }

    fn has(self, fact: Self) -> bool {
        self.bits & fact.bits != 0
    }
}

/// The argument of LIST, NLST or STAT, where clients send options for `ls` in front of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListArguments<'a> {
    /// `-a`: hidden names, and `.` and `..`, too.
    pub all: bool,
    /// `-A`: hidden names, but not `.` and `..`.
    pub almost_all: bool,
    /// The rest, spaces and all; empty for the current folder.
    pub path: &'a [u8],
}

impl<'a> ListArguments<'a> {
    /// Takes the words that begin with `-` off the front; letters other than `a` and `A` are ignored.
    /// `--` ends them: exactly one space after it, a path may begin with anything.
    pub fn parse(argument: Option<&'a [u8]>) -> Self {
        let mut arguments = Self { all: false, almost_all: false, path: argument.unwrap_or_default() };
        while let [b'-', _, ..] = arguments.path {
            let (word, rest) = split_word(arguments.path);
            if word == b"--" {
                arguments.path = rest;
                break;
            }
            if !word.starts_with(b"--") {
                arguments.all |= word.contains(&b'a');
                arguments.almost_all |= word.contains(&b'A');
            }
            arguments.path = without_spaces(rest);
        }
        arguments
    }
}

/// The first word, and what comes after the space that ends it.
fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let Some(space) = memchr::memchr(b' ', text) else {
        return (text, b"");
    };
    (&text[..space], &text[space + 1..])
}

fn without_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|&&byte| byte == b' ').count();
    &text[spaces..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_767_225_600; // 2026-01-01T00:00:00Z

    fn file(name: &[u8]) -> Entry<'_> {
        Entry {
            name,
            kind: Kind::File,
            mode: 0o100_644,
            size: 1_234,
            modified: NOW - 60,
            links: 1,
            device: 0x801,
            inode: 0x1F,
            target: None,
        }
    }

    fn folder(name: &[u8]) -> Entry<'_> {
        Entry { kind: Kind::Folder, mode: 0o40_755, size: 4_096, links: 12, ..file(name) }
    }

    fn link<'a>(name: &'a [u8], target: Option<&'a [u8]>) -> Entry<'a> {
        Entry { kind: Kind::Link, mode: 0o120_777, size: 3, target, ..file(name) }
    }

    fn long(entry: &Entry<'_>) -> String {
        let mut out = b"> ".to_vec();
        long_line(&mut out, entry, NOW);
        String::from_utf8(out.split_off(2)).unwrap()
    }

    fn facts(entry: &Entry<'_>, facts: Facts) -> String {
        let mut out = b"> ".to_vec();
        facts_line(&mut out, entry, facts, Perm::Read, entry.name);
        String::from_utf8(out.split_off(2)).unwrap()
    }

    #[test]
    fn long_lines_have_the_columns_of_ls() {
        for (entry, line) in [
            (file(b"a b"), "-rw-r--r--   1 ftp      ftp          1234 Dec 31 23:59 a b"),
            (folder(b"pub"), "drwxr-xr-x  12 ftp      ftp          4096 Dec 31 23:59 pub"),
            (link(b"l", None), "lrwxrwxrwx   1 ftp      ftp             3 Dec 31 23:59 l"),
            (link(b"l", Some(b"a\nb")), "lrwxrwxrwx   1 ftp      ftp             3 Dec 31 23:59 l -> a?b"),
            (
                Entry { kind: Kind::Other, mode: 0o10_600, size: 0, ..file(b"fifo") },
                "-rw-------   1 ftp      ftp             0 Dec 31 23:59 fifo",
            ),
            (
                Entry { links: 1_234, size: 12_345_678_901, ..file(b"\r\n\x1B") },
                "-rw-r--r-- 1234 ftp      ftp      12345678901 Dec 31 23:59 ???",
            ),
            (
                Entry { mode: 0o7_000, ..file(b" leading") },
                "----------   1 ftp      ftp          1234 Dec 31 23:59  leading",
            ),
        ] {
            assert_eq!(long(&entry), line);
        }
    }

    #[test]
    fn the_year_takes_the_place_of_the_time_after_180_days() {
        let limit = NOW - 180 * 86_400;
        for (modified, date) in
            [(limit, "Jul 05 00:00"), (limit - 1, "Jul 04  2025"), (NOW, "Jan 01 00:00"), (NOW + 1, "Jan 01  2026")]
        {
            let line = long(&Entry { modified, ..file(b"x") });
            assert_eq!(line, format!("-rw-r--r--   1 ftp      ftp          1234 {date} x"));
        }
    }

    #[test]
    fn facts_come_in_the_order_of_feat() {
        assert_eq!(
            facts(&file(b"a;b c"), Facts::ALL),
            "type=file;size=1234;modify=20251231235900;perm=r;unique=801U1f;UNIX.mode=0644; a;b c"
        );
        assert_eq!(
            facts(&folder(b"pub"), Facts::ALL),
            "type=dir;modify=20251231235900;perm=el;unique=801U1f;UNIX.mode=0755; pub"
        );
        assert_eq!(
            facts(&link(b"l\n", Some(b"x")), Facts::ALL),
            "type=OS.unix=symlink;modify=20251231235900;unique=801U1f;UNIX.mode=0777; l?"
        );
        assert_eq!(facts(&file(b"x"), Facts::parse(b"size;type")), "type=file;size=1234; x");
        assert_eq!(facts(&file(b"x"), Facts::parse(b"")), " x");
        assert_eq!(facts(&Entry { mode: 0o104_755, ..file(b"x") }, Facts::parse(b"UNIX.mode;")), "UNIX.mode=4755; x");
    }

    #[test]
    fn facts_are_chosen_by_name() {
        let written = |facts: Facts| {
            let (mut feat, mut selected) = (Vec::new(), Vec::new());
            facts.write_feat(&mut feat);
            facts.write_selected(&mut selected);
            (String::from_utf8(feat).unwrap(), String::from_utf8(selected).unwrap())
        };
        let (feat, selected) = written(Facts::ALL);
        assert_eq!(feat, "type*;size*;modify*;perm*;unique*;UNIX.mode*;");
        assert_eq!(selected, "type;size;modify;perm;unique;UNIX.mode;");
        assert_eq!(Facts::parse(selected.as_bytes()), Facts::ALL);
        let (feat, selected) = written(Facts::parse(b"unix.MODE;Lang;TYPE;type;sizes;"));
        assert_eq!(feat, "type*;size;modify;perm;unique;UNIX.mode*;");
        assert_eq!(selected, "type;UNIX.mode;");
        let (feat, selected) = written(Facts::parse(b""));
        assert_eq!(feat, "type;size;modify;perm;unique;UNIX.mode;");
        assert_eq!(selected, "");
    }

    #[test]
    fn options_are_taken_off_the_path() {
        let parsed = |argument: &str| {
            let arguments = ListArguments::parse(Some(argument.as_bytes()));
            let path = String::from_utf8(arguments.path.to_vec()).unwrap();
            (arguments.all, arguments.almost_all, path)
        };
        for (argument, all, almost_all, path) in [
            ("", false, false, ""),
            ("a b", false, false, "a b"),
            (" a", false, false, " a"),
            ("-a", true, false, ""),
            ("-la", true, false, ""),
            ("-al ", true, false, ""),
            ("-A", false, true, ""),
            ("-l -R -1 -F a b ", false, false, "a b "),
            ("-l -a  my folder", true, false, "my folder"),
            ("-aA x", true, true, "x"),
            ("-l -- -a", false, false, "-a"),
            ("--  a", false, false, " a"),
            ("--", false, false, ""),
            ("--almost-all x", false, false, "x"),
            ("-", false, false, "-"),
            ("a -l", false, false, "a -l"),
            ("./-a", false, false, "./-a"),
        ] {
            assert_eq!(parsed(argument), (all, almost_all, path.to_string()), "{argument:?}");
        }
        let none = ListArguments { all: false, almost_all: false, path: b"" };
        assert_eq!(ListArguments::parse(None), none);
    }

    #[test]
    fn the_longest_lines_fit_the_bound() {
        let (name, path) = ([b'n'; NAME_MAX], [b'p'; PATH_MAX]);
        let longest = Entry {
            size: u64::MAX,
            links: u64::MAX,
            device: u64::MAX,
            inode: u64::MAX,
            modified: i64::MIN,
            ..link(&name, Some(&path))
        };
        assert_eq!(long(&longest).len(), LISTING_LINE_MAX);
        for kind in [Kind::File, Kind::Folder, Kind::Link, Kind::Other] {
            let mut out = Vec::new();
            facts_line(&mut out, &Entry { kind, ..longest }, Facts::ALL, Perm::All, &path);
            assert!(out.len() <= LISTING_LINE_MAX);
        }
    }

    #[test]
    fn the_longest_facts_are_whole() {
        let most = Entry { size: u64::MAX, device: u64::MAX, inode: u64::MAX, modified: i64::MAX, ..file(b"x") };
        let facts = facts(&Entry { mode: u32::MAX, ..most }, Facts::ALL);
        let numbers = "size=18446744073709551615;modify=99991231235959;perm=r;unique=ffffffffffffffffUffffffffffffffff";
        assert_eq!(facts, format!("type=file;{numbers};UNIX.mode=7777; x"));
    }

    /// What a client that reads the columns of `ls -l` finds: kind, size, date and name.
    fn read_long(line: &str) -> Option<(u8, u64, &str, &str)> {
        let (mode, rest) = line.split_at_checked(10)?;
        let letters = mode.bytes().skip(1).zip("rwx".bytes().cycle());
        if !letters.into_iter().all(|(found, letter)| found == letter || found == b'-') {
            return None;
        }
        let mut rest = rest.strip_prefix(' ')?;
        let mut columns = [""; 4];
        for column in &mut columns {
            (*column, rest) = rest.trim_start_matches(' ').split_once(' ')?;
        }
        let [links, owner, group, size] = columns;
        links.parse::<u64>().ok()?;
        let (date, rest) = rest.split_at_checked(12)?;
        let (month, day_and_time) = date.split_once(' ')?;
        let (day, time) = day_and_time.split_once(' ')?;
        let is_time = time.len() == 5
            && match time.split_once(':') {
                Some((hour, minute)) => hour.parse::<u8>().ok()? < 24 && minute.parse::<u8>().ok()? < 60,
                None => time.trim_start().parse::<u16>().is_ok(),
            };
        let known = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(' ').any(|name| name == month);
        let is_day = (1..=31).contains(&day.parse::<u8>().ok()?);
        if (owner, group) != ("ftp", "ftp") || !known || !is_day || !is_time {
            return None;
        }
        Some((mode.as_bytes()[0], size.parse().ok()?, date, rest.strip_prefix(' ')?))
    }

    proptest! {
        #[test]
        fn clients_find_the_columns(
            kind in prop::sample::select(vec![Kind::File, Kind::Folder, Kind::Link, Kind::Other]),
            mode in any::<u32>(),
            size in prop_oneof![0u64..100_000, any::<u64>()],
            links in prop_oneof![1u64..2_000, any::<u64>()],
            modified in prop_oneof![NOW - 40_000_000..NOW + 40_000_000, any::<i64>()],
            name in "[ -~]{1,30}",
        ) {
            let entry = Entry { kind, mode, size, links, modified, ..file(name.as_bytes()) };
            let line = long(&entry);
            let (letter, read_size, date, read_name) = read_long(&line).unwrap();
            prop_assert_eq!((read_size, read_name), (size, &name[..]));
            prop_assert_eq!(letter == b'd', kind == Kind::Folder);
            prop_assert_eq!(letter == b'l', kind == Kind::Link);
            let recent = (0..=180 * 86_400).contains(&NOW.saturating_sub(modified));
            prop_assert_eq!(date.contains(':'), recent);
        }

        #[test]
        fn no_name_ends_a_line(name in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut out = Vec::new();
            long_line(&mut out, &link(&name, Some(&name)), NOW);
            facts_line(&mut out, &file(&name), Facts::ALL, Perm::Add, &name);
            prop_assert!(!out.iter().any(u8::is_ascii_control));
        }

        #[test]
        fn numbers_are_written_as_usual(number in any::<u64>(), shift in 0u32..64, width in 0usize..12) {
            let number = number >> shift;
            let mut text = Backwards::new();
            text.put(b";");
            text.hexadecimal(number);
            text.put(b"U");
            text.number(number, width);
            let expected = format!("{number:width$}U{number:x};");
            prop_assert_eq!(text.written(), expected.as_bytes());
        }

        #[test]
        fn any_argument_is_read(argument in proptest::collection::vec(any::<u8>(), 0..40)) {
            let arguments = ListArguments::parse(Some(&argument));
            prop_assert!(argument.ends_with(arguments.path));
            let _ = Facts::parse(&argument);
        }
    }
}
