//! A caller that writes its HTTP/2 frames itself, for what no gRPC client does on purpose: to
//! leave a call half sent, or to cancel hundreds of calls in one packet.
//!
//! It knows only as much of HTTP/2 as such a caller needs.

// Each test binary takes the part that it needs.
#![allow(dead_code)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use prost::Message;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

const CANCEL: u32 = 8;

/// One connection.
pub struct Peer {
    socket: TcpStream,
    /// Whether the server has said that the connection is to end.
    pub told_to_go: bool,
}

struct Frame {
    kind: u8,
    flags: u8,
    call: u32,
    payload: Vec<u8>,
}

impl Peer {
    /// Connects and greets.
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        // Nothing waits for this; where the server says nothing, the test is to fail.
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut peer = Self { socket, told_to_go: false };
        peer.send(&greeting(b""));
        peer
    }

    /// Sends frames, or pieces of them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Waits for the whole answer to `call`.
    pub fn answer<M: Message + Default>(&mut self, call: u32) -> M {
        M::decode(&self.body(call)[5..]).expect("one message that is not compressed")
    }

    /// Waits for the whole answer to `call`, which has no message where it was refused.
    pub fn body(&mut self, call: u32) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let frame = self.next().expect("the answer comes before the end");
            if frame.call != call {
                continue;
            }
            match frame.kind {
                DATA => body.extend(frame.payload),
                RST_STREAM => panic!("call {call} was reset"),
                _ => {}
            }
            if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
                return body;
            }
        }
    }

    /// Reads on until the server asks whether somebody is still there, and answers.
    pub fn wait_until_asked(&mut self) {
        while self.next().expect("the server asks before it ends the connection").kind != PING {}
    }

    /// Reads on until the server says that the connection is to end.
    pub fn wait_until_told_to_go(&mut self) {
        while !self.told_to_go {
            self.next().expect("the server says so before it ends the connection");
        }
    }

    /// Reads on until the connection has ended.
    pub fn wait_for_end(mut self) {
        while self.next().is_some() {}
    }

    /// The next frame; `None` at the end. Answers what every peer has to answer.
    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.socket.read_exact(&mut head) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                return None;
            }
            Err(error) => panic!("{error}"),
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.socket.read_exact(&mut payload).unwrap();
        let call = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let frame = Frame { kind: head[3], flags: head[4], call, payload };
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => self.reply(&self::frame(SETTINGS, ACK, 0, b"")),
            PING if frame.flags & ACK == 0 => {
                self.reply(&self::frame(PING, ACK, 0, &frame.payload))
            }
            GOAWAY => self.told_to_go = true,
            _ => {}
        }
        Some(frame)
    }

    /// Sends what the server may be past waiting for.
    fn reply(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }
}

/// What a connection begins with, and these settings.
pub fn greeting(settings: &[u8]) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, settings)].concat()
}

/// Begins a call. The number of the first is 1, and each is 2 more than the last.
pub fn begin(call: u32, method: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, call, &headers(method))
}

/// Begins a call whose caller waits for so long, in gRPC's form, such as `50m` for milliseconds.
pub fn begin_with_timeout(call: u32, method: &str, timeout: &str) -> Vec<u8> {
    let mut block = headers(method);
    block.extend(b"\x00\x0cgrpc-timeout");
    block.push(u8::try_from(timeout.len()).unwrap());
    block.extend(timeout.as_bytes());
    frame(HEADERS, END_HEADERS, call, &block)
}

/// The headers of a call.
pub fn headers(method: &str) -> Vec<u8> {
    // HPACK without its table and without Huffman: names by their static number, or in full.
    let mut block = vec![0x83, 0x86];
    let mut header = |name: &[u8], value: &str| {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    };
    header(&[0x04], &format!("/onced.v1.IdempotencyService/{method}"));
    header(&[0x01], "localhost");
    header(&[0x0f, 0x10], "application/grpc");
    header(b"\x00\x02te", "trailers");
    block
}

/// Sends the request of a call that was begun.
pub fn request(call: u32, message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    frame(DATA, END_STREAM, call, &body)
}

/// Cancels a call.
pub fn cancel(call: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, call, &CANCEL.to_be_bytes())
}

/// One frame.
pub fn frame(kind: u8, flags: u8, call: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(call.to_be_bytes());
    bytes.extend(payload);
    bytes
}
