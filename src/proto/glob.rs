//! Patterns in the last element of a LIST or NLST path.
//!
//! Matches one name against one pattern, both bytes, without a locale. Never looks at folders, never
//! expands braces, never recurses, and does a bounded amount of work for any pattern.

use memchr::memchr3;

use crate::limits::GLOB_STEPS_MAX;

/// Whether a name has `*`, `?` or `[` in it, so that it may stand for others.
pub fn is_pattern(name: &[u8]) -> bool {
    memchr3(b'*', b'?', b'[', name).is_some()
}

/// Whether the pattern fits the whole name. `*` fits any bytes, `?` one, `[abc]` and `[a-z]` one of
/// those, `[!x]` and `[^x]` one other; a `]` right at the start of a set belongs to it, a `[` that is
/// never closed fits itself, as does every other byte. As in `ls`, a dot at the start of the name is
/// fit only by a dot. False if it takes more than [`GLOB_STEPS_MAX`] steps to tell.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    fit(pattern, name, &mut Steps { left: GLOB_STEPS_MAX }).unwrap_or(false)
}

/// What may still be done, in bytes of the pattern looked at.
struct Steps {
    left: usize,
}

impl Steps {
    fn take(&mut self, count: usize) -> Option<()> {
        self.left = self.left.checked_sub(count)?;
        Some(())
    }
}

/// `None` if there were not enough steps. Only the latest `*` is ever tried again: what an earlier one
/// could still gain, the later one gains as well.
fn fit(pattern: &[u8], name: &[u8], steps: &mut Steps) -> Option<bool> {
    let (mut at, mut rest) = (0, name);
    let mut retry: Option<(usize, &[u8])> = None;
    loop {
        steps.take(1)?;
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, rest));
            continue;
        }
        let fitted = match (&pattern[at..], rest) {
            ([], []) => return Some(true),
            (element, [byte, after @ ..]) => fit_one(element, *byte, steps)?.map(|n| (n, after)),
            _ => None,
        };
        if let Some((length, after)) = fitted {
            at += length;
            rest = after;
            continue;
        }
        // The latest `*` takes one byte more, if there is one to take.
        let Some((after_star, [_, later @ ..])) = retry else {
            return Some(false);
        };
        retry = Some((after_star, later));
        (at, rest) = (after_star, later);
    }
}

/// The length of the first element of the pattern if it fits the byte; the outer `None` means that
/// there were not enough steps.
fn fit_one(pattern: &[u8], byte: u8, steps: &mut Steps) -> Option<Option<usize>> {
    let (fits, length) = match pattern {
        [] => (false, 0),
        [b'?', ..] => (true, 1),
        [b'[', set @ ..] => match fit_set(set, byte, steps)? {
            Some((fits, length)) => (fits, length + 1),
            None => (byte == b'[', 1),
        },
        [literal, ..] => (*literal == byte, 1),
    };
    Some(fits.then_some(length))
}

