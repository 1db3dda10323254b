//! What is kept of a stream: all of it up to a bound, and above that its beginning and its
//! end.
//!
//! Why both: the beginning says what was begun, and the end of a log says why it ended.

use std::collections::VecDeque;

/// A stream that is being captured.
#[derive(Debug)]
pub(super) struct Capture {
    head: Vec<u8>,
    head_room: usize,
    /// The latest bytes behind the head.
    tail: VecDeque<u8>,
    tail_room: usize,
    /// How many bytes have fallen out between the two.
    omitted_bytes: u64,
}

/// What was kept of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub bytes: Vec<u8>,
    /// What is missing of it, if anything is.
    pub gap: Option<Gap>,
}

/// A piece of a stream that was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// How many of the kept bytes are before it.
    pub at: usize,
    /// How long it is.
    pub bytes: u64,
}

impl Capture {
    /// Nothing yet, and room for `room` bytes.
    pub(super) fn new(room: usize) -> Self {
        Self {
            head: Vec::new(),
            head_room: room.div_ceil(2),
            tail: VecDeque::new(),
            tail_room: room / 2,
            omitted_bytes: 0,
        }
    }

    /// Takes the next piece of the stream.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        let fits = chunk.len().min(self.head_room - self.head.len());
        let (head, rest) = chunk.split_at(fits);
        self.head.extend_from_slice(head);
        let surplus = (self.tail.len() + rest.len()).saturating_sub(self.tail_room);
        self.omitted_bytes += surplus as u64;
        let dropped = surplus.min(self.tail.len());
        self.tail.drain(..dropped);
        self.tail.extend(&rest[surplus - dropped..]);
    }

    /// How many bytes are kept.
    pub(super) fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// What is kept, in at most `room` bytes.
    pub(super) fn keep(self, room: usize) -> Kept {
        let (mut head, mut tail) = (self.head, Vec::from(self.tail));
        let mut omitted_bytes = self.omitted_bytes;
        let surplus = (head.len() + tail.len()).saturating_sub(room);
        if surplus > 0 {
            // What is cut borders on what was omitted before, so there is one gap.
            omitted_bytes += surplus as u64;
            let tail_room = (room / 2).min(tail.len());
            head.truncate(room - tail_room);
            tail.drain(..tail.len() - (room - head.len()));
        }
        let gap = (omitted_bytes > 0).then_some(Gap { at: head.len(), bytes: omitted_bytes });
        head.append(&mut tail);
        Kept { bytes: head, gap }
    }
}

/// What is kept of two streams that have `room` bytes together: half of it each, and what
/// the one does not need is the other's.
pub(super) fn keep_both(first: Capture, second: Capture, room: usize) -> (Kept, Kept) {
    let half = room / 2;
    let first_room = if second.len() <= half { room - second.len() } else { first.len().min(half) };
    let first = first.keep(first_room);
    let second = second.keep(room - first.bytes.len());
    (first, second)
}
