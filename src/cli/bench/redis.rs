//! What people do with Redis instead: `SET key value NX PX milliseconds`, as many at a time as
//! calls are in flight. Answers come in the order of the commands.

use std::collections::VecDeque;

use anyhow::bail;

use super::call::{Answer, Answered, Call, Wire};
use super::keys::{FINGERPRINT_BYTES, KEY_BYTES, Keys};

/// How long a key is kept: the retention of a reservation.
const KEPT: &[u8] = b"\r\n$2\r\nNX\r\n$2\r\nPX\r\n$8\r\n86400000\r\n";

/// The owner token and the fingerprint, without which it would be no reservation.
const VALUE_BYTES: usize = KEY_BYTES + FINGERPRINT_BYTES;

/// A connection.
pub struct Redis {
    keys: Keys,
    in_flight: VecDeque<Call>,
}

impl Redis {
    /// A connection that was not used yet.
    pub fn new(keys: Keys) -> Self {
        Self { keys, in_flight: VecDeque::new() }
    }
}

impl Wire for Redis {
    fn greet(&mut self, _: &mut Vec<u8>) {}

    fn is_ready(&self) -> bool {
        true
    }

    fn send(&mut self, call: Call, out: &mut Vec<u8>) -> anyhow::Result<bool> {
        const { assert!(KEY_BYTES == 36 && VALUE_BYTES == 68) };
        out.extend_from_slice(b"*6\r\n$3\r\nSET\r\n$36\r\n");
        out.extend_from_slice(&self.keys.key(call.key));
        out.extend_from_slice(b"\r\n$68\r\n");
        out.extend_from_slice(&self.keys.owner_token(call.owner));
        out.extend_from_slice(&self.keys.fingerprint(call.key));
        out.extend_from_slice(KEPT);
        self.in_flight.push_back(call);
        Ok(true)
    }

    fn receive(
        &mut self,
        input: &[u8],
        _: &mut Vec<u8>,
        answered: &mut Vec<Answered>,
    ) -> anyhow::Result<usize> {
        let mut begin = 0;
        while let Some(length) = input[begin..].iter().position(|byte| *byte == b'\n') {
            let line = &input[begin..=begin + length];
            let Some(call) = self.in_flight.pop_front() else { bail!("an answer to nothing") };
            let answer = match line {
                b"+OK\r\n" => Answer::Granted,
                b"$-1\r\n" => Answer::InProgress,
                [b'-', ..] => Answer::Wrong("Redis answered with an error"),
                _ => bail!("is this Redis? {:?}", String::from_utf8_lossy(line)),
            };
            answered.push(Answered { call, answer });
            begin += length + 1;
        }
        Ok(begin)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::cli::bench::call::Step;

    #[test]
    fn answers_belong_to_the_commands_in_their_order() {
        let mut redis = Redis::new(Keys::new());
        let mut out = Vec::new();
        for key in 0..3 {
            let due_at = Instant::now();
            let call = Call { caller: 0, step: Step::Reserve, key, owner: key, due_at };
            assert!(redis.send(call, &mut out).unwrap());
        }
        assert_eq!(out.len() % 3, 0);
        assert!(out.starts_with(b"*6\r\n$3\r\nSET\r\n$36\r\n"));

        let (mut answered, input) = (Vec::new(), b"+OK\r\n$-1\r\n-ERR no\r");
        let taken = redis.receive(input, &mut Vec::new(), &mut answered).unwrap();
        assert_eq!(taken, 10, "a line that has not ended is left");
        let answers: Vec<_> = answered.iter().map(|it| (it.call.key, it.answer)).collect();
        assert_eq!(answers, [(0, Answer::Granted), (1, Answer::InProgress)]);
        answered.clear();
        redis.receive(b"-ERR no\r\n", &mut Vec::new(), &mut answered).unwrap();
        assert!(matches!(answered[0].answer, Answer::Wrong(_)));
    }
}
