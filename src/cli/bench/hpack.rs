//! As much of HPACK (RFC 7541) as a lean gRPC client needs: its requests repeat a few headers,
//! and of an answer it wants to know the `grpc-status` alone.
//!
//! Both directions use the dynamic table as full clients do, so that the server's side costs
//! what it costs with them: after the first call on a connection a header is one byte.

use std::collections::VecDeque;

/// The number of the first entry of the dynamic table.
const FIRST_DYNAMIC: usize = 62;

/// No table of 4,096 bytes has more entries than this: each counts 32 bytes on top of its own.
const MAX_ENTRIES: usize = 4_096 / 32;

const POST: u8 = 0x83;
const HTTP: u8 = 0x86;
const HTTPS: u8 = 0x87;

/// "Literal with incremental indexing", with names by their number in the static table.
const PATH: &[u8] = &[0x44];
const AUTHORITY: &[u8] = &[0x41];
const CONTENT_TYPE: &[u8] = &[0x5f];
const USER_AGENT: &[u8] = &[0x7a];
const TE: &[u8] = b"\x40\x02te";

/// The headers of requests on one connection.
pub struct Requests {
    scheme: u8,
    /// How the header begins, its value, and after how many insertions it was in the table.
    shared: [(&'static [u8], String, Option<usize>); 4],
    paths: Vec<(&'static str, usize)>,
    inserted: usize,
}

impl Requests {
    /// For a server that is addressed so.
    pub fn new(authority: &str, tls: bool) -> Self {
        let shared = [
            (AUTHORITY, authority.to_owned(), None),
            (TE, "trailers".to_owned(), None),
            (CONTENT_TYPE, "application/grpc".to_owned(), None),
            (USER_AGENT, concat!("onced-bench/", env!("CARGO_PKG_VERSION")).to_owned(), None),
        ];
        let scheme = if tls { HTTPS } else { HTTP };
        Self { scheme, shared, paths: Vec::new(), inserted: 0 }
    }

    /// Writes the block of a call of the method at `path`.
    pub fn write(&mut self, path: &'static str, block: &mut Vec<u8>) {
        block.extend([POST, self.scheme]);
        // Paths are constants, so that two of them are one where their addresses are.
        match self.paths.iter().find(|(known, _)| std::ptr::eq(*known, path)) {
            Some((_, entry)) => block.push(indexed(self.inserted, *entry)),
            None => {
                literal(PATH, path, block);
                self.inserted += 1;
                self.paths.push((path, self.inserted));
            }
        }
        for (name, value, entry) in &mut self.shared {
            match entry {
                Some(entry) => block.push(indexed(self.inserted, *entry)),
                None => {
                    literal(name, value, block);
                    self.inserted += 1;
                    *entry = Some(self.inserted);
                }
            }
        }
    }
}

fn indexed(inserted: usize, entry: usize) -> u8 {
    let number = FIRST_DYNAMIC + inserted - entry;
    0x80 | u8::try_from(number).expect("a client of a few methods has a small table")
}

fn literal(name: &[u8], value: &str, block: &mut Vec<u8>) {
    block.extend_from_slice(name);
    block.push(u8::try_from(value.len()).ok().filter(|length| *length < 127).expect("short"));
    block.extend_from_slice(value.as_bytes());
}

/// The headers of answers on one connection. Every block has to pass through it, in order.
#[derive(Default)]
pub struct Answers {
    /// The newest entry first.
    table: VecDeque<Header>,
}

/// What is kept of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Status(u8),
    Other,
}

impl Answers {
    /// Reads a block: the `grpc-status` in it, if it has one. `None` is a block that is malformed.
    pub fn read(&mut self, block: &[u8]) -> Option<Option<u8>> {
        let mut status = None;
        let mut rest = block;
        while let Some(first) = rest.first() {
            let header = match first {
                0x80.. => self.entry(number(&mut rest, 7)?)?,
                0x40..0x80 => {
                    let header = self.literal(&mut rest, 6)?;
                    self.table.push_front(header);
                    self.table.truncate(MAX_ENTRIES);
                    header
                }
                0x20..0x40 => {
                    // The table gets another size. Entries that fall out of it are never named
                    // again, so they need not be removed.
                    number(&mut rest, 5)?;
                    Header::Other
                }
                _ => self.literal(&mut rest, 4)?,
            };
            if let Header::Status(code) = header {
                status = Some(code);
            }
        }
        Some(status)
    }

    fn entry(&self, number: usize) -> Option<Header> {
        match number {
            0 => None,
            1..FIRST_DYNAMIC => Some(Header::Other),
            _ => self.table.get(number - FIRST_DYNAMIC).copied(),
        }
    }

    fn literal(&self, rest: &mut &[u8], prefix: u32) -> Option<Header> {
        let is_status = match number(rest, prefix)? {
            0 => {
                let name = string(rest)?;
                name == b"grpc-status" || name == STATUS_NAME
            }
            entry => matches!(self.entry(entry)?, Header::Status(_)),
        };
        let value = string(rest)?;
        Some(if is_status { Header::Status(code(value)) } else { Header::Other })
    }
}

/// `grpc-status` in Huffman's code.
const STATUS_NAME: &[u8] = &[0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];

/// A code that is none of gRPC's, which end with 16.
const NO_CODE: u8 = u8::MAX;

/// The status code that a value stands for, as it is or in Huffman's code.
fn code(value: &[u8]) -> u8 {
    let is = |code: &u8| {
        let text = code.to_string();
        value == text.as_bytes() || value == huffman(&text)
    };
    (0..=16).find(is).unwrap_or(NO_CODE)
}

/// Digits in Huffman's code.
fn huffman(digits: &str) -> Vec<u8> {
    let (mut bits, mut length) = (0_u32, 0);
    for digit in digits.bytes().map(|digit| u32::from(digit - b'0')) {
        let (code, width) = if digit < 3 { (digit, 5) } else { (0b01_1001 + digit - 3, 6) };
        (bits, length) = (bits << width | code, length + width);
    }
    let padding = 8 - length % 8;
    bits = bits << (padding % 8) | ((1 << (padding % 8)) - 1);
    length += padding % 8;
    bits.to_be_bytes()[4 - length / 8..].to_vec()
}

/// An integer whose first byte shares its upper bits with something else.
fn number(rest: &mut &[u8], prefix: u32) -> Option<usize> {
    let (first, mut tail) = rest.split_first()?;
    let limit = (1 << prefix) - 1;
    let mut value = usize::from(*first) & limit;
    if value == limit {
        for shift in [0, 7, 14, 21] {
            let (byte, after) = tail.split_first()?;
            tail = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *rest = tail;
                return Some(value);
            }
        }
        return None;
    }
    *rest = tail;
    Some(value)
}

/// A string as it was sent: in Huffman's code or not.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(rest, 7)?;
    let (string, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_was_sent_is_one_byte_after_that() {
        let mut requests = Requests::new("localhost", false);
        let mut blocks = [const { Vec::new() }; 4];
        for (block, path) in blocks.iter_mut().zip(["/a", "/a", "/b", "/a"]) {
            requests.write(path, block);
        }
        assert!(
            blocks[0].starts_with(b"\x83\x86\x44\x02/a\x41\x09localhost\x40\x02te\x08trailers")
        );
        // The newest of the five entries is 62, the path the oldest.
        assert_eq!(blocks[1], [0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);
        assert!(blocks[2].starts_with(b"\x83\x86\x44\x02/b"));
        assert_eq!(blocks[3], [0x83, 0x86, 0x80 | 67, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63]);
    }

    #[test]
    fn the_status_is_found_however_it_is_written() {
        let huffman = |value: &[u8]| {
            let mut block = vec![0x40, 0x88];
            block.extend_from_slice(STATUS_NAME);
            block.push(0x80 | u8::try_from(value.len()).unwrap());
            block.extend_from_slice(value);
            block
        };
        let mut answers = Answers::default();
        assert_eq!(answers.read(&[0x88]), Some(None), "only :status 200");
        assert_eq!(answers.read(b"\x00\x0bgrpc-status\x0214"), Some(Some(14)), "not indexed");
        assert_eq!(answers.read(&huffman(&[0x07])), Some(Some(0)), "0 is five bits of zero");
        assert_eq!(answers.read(&[0x80 | 62]), Some(Some(0)), "from the table");
        assert_eq!(answers.read(b"\x40\x04date\x03now"), Some(None), "another entry comes");
        assert_eq!(answers.read(&[0x80 | 63]), Some(Some(0)), "and the entry moves");
        assert_eq!(answers.read(b"\x7f\x00\x0213"), Some(Some(13)), "its name with another value");
        assert_eq!(answers.read(b"\x7f\x01\x0299"), Some(Some(NO_CODE)));
        assert_eq!(answers.read(b"\x7f\x01"), None, "the value is missing");
        assert_eq!(answers.read(&[0x80 | 120]), None, "no such entry");
    }

    #[test]
    fn huffmans_digits_are_those_of_the_standard() {
        // RFC 7541, appendix C.6.1: "302" is 64 02; and C.6.2: "307" is 64 0e ff.
        assert_eq!(huffman("302"), [0x64, 0x02]);
        assert_eq!(huffman("307"), [0x64, 0x0e, 0xff]);
        assert_eq!(huffman("0"), [0x07]);
    }
}
