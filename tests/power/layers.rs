//! One thing on the disk, a file's bytes or a folder's names, as it is and as much of it as is
//! promised to be there after a power cut; and what may be there instead.

use crate::dice::Dice;

/// A content, and how it changes.
pub trait Content: Clone + Default {
    type Change: Clone;

    fn apply(&mut self, change: &Self::Change);

    /// What reaches the disk of a change that the cut hits in the middle.
    fn torn(change: &Self::Change, dice: &mut Dice) -> Vec<Self::Change>;

    /// What reaches a disk that writes from front to back.
    fn begun(change: &Self::Change, dice: &mut Dice) -> Vec<Self::Change>;
}

/// What a power cut leaves of the changes that no sync covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// Of each file and each folder the first few, and perhaps a part of the next.
    InOrder,
    /// Of each file and each folder any, whole or in part.
    Any,
    /// The first few, and the beginning of the next, with the file just as long.
    Begun,
}

/// A content on the disk.
#[derive(Clone)]
pub struct Layers<C: Content> {
    pub current: C,
    durable: C,
    /// What is not covered by a sync, and when it was done.
    pending: Vec<(u64, C::Change)>,
}

impl<C: Content> Default for Layers<C> {
    fn default() -> Self {
        Self::durable(C::default())
    }
}

impl<C: Content> Layers<C> {
    /// One that was on the disk before anything was recorded.
    pub fn durable(content: C) -> Self {
        Self { current: content.clone(), durable: content, pending: Vec::new() }
    }

    pub fn change(&mut self, now: u64, change: C::Change) {
        self.current.apply(&change);
        self.pending.push((now, change));
    }

    /// Covers what was done before the moment at which a sync began.
    pub fn sync(&mut self, began: u64) {
        let covered = self.pending.partition_point(|(done, _)| *done < began);
        for (_, change) in self.pending.drain(..covered) {
            self.durable.apply(&change);
        }
    }

    /// What a power cut leaves.
    pub fn remains(&self, survival: Survival, dice: &mut Dice) -> C {
        let mut left = self.durable.clone();
        let mut whole = match survival {
            Survival::Nothing => return left,
            Survival::InOrder | Survival::Begun => dice.below(self.pending.len() as u64 + 1),
            Survival::Any => 0,
        };
        // Now and then all of a file is there and another one is not.
        let odds = [0, 1, 2, 3, 4][dice.below(5) as usize];
        for (_, change) in &self.pending {
            let is_kept = match survival {
                Survival::Nothing => false,
                Survival::InOrder if whole == 0 => {
                    C::torn(change, dice).iter().for_each(|part| left.apply(part));
                    break;
                }
                Survival::Begun if whole == 0 => {
                    C::begun(change, dice).iter().for_each(|part| left.apply(part));
                    break;
                }
                Survival::InOrder | Survival::Begun => {
                    whole -= 1;
                    true
                }
                Survival::Any => dice.below(4) < odds,
            };
            if is_kept && survival == Survival::Any && dice.below(8) == 0 {
                C::torn(change, dice).iter().for_each(|part| left.apply(part));
            } else if is_kept {
                left.apply(change);
            }
        }
        left
    }
}
