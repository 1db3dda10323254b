//! gRPC over HTTP/2, by hand: a call is two frames of constant bytes around its message, and of
//! an answer only the message and the status are looked at.
//!
//! It checks what a caller relies on: headers, one whole message, and trailers that say OK.
//! Flow control is kept in both directions.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{bail, ensure};

use super::call::{Answer, Answered, Call, Messages, Wire};
use super::hpack;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// The size of a frame's head, and the largest payload of either side.
const FRAME_HEAD: usize = 9;
const MAX_FRAME: usize = 16_384;

/// The window that a connection and each stream begin with, in both directions.
const FIRST_WINDOW: u32 = 65_535;

/// The window that the server gets, for the connection and for each stream.
const WINDOW: u32 = 16 << 20;

/// Beyond it a connection is left for another one, long before it runs out of stream numbers.
const LAST_STREAM: u32 = 1 << 30;

/// Whether a message is compressed, and its length.
const MESSAGE_HEAD: usize = 5;

/// A connection.
pub struct Http2 {
    messages: Arc<dyn Messages>,
    requests: hpack::Requests,
    answers: hpack::Answers,
    /// The calls in flight in the order of their streams; `None` is one that was answered
    /// before an earlier one.
    streams: VecDeque<Option<Stream>>,
    /// The number of the first of them, and of the next call.
    first: u32,
    next: u32,
    in_flight: u32,
    max_in_flight: u32,
    /// What may be sent on the connection, and on a new stream.
    window: i64,
    stream_window: i64,
    /// What was received since the window was last given back.
    received: u32,
    greeted: bool,
    leaving: bool,
    /// The request that is being written.
    body: Vec<u8>,
}

