//! What a call asks, what its answer comes to, and what a protocol has to be able to do.

use std::time::Instant;

/// How many keys a batch reserves.
pub const BATCH_ITEMS: u64 = 100;

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reserve a new key. For a peer: create it if it is absent.
    Reserve,
    /// Reserve a new key that stays held during the run.
    Hold,
    /// Complete what was reserved.
    Complete,
    /// Release what was reserved.
    Release,
    /// Reserve a key that somebody else holds.
    Duplicate,
    /// Reserve a completed key.
    Replay,
    /// Reserve a key that everybody wants.
    Compete,
    /// Look a completed key up.
    Lookup,
    /// Reserve a hundred new keys, from the key's number on.
    Batch,
    /// Call what does nothing.
    Noop,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Which of the thread's callers makes it.
    pub caller: u32,
    /// What it asks.
    pub step: Step,
    /// The number of the key.
    pub key: u64,
    /// The number of the owner token.
    pub owner: u64,
    /// When it was to be sent, which is where its latency begins.
    pub due_at: Instant,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is the caller's. From a peer: it was created. Of a batch: each of them.
    Granted,
    /// Somebody else holds it. From a peer: it existed.
    InProgress,
    /// The stored response came, and it is the one that was stored.
    Completed,
    /// It is given back.
    Released,
    /// Nothing, from the call that does nothing.
    Nothing,
    /// A gRPC status instead of an answer.
    Status(u8),
    /// An answer that does not fit the call, or that is damaged; what about it.
    Wrong(&'static str),
}

/// A call that was answered.
pub struct Answered {
    /// The call.
    pub call: Call,
    /// Its answer.
    pub answer: Answer,
}

/// A protocol on one connection: bytes in, bytes out. The socket is somebody else's.
pub trait Wire {
    /// Writes what the connection begins with.
    fn greet(&mut self, out: &mut Vec<u8>);

    /// Whether the server has greeted back, so that calls may be sent.
    fn is_ready(&self) -> bool;

    /// Whether the connection is to be left once its calls are answered.
    fn is_leaving(&self) -> bool {
        false
    }

    /// Writes a call. The flag says whether there was room for it; there may be once more has
    /// been received.
    ///
    /// # Errors
    ///
    /// If the server will never take such a call.
    fn send(&mut self, call: Call, out: &mut Vec<u8>) -> anyhow::Result<bool>;

    /// Reads whole frames from the beginning of `input`, and says how many bytes they took.
    /// What has to be replied is written to `out`.
    ///
    /// # Errors
    ///
    /// If the connection cannot go on.
    fn receive(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        answered: &mut Vec<Answered>,
    ) -> anyhow::Result<usize>;
}

/// The messages of a service that is spoken to over gRPC.
pub trait Messages: Send + Sync {
    /// The path of the method that a call needs.
    fn path(&self, step: Step) -> &'static str;

    /// Appends the request.
    fn write(&self, call: &Call, request: &mut Vec<u8>);

    /// What the answer to a call says.
    fn read(&self, call: &Call, answer: &[u8]) -> Answer;
}
