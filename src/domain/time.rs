//! Moments and spans in whole milliseconds, and the bounds that spans are held to.
//!
//! Nothing here asks what time it is: `clock.rs` does.

use std::fmt;

/// A moment on the engine's clock: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

impl Moment {
    /// The moment at this many milliseconds since 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment and `span` later; the end of time where that is past it.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long it is from `earlier` to this moment; zero where `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> Span {
        let millis = self.0.saturating_sub(earlier.0);
        Span(if millis < 0 { 0 } else { millis })
    }
}

/// A length of time in milliseconds, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(i64);

impl Span {
    /// The span of this many milliseconds; zero where they are negative.
    pub const fn from_millis(millis: i64) -> Self {
        Self(if millis < 0 { 0 } else { millis })
    }

    /// The span of this many seconds; zero where they are negative.
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs.saturating_mul(1_000))
    }

    /// Milliseconds.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The same span as std has it.
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.unsigned_abs())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_std())
    }
}

/// What a span in a request is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanBounds {
    /// The shortest; shorter ones are raised to it.
    pub min: Span,
    /// What an absent one stands for.
    pub default: Span,
    /// The longest; longer ones are cut to it.
    pub max: Span,
}

impl SpanBounds {
    /// Leases unless configured otherwise: 30 s, from 100 ms to 24 h.
    pub const LEASE: Self = Self {
        min: Span::from_millis(100),
        default: Span::from_secs(30),
        max: Span::from_secs(24 * 60 * 60),
    };

    /// Retention unless configured otherwise: 24 h, from 100 ms to 90 days.
    pub const RETENTION: Self = Self {
        min: Span::from_millis(100),
        default: Span::from_secs(24 * 60 * 60),
        max: Span::from_secs(90 * 24 * 60 * 60),
    };

    /// The span in force for one that was `asked` for.
    pub fn settle(&self, asked: Option<Span>) -> Span {
        asked.unwrap_or(self.default).clamp(self.min, self.max)
    }
}
