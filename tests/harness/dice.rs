//! Random choices that a seed repeats, and the seed of this run.

// Each test binary takes the part that it needs.
#![allow(dead_code)]

use uuid::Uuid;

/// The seed of this run; `ONCED_TEST_SEED` repeats another one's choices, though not the
/// moments at which its threads ran.
pub fn seed() -> u64 {
    let seed = match std::env::var("ONCED_TEST_SEED") {
        Ok(seed) => seed.parse().expect("ONCED_TEST_SEED is a number"),
        Err(_) => Uuid::new_v4().as_u64_pair().0,
    };
    println!("ONCED_TEST_SEED={seed}");
    seed
}

/// Random choices that a seed repeats (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    pub fn bytes(&mut self, max: u64) -> Vec<u8> {
        (0..self.below(max)).map(|_| self.roll() as u8).collect()
    }
}
