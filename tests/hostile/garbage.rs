//! What is no HTTP/2, what stops in the middle, and what is nearly right.

use std::io::Read as _;
use std::net::Shutdown;

use onced::pb::v1::ReserveRequest;

use crate::dice::{Dice, seed};
use crate::http2::{CONTINUATION, DATA, PING, SETTINGS, begin, frame, greeting, request};
use crate::proof::effort;
use crate::target::{Attacker, Target};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http2_is_turned_away() {
    let target = Target::start(&[]);
    let (address, seed) = (target.server.address, seed());
    let connections = effort(150, 5_000);
    let attack = || async move {
        tokio::task::spawn_blocking(move || {
            let mut dice = Dice(seed);
            for _ in 0..connections {
                let bytes = garbage(&mut dice);
                let mut attacker = Attacker::connect(address);
                attacker.send(&bytes);
                let _ = attacker.0.shutdown(Shutdown::Write);
                if dice.below(2) == 0 {
                    // Whatever the server says, it comes to an end.
                    let _ = attacker.0.read_to_end(&mut Vec::new()).unwrap_or_default();
                }
            }
            connections
        })
        .await
        .unwrap()
    };
    target.withstands("garbage on the port", 64, attack).await;
}

fn garbage(dice: &mut Dice) -> Vec<u8> {
    match dice.below(7) {
        0 => dice.bytes(3_000),
        1 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        // The beginning of a TLS handshake.
        2 => [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &dice.bytes(500)].concat(),
        3 => greeting(b"")[..dice.below(30) as usize].to_vec(),
        4 => {
            let frames = [
                frame(
                    dice.below(256) as u8,
                    dice.below(256) as u8,
                    dice.below(8) as u32,
                    &dice.bytes(200),
                ),
                frame(DATA, 0, 1, b"of no call"),
                frame(CONTINUATION, 0, 1, b"of no headers"),
                frame(SETTINGS, 0, 0, b"seven b"),
                frame(PING, 0, 0, b"nine byte"),
                // A frame of 16 MiB less one, of which nothing comes.
                vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1],
            ];
            [greeting(b""), frames[dice.below(6) as usize].clone()].concat()
        }
        // A right conversation with a few bits flipped, or cut off.
        _ => {
            let order = ReserveRequest { key: "order-1".into(), ..Default::default() };
            let mut bytes = [greeting(b""), begin(1, "Reserve"), request(1, &order)].concat();
            for _ in 0..dice.below(4) {
                let at = dice.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << dice.below(8);
            }
            bytes.truncate(24 + dice.below(bytes.len() as u64 - 23) as usize);
            bytes
        }
    }
}