/// A call in flight.
struct Stream {
    call: Call,
    headed: bool,
    answer: Option<Answer>,
    /// The beginning of a message whose end has not come.
    partial: Vec<u8>,
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl Http2 {
    /// A connection that was not used yet, to a server that is addressed so.
    pub fn new(messages: Arc<dyn Messages>, authority: &str, tls: bool) -> Self {
        Self {
            messages,
            requests: hpack::Requests::new(authority, tls),
            answers: hpack::Answers::default(),
            streams: VecDeque::new(),
            first: 1,
            next: 1,
            in_flight: 0,
            max_in_flight: u32::MAX,
            window: FIRST_WINDOW.into(),
            stream_window: FIRST_WINDOW.into(),
            received: 0,
            greeted: false,
            leaving: false,
            body: Vec::new(),
        }
    }

    fn take(
        &mut self,
        frame: &Frame<'_>,
        out: &mut Vec<u8>,
        answered: &mut Vec<Answered>,
    ) -> anyhow::Result<()> {
        match frame.kind {
            HEADERS => self.headers(frame, answered),
            DATA => {
                self.data(frame, answered)?;
                self.give_back(frame.payload.len(), out);
                Ok(())
            }
            RST_STREAM => {
                self.end(frame.stream, Answer::Wrong("the stream was reset"), answered);
                Ok(())
            }
            SETTINGS if frame.flags & ACK == 0 => {
                self.settings(frame.payload)?;
                write_frame(SETTINGS, ACK, 0, &[], out);
                Ok(())
            }
            PING if frame.flags & ACK == 0 => {
                write_frame(PING, ACK, 0, frame.payload, out);
                Ok(())
            }
            WINDOW_UPDATE if frame.stream == 0 => {
                self.window += i64::from(word(frame.payload, 0)?);
                Ok(())
            }
            GOAWAY => {
                let code = word(frame.payload, 4)?;
                ensure!(code == 0, "the server closes the connection with error {code}");
                self.leaving = true;
                Ok(())
            }
            // A stream's own window is never used up, since no request is larger than it.
            _ => Ok(()),
        }
    }

    fn settings(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        for setting in payload.chunks_exact(6) {
            let value = word(setting, 2)?;
            match u16::from_be_bytes([setting[0], setting[1]]) {
                MAX_CONCURRENT_STREAMS => self.max_in_flight = value,
                INITIAL_WINDOW_SIZE => self.stream_window = value.into(),
                _ => {}
            }
        }
        self.greeted = true;
        Ok(())
    }

    fn headers(&mut self, frame: &Frame<'_>, answered: &mut Vec<Answered>) -> anyhow::Result<()> {
        ensure!(frame.flags & END_HEADERS != 0, "the headers of an answer are longer than a frame");
        ensure!(frame.flags & PADDED == 0, "the headers of an answer are padded");
        let Some(status) = self.answers.read(frame.payload) else {
            bail!("the headers of an answer cannot be read");
        };
        let Some(stream) = stream(&mut self.streams, self.first, frame.stream) else {
            return Ok(());
        };
        if frame.flags & END_STREAM == 0 {
            stream.headed = true;
            return Ok(());
        }
        let answer = match (status, stream.answer) {
            (Some(0), Some(answer)) if stream.headed => answer,
            (Some(0), _) => Answer::Wrong("OK without a message"),
            (Some(code), _) => Answer::Status(code),
            (None, _) => Answer::Wrong("trailers without a status"),
        };
        self.end(frame.stream, answer, answered);
        Ok(())
    }

    fn data(&mut self, frame: &Frame<'_>, answered: &mut Vec<Answered>) -> anyhow::Result<()> {
        ensure!(frame.flags & PADDED == 0, "the message of an answer is padded");
        let Some(stream) = stream(&mut self.streams, self.first, frame.stream) else {
            return Ok(());
        };
        let bytes = if stream.partial.is_empty() {
            frame.payload
        } else {
            stream.partial.extend_from_slice(frame.payload);
            &stream.partial
        };
        match bytes.split_at_checked(MESSAGE_HEAD) {
            Some((&[compressed, a, b, c, d], message))
                if message.len() == u32::from_be_bytes([a, b, c, d]) as usize =>
            {
                ensure!(compressed == 0, "the message of an answer is compressed");
                stream.answer = Some(self.messages.read(&stream.call, message));
            }
            _ if stream.partial.is_empty() => stream.partial.extend_from_slice(frame.payload),
            _ => {}
        }
        if frame.flags & END_STREAM != 0 {
            self.end(frame.stream, Answer::Wrong("an answer without trailers"), answered);
        }
        Ok(())
    }

    fn end(&mut self, number: u32, answer: Answer, answered: &mut Vec<Answered>) {
        let Some(distance) = number.checked_sub(self.first) else { return };
        let Some(place) = self.streams.get_mut((distance / 2) as usize) else { return };
        let Some(stream) = place.take() else { return };
        answered.push(Answered { call: stream.call, answer });
        self.in_flight -= 1;
        while let Some(None) = self.streams.front() {
            self.streams.pop_front();
            self.first += 2;
        }
    }

    /// Counts what was received, and gives the window back once half of it is used.
    fn give_back(&mut self, bytes: usize, out: &mut Vec<u8>) {
        self.received += u32::try_from(bytes).expect("a frame is small");
        if self.received > WINDOW / 2 {
            write_frame(WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes(), out);
            self.received = 0;
        }
    }
}

impl Wire for Http2 {
    fn greet(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut settings = Vec::new();
        for (name, value) in [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, WINDOW)] {
            settings.extend(name.to_be_bytes());
            settings.extend(value.to_be_bytes());
        }
        write_frame(SETTINGS, 0, 0, &settings, out);
        write_frame(WINDOW_UPDATE, 0, 0, &(WINDOW - FIRST_WINDOW).to_be_bytes(), out);
    }

    fn is_ready(&self) -> bool {
        self.greeted
    }

    fn is_leaving(&self) -> bool {
        self.leaving || self.next > LAST_STREAM
    }

