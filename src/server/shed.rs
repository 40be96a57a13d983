//! Whom to end when others wait: decided purely, on what the reaper has seen.
//!
//! Those who do nothing go first: not logged in before logged in, from the address that holds the most,
//! the longest idle first. A transfer that moves is never chosen.

use super::registry::{AddressKey, Visit};
use crate::data::pulse::Phase;
use std::cmp::Reverse;
use std::time::Duration;

/// One who might be ended.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// The slot.
    pub index: usize,
    /// Who is in it.
    pub visit: Visit,
    /// What it does.
    pub class: Class,
    /// How long it has done nothing else.
    pub idle: Duration,
    /// Whose it is.
    pub address: AddressKey,
    /// Sessions of that address.
    pub held: usize,
}

/// Kinds of idleness, in the order in which they are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Not logged in.
    Stranger,
    /// Logged in, at the prompt.
    Prompt,
    /// Waiting for a data connection, or for its replies to be read.
    Waiting,
    /// In a transfer that does not move.
    Stalled,
}

/// Whether a session may be ended for others, and as what.
#[must_use]
pub fn class(
    phase: Phase,
    logged_in: bool,
    idle: Duration,
    unmoved: Duration,
    after: Duration,
) -> Option<(Class, Duration)> {
    let (class, idle) = match phase {
        Phase::Vacant | Phase::Queued | Phase::Work => return None,
        Phase::Login => (Class::Stranger, idle),
        Phase::Command => (Class::Prompt, idle),
        Phase::Reply if !logged_in => (Class::Stranger, idle),
        Phase::Connect | Phase::Reply => (Class::Waiting, idle),
        Phase::Transfer => (Class::Stalled, unmoved),
        Phase::Finish => (Class::Stalled, idle),
    };
    (idle >= after).then_some((class, idle))
}

/// Takes the one who goes first out of the candidates, and counts it off its address.
pub fn next(candidates: &mut Vec<Candidate>) -> Option<Candidate> {
    let first = candidates
        .iter()
        .enumerate()
        .min_by_key(|(_, c)| (c.class, Reverse(c.held), Reverse(c.idle)))
        .map(|(position, _)| position)?;
    let chosen = candidates.swap_remove(first);
    for other in candidates.iter_mut().filter(|c| c.address == chosen.address) {
        other.held = other.held.saturating_sub(1);
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AFTER: Duration = Duration::from_secs(2);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn candidate(index: usize, class: Class, idle: u64, address: u8, held: usize) -> Candidate {
        let visit = Visit::for_tests(index as u64);
        let address = AddressKey::of(std::net::Ipv4Addr::new(10, 0, 0, address).into());
        Candidate { index, visit, class, idle: seconds(idle), address, held }
    }

    fn order(mut candidates: Vec<Candidate>) -> Vec<usize> {
        std::iter::from_fn(|| next(&mut candidates).map(|c| c.index)).collect()
    }

    #[test]
    fn strangers_go_before_those_who_are_logged_in() {
        let candidates = vec![
            candidate(0, Class::Stalled, 99, 1, 9),
            candidate(1, Class::Prompt, 50, 1, 9),
            candidate(2, Class::Stranger, 3, 2, 1),
            candidate(3, Class::Waiting, 60, 1, 9),
        ];
        assert_eq!(order(candidates), [2, 1, 3, 0]);
    }

    #[test]
    fn the_address_that_holds_the_most_pays_first_until_it_holds_no_more_than_others() {
        let mut candidates: Vec<_> = (0..3).map(|n| candidate(n, Class::Prompt, 10 + n as u64, 1, 3)).collect();
        candidates.push(candidate(3, Class::Prompt, 500, 2, 1));
        assert_eq!(order(candidates), [2, 1, 3, 0]);
    }

    #[test]
    fn what_moves_or_only_just_came_is_no_candidate() {
        let ask =
            |phase, idle, unmoved| class(phase, true, seconds(idle), seconds(unmoved), AFTER).map(|(class, _)| class);
        assert_eq!(ask(Phase::Command, 1, 0), None);
        assert_eq!(ask(Phase::Command, 2, 0), Some(Class::Prompt));
        assert_eq!(ask(Phase::Transfer, 1000, 0), None, "a transfer that moves");
        assert_eq!(ask(Phase::Transfer, 1000, 1), None);
        assert_eq!(ask(Phase::Transfer, 1000, 2), Some(Class::Stalled));
        assert_eq!(ask(Phase::Queued, 1000, 1000), None);
        assert_eq!(ask(Phase::Vacant, 1000, 1000), None);
    }

    proptest! {
        #[test]
        fn everyone_is_chosen_once(count in 0usize..40, seed: u64) {
            let candidates: Vec<_> = (0..count)
                .map(|n| {
                    let bits = seed.rotate_left(u32::try_from(n).unwrap());
                    candidate(n, [Class::Stranger, Class::Prompt, Class::Stalled][n % 3], bits % 100, (bits % 5) as u8, (bits % 7) as usize)
                })
                .collect();
            let mut chosen = order(candidates);
            chosen.sort_unstable();
            prop_assert_eq!(chosen, (0..count).collect::<Vec<_>>());
        }
    }
}
