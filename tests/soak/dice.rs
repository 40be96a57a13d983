//! Numbers that look random and are the same for the same seed (splitmix64).

/// A source of numbers.
pub struct Dice(u64);

impl Dice {
    /// The numbers of one client of a run.
    pub fn new(seed: u64, client: u64) -> Dice {
        let mut dice = Dice(seed ^ client.wrapping_mul(0xD1B5_4A32_D192_ED03));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }

    /// One of 256.
    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }

    /// True in one of two cases.
    pub fn coin(&mut self) -> bool {
        self.byte() & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_day_and_another_another() {
        let throws = |seed, client| {
            let mut dice = Dice::new(seed, client);
            (0..8).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(throws(1, 7), throws(1, 7));
        assert_ne!(throws(1, 7), throws(2, 7));
        assert_ne!(throws(1, 7), throws(1, 8));
    }
}
