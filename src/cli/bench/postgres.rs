//! What people do with PostgreSQL instead: `INSERT … ON CONFLICT DO NOTHING RETURNING`, prepared
//! once on each connection, each in a transaction of its own.
//!
//! It wants a table, which `TABLE` makes, and a server that trusts whoever connects.

use std::collections::VecDeque;

use anyhow::{bail, ensure};

use super::call::{Answer, Answered, Call, Wire};
use super::keys::{FINGERPRINT_BYTES, KEY_BYTES, Keys};

/// The statement that is prepared.
const INSERT: &str = "INSERT INTO reservation (key, owner_token, fingerprint, expire_time) \
                      VALUES ($1, $2, $3, now() + interval '1 day') \
                      ON CONFLICT DO NOTHING RETURNING key";

/// The type of bytes, which are sent as they are. The others are text.
const BYTEA: u32 = 17;
const TEXT: u32 = 25;

/// A connection.
pub struct Postgres {
    keys: Keys,
    in_flight: VecDeque<Call>,
    /// What the answer to the first of them has said so far.
    answer: Answer,
    ready: bool,
}

impl Postgres {
    /// A connection that was not used yet.
    pub fn new(keys: Keys) -> Self {
        Self { keys, in_flight: VecDeque::new(), answer: NONE, ready: false }
    }

    fn take(&mut self, kind: u8, body: &[u8], answered: &mut Vec<Answered>) -> anyhow::Result<()> {
        match kind {
            // Authentication, and whether there is any.
            b'R' => ensure!(body == [0; 4], "PostgreSQL wants a password; it is to trust"),
            b'E' if !self.ready => bail!("PostgreSQL refuses: {}", message(body)),
            b'E' => self.answer = Answer::Wrong("PostgreSQL answered with an error"),
            // A command is complete, and so many rows are in.
            b'C' if body == b"INSERT 0 1\0" => self.answer = Answer::Granted,
            b'C' if body == b"INSERT 0 0\0" => self.answer = Answer::InProgress,
            // Ready for the next: the transaction is over.
            b'Z' => match self.in_flight.pop_front() {
                Some(call) => {
                    answered.push(Answered { call, answer: self.answer });
                    self.answer = NONE;
                }
                None => self.ready = true,
            },
            _ => {}
        }
        Ok(())
    }
}

const NONE: Answer = Answer::Wrong("PostgreSQL did not say what it did");

impl Wire for Postgres {
    fn greet(&mut self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend([0; 4]);
        out.extend(0x0003_0000_u32.to_be_bytes());
        out.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
        measure(begin, out);
        // Prepares the statement as "s". What becomes of it is told with the first call.
        write(b'P', out, |out| {
            out.extend_from_slice(b"s\0");
            out.extend_from_slice(INSERT.as_bytes());
            out.extend_from_slice(b"\0");
            out.extend(3_u16.to_be_bytes());
            for kind in [TEXT, TEXT, BYTEA] {
                out.extend(kind.to_be_bytes());
            }
        });
    }

    fn is_ready(&self) -> bool {
        self.ready
    }

    fn send(&mut self, call: Call, out: &mut Vec<u8>) -> anyhow::Result<bool> {
        // Binds the values to the statement, in binary; executes it; ends the transaction.
        write(b'B', out, |out| {
            out.extend_from_slice(b"\0s\0");
            out.extend_from_slice(&[0, 1, 0, 1, 0, 3]);
            parameter(&self.keys.key(call.key), out);
            parameter(&self.keys.owner_token(call.owner), out);
            parameter(&self.keys.fingerprint(call.key), out);
            out.extend_from_slice(&[0, 1, 0, 1]);
        });
        out.extend_from_slice(b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04");
        self.in_flight.push_back(call);
        Ok(true)
    }

    fn receive(
        &mut self,
        input: &[u8],
        _: &mut Vec<u8>,
        answered: &mut Vec<Answered>,
    ) -> anyhow::Result<usize> {
        let mut rest = input;
        while let [kind, a, b, c, d, after @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            ensure!((4..1 << 16).contains(&length), "is this PostgreSQL?");
            let Some((body, after)) = after.split_at_checked(length - 4) else { break };
            self.take(*kind, body, answered)?;
            rest = after;
        }
        Ok(input.len() - rest.len())
    }
}

/// Writes a message: its kind, its length, its body.
fn write(kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let begin = out.len();
    out.extend([0; 4]);
    body(out);
    measure(begin, out);
}

/// Fills in the length of what begins there; it counts its own four bytes.
fn measure(begin: usize, out: &mut [u8]) {
    let length = u32::try_from(out.len() - begin).expect("a message is small");
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
}

fn parameter<const N: usize>(value: &[u8; N], out: &mut Vec<u8>) {
    const { assert!(N == KEY_BYTES || N == FINGERPRINT_BYTES) };
    out.extend_from_slice(&[0, 0, 0, N as u8]);
    out.extend_from_slice(value);
}

/// The text of an error: the field with the code M.
fn message(body: &[u8]) -> String {
    let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&b'M'));
    String::from_utf8_lossy(field.map_or(b"it does not say why", |field| &field[1..])).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::cli::bench::call::Step;

    fn told(messages: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, body) in messages {
            write(*kind, &mut bytes, |out| out.extend_from_slice(body));
        }
        bytes
    }

    #[test]
    fn an_answer_ends_with_its_transaction() {
        let mut postgres = Postgres::new(Keys::new());
        let (mut out, mut answered) = (Vec::new(), Vec::new());
        postgres.greet(&mut out);
        let welcome = told(&[(b'R', &[0; 4]), (b'S', b"a\0b\0"), (b'Z', b"I")]);
        assert_eq!(postgres.receive(&welcome, &mut out, &mut answered).unwrap(), welcome.len());
        assert!(postgres.is_ready());
        for key in 0..3 {
            let due_at = Instant::now();
            let call = Call { caller: 0, step: Step::Reserve, key, owner: key, due_at };
            assert!(postgres.send(call, &mut out).unwrap());
        }
        let one = told(&[(b'2', b""), (b'D', b"row"), (b'C', b"INSERT 0 1\0"), (b'Z', b"I")]);
        let none = told(&[(b'2', b""), (b'C', b"INSERT 0 0\0"), (b'Z', b"I")]);
        let error = told(&[(b'E', b"SERROR\0Mno\0\0"), (b'Z', b"I")]);
        let input = [one, none, error].concat();
        let mut begin = 0;
        for end in 0..=input.len() {
            begin += postgres.receive(&input[begin..end], &mut out, &mut answered).unwrap();
        }
        let answers: Vec<_> = answered.iter().map(|it| it.answer).collect();
        assert!(matches!(answers[..], [Answer::Granted, Answer::InProgress, Answer::Wrong(_)]));
    }

    #[test]
    fn a_server_that_refuses_says_why() {
        let mut postgres = Postgres::new(Keys::new());
        let refusal = told(&[(b'E', b"SFATAL\0Mno such role\0\0")]);
        let error = postgres.receive(&refusal, &mut Vec::new(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "PostgreSQL refuses: no such role");
    }
}