/// Whether the set, given from behind its `[`, has the byte in it, and its length with the `]`; the
/// inner `None` means that it is never closed.
fn fit_set(set: &[u8], byte: u8, steps: &mut Steps) -> Option<Option<(bool, usize)>> {
    let negated = matches!(set, [b'!' | b'^', ..]);
    let first = usize::from(negated);
    let mut at = first;
    let mut found = false;
    loop {
        steps.take(1)?;
        let (low, high, length) = match &set[at..] {
            [] => return Some(None),
            [b']', ..] if at > first => return Some(Some((found != negated, at + 1))),
            [low, b'-', high, ..] if *high != b']' => (*low, *high, 3),
            [single, ..] => (*single, *single, 1),
        };
        found |= (low..=high).contains(&byte);
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps_of(pattern: &[u8], name: &[u8]) -> (Option<bool>, usize) {
        let mut steps = Steps { left: GLOB_STEPS_MAX };
        let fitted = fit(pattern, name, &mut steps);
        (fitted, GLOB_STEPS_MAX - steps.left)
    }

    #[test]
    fn patterns_are_known_by_their_bytes() {
        for pattern in [&b"*"[..], b"a?", b"[", b"a[b]"] {
            assert!(is_pattern(pattern));
        }
        for name in [&b""[..], b"a", b"]", b"{a,b}", b"\\"] {
            assert!(!is_pattern(name));
        }
    }

    #[test]
    fn names_that_fit() {
        for (pattern, name) in [
            ("", ""),
            ("*", ""),
            ("*", "a"),
            ("**", "abc"),
            ("*.txt", "a.txt"),
            ("a*b*c", "aXbbYc"),
            ("a?c", "abc"),
            ("[abc]", "b"),
            ("[a-c]x", "bx"),
            ("[!a-c]", "d"),
            ("[^a]", "b"),
            ("[]a]", "]"),
            ("[!]]", "a"),
            ("[a-]", "-"),
            ("[-a]", "-"),
            ("[[]", "["),
            ("a[b", "a[b"),
            ("[", "["),
            ("[]", "[]"),
            ("[!", "[!"),
            ("*[", "a["),
            ("{a,b}", "{a,b}"),
            ("a\\*", "a\\b"),
            (".*", ".hidden"),
            ("a*", "a.b"),
        ] {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn names_that_do_not_fit() {
        for (pattern, name) in [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("a", "A"),
            ("*.txt", "a.txt2"),
            ("a?c", "ac"),
            ("[abc]", "d"),
            ("[!a-c]", "b"),
            ("[c-a]", "b"),
            ("[a-]", "b"),
            ("{a,b}", "a"),
            ("*", ".hidden"),
            ("?hidden", ".hidden"),
            ("[.]hidden", ".hidden"),
            ("[!a]hidden", ".hidden"),
        ] {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn malicious_patterns_end_within_the_cap() {
        let name = [b'a'; 255];
        let (fitted, steps) = steps_of(&[&b"a*".repeat(100)[..], b"b"].concat(), &name);
        assert_eq!(fitted, Some(false));
        assert!(steps < 1_000, "{steps}");
        for (pattern, byte) in [
            ([&b"*"[..], &[b'a'; 127], b"b"].concat(), b'a'),
            ([&b"*"[..], &b"[a-z]".repeat(60), b"b"].concat(), b'a'),
            (b"[".repeat(4096), b'['),
        ] {
            let name = [byte; 255];
            assert_eq!(steps_of(&pattern, &name).0, None, "{}", pattern.len());
            assert!(!matches(&pattern, &name));
        }
        let costly = [&b"*"[..], &[b'a'; 127], b"b"].concat();
        assert!(matches(&costly, &[&[b'a'; 130][..], b"b"].concat()));
        assert!(!matches(&costly, &[&[b'a'; 250][..], b"b"].concat()));
        assert!(matches(&[b'*'; 4096], &name));
    }

    /// The same rules, by trying everything.
    fn reference(pattern: &[u8], name: &[u8]) -> bool {
        let Some((&first, later)) = pattern.split_first() else {
            return name.is_empty();
        };
        if first == b'*' {
            return (0..=name.len()).any(|taken| reference(later, &name[taken..]));
        }
        let Some((&byte, rest)) = name.split_first() else {
            return false;
        };
        if first == b'[' {
            let negated = later.starts_with(b"!") || later.starts_with(b"^");
            let body = &later[usize::from(negated)..];
            if let Some(close) = (1..body.len()).find(|&at| body[at] == b']') {
                let fits = members(&body[..close]).contains(&byte) != negated;
                return fits && reference(&body[close + 1..], rest);
            }
        }
        (first == b'?' || first == byte) && reference(later, rest)
    }

    /// The members of a set, given without its brackets and negation.
    fn members(body: &[u8]) -> Vec<u8> {
        let mut members = Vec::new();
        let mut rest = body;
        while let Some((&low, later)) = rest.split_first() {
            if let Some(&[b'-', high]) = later.get(..2) {
                members.extend(low..=high);
                rest = &later[2..];
            } else {
                members.push(low);
                rest = later;
            }
        }
        members
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(
            pattern in proptest::collection::vec(prop::sample::select(&b"ab*?[]!^-.c"[..]), 0..10),
            name in proptest::collection::vec(prop::sample::select(&b"ab[]-.c"[..]), 0..8),
        ) {
            let hidden = name.starts_with(b".") && !pattern.starts_with(b".");
            let expected = !hidden && reference(&pattern, &name);
            prop_assert_eq!(matches(&pattern, &name), expected);
        }

        #[test]
        fn a_name_fits_itself_and_stars(name in proptest::collection::vec(any::<u8>(), 0..60)) {
            let plain: Vec<u8> = name.into_iter().filter(|byte| !b"*?[".contains(byte)).collect();
            prop_assert!(matches(&plain, &plain));
            let starred: Vec<u8> = plain.iter().flat_map(|&byte| [byte, b'*']).collect();
            prop_assert!(matches(&starred, &plain));
        }

        #[test]
        fn any_bytes_end_within_the_cap(
            pattern in proptest::collection::vec(any::<u8>(), 0..600),
            name in proptest::collection::vec(any::<u8>(), 0..255),
        ) {
            let (_, steps) = steps_of(&pattern, &name);
            prop_assert!(steps <= GLOB_STEPS_MAX);
        }
    }
}
