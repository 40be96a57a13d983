//! Listings: the arguments of LIST, the facts of MLST, and lines that stay lines.

use super::{byte, part};
use plimsoll::limits::{NAME_MAX, PATH_MAX};
use plimsoll::proto::listing::{Entry, Facts, Kind, LISTING_LINE_MAX, ListArguments, Perm, facts_line, long_line};
use plimsoll::proto::pathname::shown;

/// The bytes are an argument, and then an entry of a folder.
pub fn check(data: &[u8]) {
    arguments(data);
    facts(data);
    lines(data);
}

fn arguments(data: &[u8]) {
    assert_eq!(ListArguments::parse(None), ListArguments::parse(Some(b"")));
    let parsed = ListArguments::parse(Some(data));
    assert!(data.ends_with(parsed.path), "the path is what was given");
    let taken = &data[..data.len() - parsed.path.len()];
    assert!(taken.is_empty() || taken.starts_with(b"-"), "only options are taken off");
    for (set, letter) in [(parsed.all, b'a'), (parsed.almost_all, b'A')] {
        let words = taken.split(|&b| b == b' ');
        let asked = words.filter(|word| !word.starts_with(b"--")).any(|word| word.contains(&letter));
        assert_eq!(set, asked, "{data:?}");
    }
    if !taken.split(|&b| b == b' ').any(|word| word == b"--") {
        assert!(!matches!(parsed.path, [b'-', _, ..]), "an option is left in {data:?}");
    }
}

fn facts(data: &[u8]) {
    let facts = Facts::parse(data);
    let mut selected = Vec::new();
    facts.write_selected(&mut selected);
    assert_eq!(Facts::parse(&selected), facts);
    assert!(selected.is_ascii());
    let mut feat = Vec::new();
    facts.write_feat(&mut feat);
    assert_eq!(feat.split(|&b| b == b';').count(), 7);
}

fn lines(mut data: &[u8]) {
    let mut number = || (0..8).fold(0, |number, _| number << 8 | u64::from(byte(&mut data)));
    let (size, modified, links, device, inode, now) = (number(), number(), number(), number(), number(), number());
    let flags = byte(&mut data);
    let kind = [Kind::File, Kind::Folder, Kind::Link, Kind::Other][usize::from(flags & 3)];
    let name = part(&mut data);
    let name = &name[..name.len().min(NAME_MAX)];
    let target = &data[..data.len().min(PATH_MAX)];
    let entry = Entry {
        name,
        kind,
        mode: u32::from(flags) << 4,
        size,
        modified: modified.cast_signed(),
        links,
        device,
        inode,
        target: (flags & 4 != 0).then_some(target),
    };
    let mut end = Vec::new();
    shown(name, &mut end);
    if let (Kind::Link, Some(target)) = (kind, entry.target) {
        end.extend_from_slice(b" -> ");
        shown(target, &mut end);
    }
    let mut line = Vec::new();
    long_line(&mut line, &entry, now.cast_signed());
    one_line(&line, &end);
    assert_eq!(line[0], [b'-', b'd', b'l', b'-'][usize::from(flags & 3)]);

    for (shown_name, facts) in [(name, Facts::ALL), (target, Facts::parse(b"type;unique"))] {
        let mut line = Vec::new();
        facts_line(&mut line, &entry, facts, Perm::All, shown_name);
        let mut end = b" ".to_vec();
        shown(shown_name, &mut end);
        one_line(&line, &end);
        // A client splits at the first space: no fact may hold one.
        let first = line.iter().position(|&b| b == b' ').expect("a space");
        let given = |fact: &[u8]| line[..first].split(|&b| b == b';').any(|part| part.starts_with(fact));
        if facts == Facts::ALL {
            assert_eq!(given(b"size="), kind == Kind::File);
            assert_eq!(given(b"perm="), matches!(kind, Kind::File | Kind::Folder));
        }
        assert_eq!(line.len() - first, end.len());
        assert!(line[..first].ends_with(b";"));
    }
}

fn one_line(line: &[u8], end: &[u8]) {
    assert!(line.len() <= LISTING_LINE_MAX, "{} bytes", line.len());
    assert!(!line.iter().any(u8::is_ascii_control));
    assert!(line.ends_with(end));
}
