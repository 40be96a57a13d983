//! Patterns: what a naive matcher says, as long as the steps suffice; and never longer than those.

use super::part;
use plimsoll::limits::GLOB_STEPS_MAX;
use plimsoll::proto::glob::{is_pattern, matches};
use std::time::{Duration, Instant};

/// A pattern, its length before it, and a name.
pub fn check(mut data: &[u8]) {
    let pattern = part(&mut data);
    let name = data;
    let begun = Instant::now();
    let matched = matches(pattern, name);
    // 8,192 steps are microseconds; only what does not end takes this long.
    assert!(begun.elapsed() < Duration::from_secs(5));
    let hidden = name.starts_with(b".") && !pattern.starts_with(b".");
    let expected = !hidden && fits(pattern, name);
    assert!(expected || !matched, "{pattern:?} must not fit {name:?}");
    // Each place at which a `*` can end costs one way through the pattern, and each `[` in it another.
    let most = (name.len() + 1) * (pattern.len() + 2) * (pattern.len() + 2);
    if most <= GLOB_STEPS_MAX {
        assert_eq!(matched, expected, "{pattern:?} and {name:?}");
    }
    if !is_pattern(pattern) && pattern.len() < GLOB_STEPS_MAX {
        assert_eq!(matched, pattern == name, "{pattern:?} stands for itself");
    }
}

enum Element {
    Star,
    Any,
    One(u8),
    Set(Vec<(u8, u8)>, bool),
}

/// The pattern as elements first, and then every way in which they can fit.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let elements = elements(pattern);
    // `reached[n]`: the elements so far fit the first n bytes of the name.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for element in &elements {
        let mut next = vec![false; name.len() + 1];
        if let Element::Star = element {
            let first = reached.iter().position(|&r| r).unwrap_or(reached.len());
            next[first..].fill(true);
        } else {
            for (at, &byte) in name.iter().enumerate().filter(|(at, _)| reached[*at]) {
                next[at + 1] = match element {
                    Element::Star => unreachable!("above"),
                    Element::Any => true,
                    Element::One(one) => *one == byte,
                    Element::Set(ranges, negated) => {
                        ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *negated
                    }
                };
            }
        }
        reached = next;
    }
    reached[name.len()]
}

fn elements(mut pattern: &[u8]) -> Vec<Element> {
    let mut elements = Vec::new();
    while let Some((&first, rest)) = pattern.split_first() {
        pattern = rest;
        elements.push(match first {
            b'*' => Element::Star,
            b'?' => Element::Any,
            b'[' => match set(rest) {
                Some((set, later)) => {
                    pattern = later;
                    set
                }
                None => Element::One(b'['),
            },
            other => Element::One(other),
        });
    }
    elements
}

fn set(body: &[u8]) -> Option<(Element, &[u8])> {
    let (negated, body) = match body {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, body),
    };
    let mut ranges = Vec::new();
    let mut rest = body;
    loop {
        match rest {
            [] => return None,
            [b']', later @ ..] if !ranges.is_empty() => return Some((Element::Set(ranges, negated), later)),
            [low, b'-', high, later @ ..] if *high != b']' => {
                ranges.push((*low, *high));
                rest = later;
            }
            [one, later @ ..] => {
                ranges.push((*one, *one));
                rest = later;
            }
        }
    }
}