    fn send(&mut self, call: Call, out: &mut Vec<u8>) -> anyhow::Result<bool> {
        self.body.clear();
        self.body.extend([0; MESSAGE_HEAD]);
        self.messages.write(&call, &mut self.body);
        let length = u32::try_from(self.body.len() - MESSAGE_HEAD).expect("less than 4 GiB");
        self.body[1..MESSAGE_HEAD].copy_from_slice(&length.to_be_bytes());

        let size = i64::try_from(self.body.len()).expect("less than 4 GiB");
        ensure!(
            size <= self.stream_window,
            "a request has {size} bytes, and the server takes {} at a time",
            self.stream_window
        );
        if size > self.window || self.in_flight >= self.max_in_flight {
            return Ok(false);
        }
        self.window -= size;
        let stream = self.next;
        let begin = out.len();
        write_frame(HEADERS, END_HEADERS, stream, &[], out);
        self.requests.write(self.messages.path(call.step), out);
        let block = out.len() - begin - FRAME_HEAD;
        out[begin + 2] = u8::try_from(block).expect("a few headers, none of them long");
        let mut pieces = self.body.chunks(MAX_FRAME).peekable();
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { END_STREAM } else { 0 };
            write_frame(DATA, flags, stream, piece, out);
        }
        self.next += 2;
        self.in_flight += 1;
        let stream = Stream { call, headed: false, answer: None, partial: Vec::new() };
        self.streams.push_back(Some(stream));
        Ok(true)
    }

    fn receive(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        answered: &mut Vec<Answered>,
    ) -> anyhow::Result<usize> {
        let mut rest = input;
        while let Some(head) = rest.first_chunk::<FRAME_HEAD>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            ensure!(length <= MAX_FRAME, "a frame of {length} bytes: is this a gRPC server?");
            let Some((payload, after)) = rest[FRAME_HEAD..].split_at_checked(length) else { break };
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            self.take(&Frame { kind: head[3], flags: head[4], stream, payload }, out, answered)?;
            rest = after;
        }
        Ok(input.len() - rest.len())
    }
}

/// The call in flight on the stream with this number.
fn stream(streams: &mut VecDeque<Option<Stream>>, first: u32, number: u32) -> Option<&mut Stream> {
    let index = (number.checked_sub(first)? / 2) as usize;
    streams.get_mut(index)?.as_mut()
}

fn write_frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("a frame is small");
    let [_, a, b, c] = length.to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, d, e, f, g]);
    out.extend_from_slice(payload);
}

