//! Messages that are too long, or that lie about what they are.

use std::net::SocketAddr;

use crate::http2::{DATA, END_STREAM, begin, frame, greeting};
use crate::proof::effort;
use crate::target::{Attacker, Target};

/// One connection that sends `body` as the request of each of `calls` calls, in pieces of 16 KiB
/// as far as the server lets it.
fn send(address: SocketAddr, calls: u32, body: impl Fn() -> Vec<u8>) {
    let mut attacker = Attacker::connect(address);
    attacker.send(&greeting(b""));
    for number in 0..calls {
        let call = 2 * number + 1;
        if !attacker.send(&begin(call, "Complete")) {
            return;
        }
        for piece in body().chunks(16_384) {
            if !attacker.send(&frame(DATA, 0, call, piece)) {
                return;
            }
        }
    }
}

async fn attack_with(
    name: &str,
    mebibytes: u64,
    body: impl Fn() -> Vec<u8> + Send + Copy + 'static,
) {
    let target = Target::start(&[]);
    let address = target.server.address;
    let connections = effort(4, 24);
    let attack = || async move {
        let sending = (0..connections)
            .map(|_| tokio::task::spawn_blocking(move || send(address, 8, body)))
            .collect::<Vec<_>>();
        for connection in sending {
            connection.await.unwrap();
        }
        connections
    };
    target.withstands(name, mebibytes, attack).await;
}

fn prefix(compressed: u8, length: u32) -> Vec<u8> {
    [&[compressed][..], &length.to_be_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lengths_that_lie_reserve_no_memory() {
    attack_with("messages that claim to have 4 GiB", 64, || {
        [prefix(0, u32::MAX), vec![b'x'; 1_000]].concat()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compression_that_was_not_agreed_is_refused() {
    attack_with("messages that claim to be compressed", 64, || {
        [prefix(1, 1_000), vec![0x1f; 1_000]].concat()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_never_end_cost_what_was_sent_and_no_more() {
    let target = Target::start(&[]);
    let address = target.server.address;
    // What the flow control of a connection lets through, and the copies of it on the way.
    let (connections, bound) = (effort(2, 4), effort(2, 4) * 8 * 40);
    let attack = || async move {
        let body = || [prefix(0, 15 << 20), vec![b'x'; 14 << 20]].concat();
        let sending = (0..connections)
            .map(|_| tokio::task::spawn_blocking(move || send(address, 8, body)))
            .collect::<Vec<_>>();
        for connection in sending {
            connection.await.unwrap();
        }
        connections
    };
    target.withstands("messages of 16 MiB that never end", bound, attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_zeros_is_refused_and_harms_nobody() {
    let target = Target::start(&[]);
    let address = target.server.address;
    let attack = || async move {
        tokio::task::spawn_blocking(move || {
            for number in 0..effort(50, 2_000) {
                let mut attacker = Attacker::connect(address);
                let body = [prefix(0, 100), vec![0; 100]].concat();
                let last = frame(DATA, END_STREAM, 1, &body);
                attacker.send(&[greeting(b""), begin(1, "Reserve"), last].concat());
                if number % 2 == 0 {
                    let _ = std::io::Read::read(&mut attacker.0, &mut [0; 64]);
                }
            }
            effort(50, 2_000)
        })
        .await
        .unwrap()
    };
    target.withstands("messages that are no protobuf", 64, attack).await;
}
