//! A limit on memory, under callers who want much of everything at once.

use std::net::SocketAddr;

use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::{
    CompleteRequest, LookupRequest, ReserveRequest, Response, Result as OperationResult,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::bystander::Bystander;
use crate::proof::{Row, effort};
use crate::target::Target;

/// What the server may have, in mebibytes.
const LIMIT: u64 = 512;

/// How large the stored responses are: a mebibyte is the most that is stored.
const RESPONSE: usize = 1_000 << 10;

/// What callers came to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    answered: u64,
    overloaded: u64,
}

impl Tally {
    /// A server that is full of work says so, and nothing else goes wrong.
    fn note<T>(&mut self, answer: Result<T, Status>) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.answered += 1;
                Some(answer)
            }
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                self.overloaded += 1;
                None
            }
        }
    }
}

/// One caller: operations with large results, each looked at again and again, and many small
/// ones beside them.
async fn call(channel: Channel, operations: u64) -> Tally {
    let mut client = IdempotencyServiceClient::new(channel).max_decoding_message_size(4 << 20);
    let mut tally = Tally::default();
    for _ in 0..operations {
        let (key, owner_token) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let order = ReserveRequest { key: key.clone(), owner_token, ..Default::default() };
        if tally.note(client.reserve(order.clone()).await).is_none() {
            continue;
        }
        let end = CompleteRequest {
            key: key.clone(),
            owner_token: order.owner_token.clone(),
            result: OperationResult::Succeeded.into(),
            response: Some(Response { payload: vec![b'x'; RESPONSE], ..Default::default() }),
            ..Default::default()
        };
        tally.note(client.complete(end).await);
        for _ in 0..4 {
            let request = LookupRequest { key: key.clone(), ..Default::default() };
            tally.note(client.lookup(request).await);
        }
        for number in 0..10 {
            let small = ReserveRequest { key: format!("{key}-{number}"), ..Default::default() };
            tally.note(client.reserve(small).await);
        }
    }
    tally
}

async fn attack(address: SocketAddr) -> Tally {
    let mut calling = tokio::task::JoinSet::new();
    for _ in 0..effort(60, 200) {
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        for _ in 0..8 {
            calling.spawn(call(channel.clone(), effort(2, 10)));
        }
    }
    let mut tally = Tally::default();
    for caller in calling.join_all().await {
        tally.answered += caller.answered;
        tally.overloaded += caller.overloaded;
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_on_memory_holds_under_large_answers_and_many_connections() {
    let target = Target::start(&["--memory-limit", &format!("{LIMIT}MiB")]);
    let bystander = Bystander::start(target.server.address);
    let bystander = bystander.await;
    let tally = attack(target.server.address).await;
    let served = bystander.stop().await;
    let peak = target.server.peak_bytes() >> 20;
    println!("{tally:?}, {served:?}, at most {peak} MiB");
    assert!(peak <= LIMIT, "{peak} MiB");
    assert!(tally.answered > tally.overloaded, "{tally:?}");
    assert_eq!(target.server.lines_with("panicked"), Vec::<String>::new());
    Row {
        promise: "7 everything is bounded, and other callers are unharmed",
        attack: "large results and answers on many connections, with memory_limit = 512MiB",
        times: &format!(
            "{} answers, {} refused, {} operations of others, at most {peak} MiB of memory",
            tally.answered, tally.overloaded, served.operations
        ),
        lost: 0,
    }
    .report();
}