fn word(payload: &[u8], at: usize) -> anyhow::Result<u32> {
    match payload.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => Ok(u32::from_be_bytes(*bytes)),
        None => bail!("a frame is too short"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::cli::bench::call::Step;

    /// A service whose answer says with one byte what it is.
    struct OneByte;

    impl Messages for OneByte {
        fn path(&self, _: Step) -> &'static str {
            "/service/Method"
        }

        fn write(&self, call: &Call, request: &mut Vec<u8>) {
            request.extend(vec![b'x'; call.key as usize]);
        }

        fn read(&self, _: &Call, answer: &[u8]) -> Answer {
            if answer.first() == Some(&1) { Answer::Granted } else { Answer::InProgress }
        }
    }

    fn connection() -> Http2 {
        let mut http2 = Http2::new(Arc::new(OneByte), "localhost", false);
        feed(&mut http2, &[(SETTINGS, 0, 0, b"\0\x03\0\0\0\x02\0\x04\0\0\x80\0")]);
        assert!(http2.is_ready());
        http2
    }

    fn call(size: u64) -> Call {
        Call { caller: 0, step: Step::Reserve, key: size, owner: 0, due_at: Instant::now() }
    }

    fn feed(http2: &mut Http2, frames: &[(u8, u8, u32, &[u8])]) -> (Vec<u8>, Vec<Answer>) {
        let (mut input, mut out, mut answered) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, flags, stream, payload) in frames {
            write_frame(*kind, *flags, *stream, payload, &mut input);
        }
        // Byte by byte: whole frames only are taken.
        let mut begin = 0;
        for end in 0..=input.len() {
            begin += http2.receive(&input[begin..end], &mut out, &mut answered).unwrap();
        }
        assert_eq!(begin, input.len());
        (out, answered.into_iter().map(|it| it.answer).collect())
    }

    const OK: &[u8] = b"\x00\x0bgrpc-status\x010";
    const UNAVAILABLE: &[u8] = b"\x00\x0bgrpc-status\x0214";
    const HEAD: (u8, u8, u32, &[u8]) = (HEADERS, END_HEADERS, 1, b"\x88");
    const GRANTED: (u8, u8, u32, &[u8]) = (DATA, 0, 1, b"\0\0\0\0\x01\x01");

    fn trailers(status: &[u8]) -> (u8, u8, u32, &[u8]) {
        (HEADERS, END_HEADERS | END_STREAM, 1, status)
    }

    fn answer(frames: &[(u8, u8, u32, &[u8])]) -> Vec<Answer> {
        let mut http2 = connection();
        assert!(http2.send(call(1), &mut Vec::new()).unwrap());
        feed(&mut http2, frames).1
    }

    #[test]
    fn an_answer_is_a_message_and_trailers_that_say_ok() {
        assert_eq!(answer(&[HEAD, GRANTED, trailers(OK)]), [Answer::Granted]);
        let pieces =
            [(DATA, 0, 1, &b"\0\0\0"[..]), (DATA, 0, 1, b"\0\x02\x01"), (DATA, 0, 1, b"x")];
        let frames = [&[HEAD][..], &pieces, &[trailers(OK)]].concat();
        assert_eq!(answer(&frames), [Answer::Granted], "in three pieces");
    }

    #[test]
    fn anything_else_is_a_fault() {
        assert_eq!(answer(&[trailers(UNAVAILABLE)]), [Answer::Status(14)]);
        assert_eq!(answer(&[HEAD, GRANTED, trailers(UNAVAILABLE)]), [Answer::Status(14)]);
        let wrong =
            |frames: &[(u8, u8, u32, &[u8])]| matches!(answer(frames)[..], [Answer::Wrong(_)]);
        assert!(wrong(&[trailers(OK)]), "no message");
        assert!(wrong(&[HEAD, trailers(OK)]), "no message");
        assert!(wrong(&[HEAD, (DATA, 0, 1, b"\0\0\0\0\x09\x01"), trailers(OK)]), "half a message");
        assert!(wrong(&[HEAD, GRANTED, trailers(b"\x88")]), "no status");
        assert!(wrong(&[HEAD, (DATA, END_STREAM, 1, b"\0\0\0\0\x01\x01")]), "no trailers");
        assert!(wrong(&[(RST_STREAM, 0, 1, b"\0\0\0\x08")]), "reset");
        assert_eq!(answer(&[HEAD, GRANTED]), [], "not yet");
    }

    #[test]
    fn calls_wait_for_room() {
        let mut http2 = connection();
        let mut out = Vec::new();
        assert!(http2.send(call(32_000), &mut out).unwrap());
        assert!(http2.send(call(32_000), &mut out).unwrap());
        assert!(!http2.send(call(1), &mut out).unwrap(), "two at a time");
        feed(&mut http2, &[HEAD, GRANTED, trailers(OK)]);
        assert!(!http2.send(call(32_000), &mut out).unwrap(), "the window is used up");
        feed(&mut http2, &[(WINDOW_UPDATE, 0, 0, &32_000_u32.to_be_bytes())]);
        assert!(http2.send(call(32_000), &mut out).unwrap());
        assert!(http2.send(call(40_000), &mut out).is_err(), "more than a stream may have");
    }

    #[test]
    fn pings_are_answered_and_goodbyes_heard() {
        let mut http2 = connection();
        let (out, _) = feed(&mut http2, &[(PING, 0, 0, b"12345678")]);
        assert!(out.ends_with(b"12345678") && out[4] == ACK);
        assert!(!http2.is_leaving());
        feed(&mut http2, &[(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0")]);
        assert!(http2.is_leaving());
        let mut error = Vec::new();
        write_frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x0b", &mut error);
        assert!(http2.receive(&error, &mut Vec::new(), &mut Vec::new()).is_err());
    }
}
