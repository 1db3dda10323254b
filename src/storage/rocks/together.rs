//! How many records are read together.
//!
//! What is reserved is mostly not on record, and to find that out for several keys at once takes
//! RocksDB little more than half of the time. The sweeper, which finds its records, is spared a
//! fifth of its time. But RocksDB reads whatever it finds, and records may be large. So they are
//! read together only as long as they are small: where one was not, those that come next are read
//! alone, and then two together, four, and so on.

use super::batch::Found;

/// So many are read alone after one that is large.
const ALONE: usize = 1_024;

/// What was learned from the records that were read last.
#[derive(Debug)]
pub struct Together {
    most: usize,
    /// How many come next together,
    next: usize,
    /// after so many that are read alone.
    alone: usize,
}

impl Together {
    /// At most so many; one: never.
    pub fn at_most(most: usize) -> Self {
        Self { most: most.max(1), next: 2, alone: 0 }
    }

    /// Reads those under `record_keys` that are to be read together, and shows what it found; all
    /// others are left to be read alone. `read` takes several keys, in order and none of them twice.
    pub fn read<'k>(
        &mut self,
        mut record_keys: Vec<&'k [u8]>,
        read: impl Fn(&[&'k [u8]]) -> Vec<Option<Found>>,
        mut show: impl FnMut(&'k [u8], Found),
    ) {
        record_keys.sort_unstable();
        record_keys.dedup();
        let mut rest = record_keys.as_slice();
        while let Some(next) = self.split_off(&mut rest) {
            let found = read(next);
            self.learn(found.iter().all(Option::is_some));
            for (record_key, found) in next.iter().zip(found) {
                if let Some(found) = found {
                    show(record_key, found);
                }
            }
        }
    }

    /// Takes from `keys` those that are to be read together next, after those that are not;
    /// `None`: no more of them are. [`Together::learn`] is told what they were.
    fn split_off<'k, K>(&mut self, keys: &mut &'k [K]) -> Option<&'k [K]> {
        let (_, rest) = keys.split_at(self.alone.min(keys.len()));
        self.alone -= keys.len() - rest.len();
        let (next, rest) = rest.split_at(self.next.min(self.most).min(rest.len()));
        *keys = rest;
        // One is read as quickly alone.
        (next.len() > 1).then_some(next)
    }

    /// Whether all of them were small.
    fn learn(&mut self, all_small: bool) {
        if all_small {
            self.next = (2 * self.next).min(self.most);
        } else {
            (self.next, self.alone) = (2, ALONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `count` are read together, and how many alone before each.
    fn parts(together: &mut Together, count: usize, all_small: bool) -> Vec<(usize, usize)> {
        let keys: Vec<_> = (0..count).collect();
        let (mut rest, mut parts, mut at) = (keys.as_slice(), Vec::new(), 0);
        while let Some(next) = together.split_off(&mut rest) {
            parts.push((next[0] - at, next.len()));
            at = next[0] + next.len();
            together.learn(all_small);
        }
        parts
    }

    #[test]
    fn small_ones_are_read_together_and_those_after_a_large_one_alone() {
        let mut together = Together::at_most(32);
        let sizes: Vec<_> = parts(&mut together, 100, true).iter().map(|part| part.1).collect();
        assert_eq!(sizes, [2, 4, 8, 16, 32, 32, 6]);

        // Of two thousand that are large no more than two are read at once.
        assert_eq!(parts(&mut together, 33, false), [(0, 32)]);
        assert_eq!(parts(&mut together, 2_056, false), [(ALONE - 1, 2), (ALONE, 2)]);
        assert_eq!(parts(&mut together, ALONE - 5, true), []);
        assert_eq!(parts(&mut together, 8, true), [(0, 2), (0, 4), (0, 2)]);
    }

    #[test]
    fn where_only_one_may_be_read_none_are_read_together() {
        assert_eq!(parts(&mut Together::at_most(1), 100, true), []);
        assert_eq!(parts(&mut Together::at_most(0), 100, true), []);
        assert_eq!(parts(&mut Together::at_most(32), 1, true), []);
    }
}
