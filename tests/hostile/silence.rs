//! Connections that say nothing, and callers who do not read what they asked for.

use std::net::TcpStream;
use std::time::Duration;

use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::{CompleteRequest, ReserveRequest, Response, Result as OperationResult};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use uuid::Uuid;

use crate::http2::{begin, greeting, request};
use crate::proof::effort;
use crate::target::{Attacker, Target};

/// As many files as this user may open, for the test and for the servers that it starts.
fn raise_the_limit_of_open_files() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.unwrap_or(u64::MAX)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_cost_little_and_harm_nobody() {
    let connections = effort(1_000, 10_000).min(raise_the_limit_of_open_files() / 2);
    let target = Target::start(&[]);
    let address = target.server.address;
    let idle = std::sync::Mutex::new(Vec::new());
    let attack = || async {
        idle.lock().unwrap().clear();
        for number in 0..connections {
            let mut attacker = Attacker::connect(address);
            // Half of them greet, the others do not even do that.
            if number % 2 == 0 {
                attacker.send(&greeting(b""));
            }
            idle.lock().unwrap().push(attacker);
        }
        // Those that were accepted are all open at once, and others are served meanwhile.
        tokio::time::sleep(Duration::from_millis(500)).await;
        connections
    };
    // 64 KiB each, and what it costs to serve others. The second time, those of the first may
    // not have been noticed as gone.
    let bound = 64 + 2 * connections * 64 / 1024;
    target.withstands("idle connections", bound, attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_may_be_are_refused() {
    let target = Target::start(&["--max-connections", "50"]);
    let address = target.server.address;
    let attack = || async move {
        let mut sockets = Vec::new();
        for _ in 0..200 {
            sockets.push(TcpStream::connect(address).unwrap());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        200
    };
    let files = target.server.open_files();
    attack().await;
    assert!(target.server.open_files() <= files + 50, "{}", target.server.open_files());
    // The bystanders find a place once the server has noticed that these have gone.
    let gone = async {
        while target.server.open_files() > files {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("connections are let go");
    target.withstands("more connections than max_connections", 64, attack).await;
}

/// Callers who ask for a large response again and again and never read: what is held for them
/// is bounded for all of them together, and answers that are not large pass all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_do_not_read_hold_up_nobody_else() {
    let target = Target::start(&["--max-large-message-bytes", "32MiB"]);
    let address = target.server.address;
    let order = ReserveRequest {
        key: "large".into(),
        owner_token: Uuid::new_v4().into(),
        ..Default::default()
    };
    let end = CompleteRequest {
        key: "large".into(),
        owner_token: order.owner_token.clone(),
        result: OperationResult::Succeeded.into(),
        response: Some(Response { payload: vec![7; 1_000_000], ..Default::default() }),
        ..Default::default()
    };
    let mut client = IdempotencyServiceClient::connect(format!("http://{address}")).await.unwrap();
    client.reserve(order.clone()).await.unwrap();
    client.complete(end).await.unwrap();

    let connections = effort(2, 6);
    let attack = || {
        let order = order.clone();
        async move {
            let mut attackers = Vec::new();
            for _ in 0..connections {
                let mut attacker = Attacker::connect(address);
                // SETTINGS_INITIAL_WINDOW_SIZE is 0: not a byte of an answer may be sent.
                attacker.send(&greeting(&[0, 4, 0, 0, 0, 0]));
                for number in 0..200 {
                    let call = 2 * number + 1;
                    attacker.send(&[begin(call, "Reserve"), request(call, &order)].concat());
                }
                attackers.push(attacker);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            connections * 200
        }
    };
    // Twice the budget, for what was freed and not yet given back, and what serving costs.
    target.withstands("large answers that nobody reads", 2 * 32 + 64, attack).await;
}
