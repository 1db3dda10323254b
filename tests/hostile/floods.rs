//! Many small things at once: each is cheap to send, and must not be dear to take.

use onced::pb::v1::ReserveRequest;

use crate::http2::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, SETTINGS, begin, cancel, frame, greeting,
    headers, request,
};
use crate::proof::effort;
use crate::target::{Attacker, Target};

/// How many calls of one connection are parked at a time.
const PARKED: u32 = 200;

/// Sends what `piece` makes for each number, on several connections that never read, and
/// connects again where the server has had enough.
async fn flood(name: &str, piece: impl Fn(u32) -> Vec<u8> + Send + Sync + Copy + 'static) {
    flood_within(96, name, piece).await;
}

/// The same, where it may cost so many mebibytes.
async fn flood_within(
    mebibytes: u64,
    name: &str,
    piece: impl Fn(u32) -> Vec<u8> + Send + Sync + Copy + 'static,
) {
    let target = Target::start(&[]);
    let address = target.server.address;
    let (connections, pieces) = (effort(3, 20), 20_000);
    let attack = || async move {
        let flooding = (0..connections).map(|_| {
            tokio::task::spawn_blocking(move || {
                let mut sent = 0;
                while sent < pieces {
                    let mut attacker = Attacker::connect(address);
                    attacker.send(&greeting(b""));
                    sent += 1;
                    // From the first piece on, as everything on a connection is counted anew.
                    for number in 0.. {
                        if sent == pieces || !attacker.send(&piece(number)) {
                            break;
                        }
                        sent += 1;
                    }
                }
                sent
            })
        });
        let mut strikes = 0;
        for connection in flooding.collect::<Vec<_>>() {
            strikes += connection.await.unwrap();
        }
        strikes
    };
    target.withstands(name, mebibytes, attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_reset_at_once_cost_little() {
    flood("calls that are reset at once", |number| {
        let order = ReserveRequest { key: format!("reset-{number}"), ..Default::default() };
        let call = 2 * number + 1;
        [begin(call, "Reserve"), request(call, &order), cancel(call)].concat()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_and_are_reset_cost_little() {
    // 12 KiB for each that is parked on top.
    let parked = (effort(3, 20) * PARKED * 12) >> 10;
    flood_within(
        96 + u64::from(parked),
        "calls that wait for a reservation and are reset",
        |number| {
            let order = ReserveRequest {
                key: format!("parked-{}", number % 10),
                wait_timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
                lease: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
                ..Default::default()
            };
            let call = 2 * number + 1;
            let mut pieces = [begin(call, "Reserve"), request(call, &order)].concat();
            if let Some(reset) = number.checked_sub(PARKED) {
                pieces.extend(cancel(2 * reset + 1));
            }
            pieces
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_reset_half_sent_cost_little() {
    flood("calls that are reset half sent", |number| {
        let call = 2 * number + 1;
        let half = frame(DATA, 0, call, &[0, 0, 0, 1, 0, b'x', b'y']);
        [begin(call, "Complete"), half, cancel(call)].concat()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_and_pings_without_end_cost_little() {
    flood("settings and pings whose answers nobody reads", |number| match number % 2 {
        0 => frame(SETTINGS, 0, 0, b""),
        _ => frame(PING, 0, 0, b"12345678"),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_frames_without_end_cost_little() {
    flood("empty frames of one call", |number| match number {
        0 => begin(1, "Reserve"),
        _ => frame(DATA, 0, 1, b""),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_end_are_cut_off() {
    flood("headers that never end", |number| match number {
        0 => frame(HEADERS, 0, 1, &headers("Reserve")),
        // Each piece is a header of its own: a literal, not indexed.
        _ => frame(CONTINUATION, 0, 1, &[&b"\x00\x01x\x7f\x00"[..], &[b'y'; 127]].concat()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_in_thousands_are_refused() {
    flood("calls with two thousand headers each", |number| {
        let call = 2 * number + 1;
        let mut block = headers("Lookup");
        // The table of the decoder is filled again and again.
        for header in 0..2_000_u32 {
            block.extend([&b"\x40\x04"[..], &header.to_be_bytes(), b"\x01v"].concat());
        }
        frame(HEADERS, END_HEADERS, call, &block)
    })
    .await;
}
