//! Messages that are too long, or that lie about what they are.

use std::net::SocketAddr;
use std::time::Duration;

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

/// One connection that keeps to the flow control, and so gets all of its messages through but
/// for their last bytes.
async fn send_slowly(address: SocketAddr, calls: usize) {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..calls {
        let mut client = client.clone().ready().await.unwrap();
        sending.spawn(async move {
            let request =
                http::Request::post("http://localhost/onced.v1.IdempotencyService/Complete")
                    .header("content-type", "application/grpc")
                    .body(())
                    .unwrap();
            let (answer, mut body) = client.send_request(request, false).unwrap();
            let message = [prefix(0, 15 << 20), vec![b'x'; 14 << 20]].concat();
            body.send_data(message.into(), false).unwrap();
            // It is refused in the end, or waits for what never comes.
            let _ = tokio::time::timeout(Duration::from_secs(2), answer).await;
        });
    }
    sending.join_all().await;
    connection.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_never_end_share_one_budget() {
    let target = Target::start(&["--max-large-message-bytes", "32MiB"]);
    let address = target.server.address;
    let connections = effort(2, 8);
    let attack = || async move {
        let sending: Vec<_> =
            (0..connections).map(|_| tokio::spawn(send_slowly(address, 12))).collect();
        for connection in sending {
            connection.await.unwrap();
        }
        connections * 12
    };
    // Buffers grow by doubling; the windows of connections that nobody has read from yet come
    // on top, and what serving costs. The second time, the connections of the first may not have
    // been noticed as gone.
    let bound = 3 * 32 + 2 * connections * 16 + 64;
    target.withstands("messages of 15 MiB that never end", bound, attack).await;
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
