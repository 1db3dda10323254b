//! One connection of the load: a nonblocking socket, and a protocol on it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, ensure};

use super::call::{Answered, Call, Wire};
use super::channel::{Channel, Trust};

/// Where the connection leads.
pub trait Target: Send + Sync {
    /// Its address.
    fn address(&self) -> SocketAddr;

    /// Whom to trust there; with nobody it is in the clear.
    fn trust(&self) -> Option<&Trust>;

    /// The protocol on a connection that was not used yet.
    fn wire(&self) -> Box<dyn Wire>;
}

/// A connection.
pub struct Link {
    channel: Channel,
    wire: Box<dyn Wire>,
    /// What was received of a frame that is not whole.
    rest: Vec<u8>,
    /// What is to be sent, from this place on.
    output: Vec<u8>,
    sent: usize,
    /// Whether the socket took only a part of it.
    waits_to_send: bool,
    /// Calls that there was no room for.
    held: VecDeque<Call>,
    in_flight: usize,
}

impl Link {
    /// Connects and greets. Blocks.
    pub fn open(target: &dyn Target) -> anyhow::Result<Self> {
        let address = target.address();
        let socket =
            TcpStream::connect(address).with_context(|| format!("cannot reach {address}"))?;
        let channel = Channel::new(socket, target.trust())?;
        let mut wire = target.wire();
        let mut output = Vec::new();
        wire.greet(&mut output);
        let (rest, held) = (Vec::new(), VecDeque::new());
        let (sent, waits_to_send, in_flight) = (0, false, 0);
        let mut link = Self { channel, wire, rest, output, sent, waits_to_send, held, in_flight };
        link.flush()?;
        Ok(link)
    }

    /// Whether it is to be replaced by another one now.
    pub fn is_over(&self) -> bool {
        self.wire.is_leaving() && self.in_flight == 0
    }

    /// The connection in the place of this one, with the calls that waited for it.
    pub fn reopened(&mut self, target: &dyn Target) -> anyhow::Result<Self> {
        let held = std::mem::take(&mut self.held);
        Ok(Self { held, ..Self::open(target)? })
    }

    /// Writes a call, or holds it until there is room. [`Link::flush`] sends it.
    pub fn send(&mut self, call: Call) -> anyhow::Result<()> {
        if self.held.is_empty() && self.takes(call)? {
            return Ok(());
        }
        self.held.push_back(call);
        Ok(())
    }

    fn takes(&mut self, call: Call) -> anyhow::Result<bool> {
        let open = self.wire.is_ready() && !self.wire.is_leaving();
        let taken = open && self.wire.send(call, &mut self.output)?;
        self.in_flight += usize::from(taken);
        Ok(taken)
    }

    /// Reads what has come. `scratch` is room for it, larger than any frame.
    pub fn receive(
        &mut self,
        scratch: &mut [u8],
        answered: &mut Vec<Answered>,
    ) -> anyhow::Result<()> {
        while self.receive_once(scratch, answered)? && self.channel.has_more() {}
        while let Some(call) = self.held.front().copied() {
            if !self.takes(call)? {
                break;
            }
            self.held.pop_front();
        }
        Ok(())
    }

    /// The flag says whether anything had come.
    fn receive_once(
        &mut self,
        scratch: &mut [u8],
        answered: &mut Vec<Answered>,
    ) -> anyhow::Result<bool> {
        let begin = self.rest.len();
        scratch[..begin].copy_from_slice(&self.rest);
        let received = match self.channel.read(&mut scratch[begin..]) {
            Ok(0) => {
                ensure!(self.is_over(), "the server closed a connection");
                return Ok(false);
            }
            Ok(received) => received,
            Err(error) if is_for_later(&error) => return Ok(false),
            Err(error) => return Err(error).context("a connection broke"),
        };
        let input = &scratch[..begin + received];
        let before = answered.len();
        let taken = self.wire.receive(input, &mut self.output, answered)?;
        self.in_flight -= answered.len() - before;
        self.rest.clear();
        self.rest.extend_from_slice(&input[taken..]);
        Ok(true)
    }

    /// Whether it could not send all that was written.
    pub fn waits_to_send(&self) -> bool {
        self.waits_to_send
    }

    /// Sends what was written, as far as the socket takes it.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        match self.send_all() {
            Ok(()) => {
                self.output.clear();
                self.sent = 0;
                self.waits_to_send = false;
            }
            Err(error) if is_for_later(&error) => self.waits_to_send = true,
            Err(error) => return Err(error).context("a connection broke"),
        }
        Ok(())
    }

    fn send_all(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            self.sent += self.channel.write(&self.output[self.sent..])?;
        }
        self.channel.flush()
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
