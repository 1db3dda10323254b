//! Two tokens with different jobs: the owner token proves possession to onced, the
//! fencing token orders owners for systems downstream.

use std::fmt;

use super::Moment;

/// A random UUID, known to the owner of a reservation and to nobody else.
#[derive(Clone, Copy)]
pub struct OwnerToken([u8; 16]);

impl OwnerToken {
    /// The token with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the token. They are stored and handed to the owner, never shown.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Takes the same time for every pair of tokens, so that a guess learns nothing from how
/// long its refusal took.
impl PartialEq for OwnerToken {
    fn eq(&self, other: &Self) -> bool {
        (u128::from_ne_bytes(self.0) ^ u128::from_ne_bytes(other.0)) == 0
    }
}

impl Eq for OwnerToken {}

impl fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerToken(…)")
    }
}

/// A positive number, strictly increasing per key, for ever. Martin Kleppmann's "How to do
/// distributed locking" shows what it is for: a store that refuses smaller numbers than it
/// has seen is safe from owners that paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(i64);

///
/// # Why a restored store goes on where the clock says
///
/// A store that was restored from a backup cannot know which tokens were given out since, by the
/// store that the backup was made of or by an earlier restore of the same backup. So it goes on
/// at a number that rises with the time of day, by [`FencingToken::PER_MILLISECOND`], far faster
/// than any engine gives tokens out: whatever was given before the restore is smaller. That
/// holds for any number of restores, of whatever backups, as long as each is made at a later
/// time of day than the one before. In between tokens are counted one by one as ever, so that a
/// restart, a purge or a step of the clock changes nothing about them.
///
/// The numbers stay below 2^53 until the year 2094: whoever holds them as doubles, as scripts
/// in JavaScript or Lua do, compares them rightly.
impl FencingToken {
    /// The first token that an engine gives out.
    pub const FIRST: Self = Self(1);

    /// When the tokens of restored stores begin to rise: 2025-01-01T00:00:00Z.
    const RESTORES_SINCE: Moment = Moment::from_millis(1_735_689_600_000);

    /// By how much they rise in a millisecond.
    const PER_MILLISECOND: i64 = 4_096;

    /// A token that is larger than all that a store has given out before the moment `now` of the
    /// time of day. `None` where that is too early or too late to be true.
    pub const fn surely_new_at(now: Moment) -> Option<Self> {
        let millis = now.as_millis().saturating_sub(Self::RESTORES_SINCE.as_millis());
        if millis <= 0 {
            return None;
        }
        match millis.checked_mul(Self::PER_MILLISECOND) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The token with this number, unless it is not positive.
    pub const fn new(number: i64) -> Option<Self> {
        if number > 0 { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The token after this one.
    ///
    /// # Panics
    ///
    /// After 2^63 - 1 grants: 292 years at a thousand million a second.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(number) => Self(number),
            None => panic!("fencing tokens are used up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Option<FencingToken> {
        FencingToken::surely_new_at(Moment::from_millis(millis))
    }

    #[test]
    fn after_a_restore_tokens_go_on_where_the_clock_says() {
        let noon = 1_800_000_000_000;
        assert_eq!(at(noon).map(FencingToken::get), Some(263_415_398_400_000));
        // More than any engine gives out in the meantime.
        assert_eq!(at(noon + 1).unwrap().get() - at(noon).unwrap().get(), 4_096);
        // In 2094 they still are exact as doubles.
        assert!(at(3_913_056_000_000).unwrap().get() < 1 << 53);
    }

    #[test]
    fn a_clock_that_is_not_set_gives_none() {
        assert_eq!(at(0), None);
        assert_eq!(at(1_735_689_600_000), None);
        assert_eq!(at(i64::MAX), None);
    }
}
