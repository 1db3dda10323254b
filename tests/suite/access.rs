//! Who may call what, over real channels: every call of both services by every kind of principal
//! in every kind of namespace, and what changes while connections are open.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use onced::access::right::{self, RIGHTS, Right};
use onced::access::{Role, Token, TokenDigest};
use onced::config::{Settings, TlsClientAuth};
use onced::pb::v1::admin_service_client::AdminServiceClient;
use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::{self, batch_complete_item, batch_reserve_item};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_types::StatusExt as _;

use crate::certificates::Authority;
use crate::server::{TestServer, settings};
use crate::tls::connect;

/// Names of principals, and what they may do where.
const ROLES: [(&str, Role); 3] =
    [("reader", Role::Reader), ("writer", Role::Writer), ("operator", Role::Operator)];
const PATTERNS: [&str; 4] = ["orders", "mail.*", "default", "*"];
const NAMESPACES: [&str; 6] = ["orders", "mail.eu", "", "default", "other", "Not A Namespace"];

/// Whether a pattern is for a namespace, as the README says it.
fn is_for(pattern: &str, namespace: &str) -> bool {
    match pattern {
        "orders" => namespace == "orders",
        "mail.*" => namespace == "mail.eu",
        "default" => ["", "default"].contains(&namespace),
        _ => true,
    }
}

/// The smallest role that may make a call, as the README says it.
fn role_for(call: &str) -> Role {
    match call {
        "Lookup" | "DescribeNamespace" => Role::Reader,
        "Reserve" | "Complete" | "Release" | "Renew" | "BatchReserve" | "BatchComplete" => {
            Role::Writer
        }
        "ListRecords" | "ForceRelease" | "ForceComplete" | "DeleteRecord" | "EraseNamespace"
        | "GetStats" | "SetLogFilter" | "CreateBackup" | "ListBackups" => Role::Operator,
        other => panic!("{other} has no role"),
    }
}

fn token_of(role: &str, pattern: &str) -> String {
    format!("token-of-{role}-for-{pattern}")
}

fn digest(token: &str) -> String {
    TokenDigest::of(token.as_bytes()).to_string()
}

/// A file with a principal for each role and pattern.
fn everybody(directory: &Path) -> PathBuf {
    let mut text = String::new();
    for (role, _) in ROLES {
        for pattern in PATTERNS {
            let digest = digest(&token_of(role, pattern));
            text.push_str(&format!(
                "[principals.\"{role}-{pattern}\"]\nrole = \"{role}\"\n\
                 namespaces = [\"{pattern}\"]\ntokens = [\"{digest}\"]\n"
            ));
        }
    }
    let path = directory.join("credentials.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// The name of every call of both services, from the descriptors that are served.
fn calls() -> Vec<(String, String)> {
    let mut calls = BTreeSet::new();
    for set in [
        v1::FILE_DESCRIPTOR_SET,
        v1::ADMIN_FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        for file in FileDescriptorSet::decode(set).unwrap().file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                calls.extend(service.method.iter().map(|it| (name.clone(), it.name().to_owned())));
            }
        }
    }
    calls.into_iter().collect()
}

#[test]
fn every_call_that_is_served_has_a_row_and_every_row_is_of_a_call() {
    let served: Vec<_> =
        calls().iter().map(|(service, name)| format!("/{service}/{name}")).collect();
    for path in &served {
        assert!(right::of(path).is_some(), "{path} has no row in src/access/right.rs");
    }
    for (path, _) in RIGHTS {
        assert!(served.iter().any(|it| it == path), "{path} is no call");
    }
    assert_eq!(served.len(), RIGHTS.len());
    assert_eq!(right::of("/onced.v1.IdempotencyService/Unheard"), None);
    for (path, right) in RIGHTS.iter().filter(|(path, _)| path.starts_with("/onced.v1.")) {
        assert_eq!(*right, Right::Has(role_for(right::name_of(path))), "{path}");
    }
}

fn with<T>(token: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// Makes a call in a namespace, and says how it was answered: for a batch, how its item was.
async fn make(
    channel: &Channel,
    token: Option<&str>,
    call: &str,
    namespace: &str,
) -> Result<(), Status> {
    let mut client = IdempotencyServiceClient::new(channel.clone());
    let mut admin = AdminServiceClient::new(channel.clone());
    let (namespace, key) = (namespace.to_owned(), "order-1".to_owned());
    let owner_token = uuid::Uuid::new_v4().to_string();
    let (reason, operator) = ("a test".to_owned(), "olga".to_owned());
    let reserve =
        v1::ReserveRequest { namespace: namespace.clone(), key: key.clone(), ..Default::default() };
    let complete = v1::CompleteRequest {
        namespace: namespace.clone(),
        key: key.clone(),
        owner_token: owner_token.clone(),
        result: v1::Result::Succeeded.into(),
        ..Default::default()
    };
    match call {
        "Reserve" => client.reserve(with(token, reserve)).await.map(drop),
        "Complete" => client.complete(with(token, complete)).await.map(drop),
        "Release" => {
            let request = v1::ReleaseRequest { namespace, key, owner_token };
            client.release(with(token, request)).await.map(drop)
        }
        "Renew" => {
            let request = v1::RenewRequest { namespace, key, owner_token, ..Default::default() };
            client.renew(with(token, request)).await.map(drop)
        }
        "Lookup" => {
            let request = v1::LookupRequest { namespace, key, wait_timeout: None };
            client.lookup(with(token, request)).await.map(drop)
        }
        "BatchReserve" => {
            let request = v1::BatchReserveRequest { items: vec![reserve] };
            let answer = client.batch_reserve(with(token, request)).await?.into_inner();
            match answer.items.into_iter().next().unwrap().result.unwrap() {
                batch_reserve_item::Result::Response(_) => Ok(()),
                batch_reserve_item::Result::Status(status) => Err(as_status(status)),
            }
        }
        "BatchComplete" => {
            let request = v1::BatchCompleteRequest { items: vec![complete] };
            let answer = client.batch_complete(with(token, request)).await?.into_inner();
            match answer.items.into_iter().next().unwrap().result.unwrap() {
                batch_complete_item::Result::Response(_) => Ok(()),
                batch_complete_item::Result::Status(status) => Err(as_status(status)),
            }
        }
        "ListRecords" => {
            let request = v1::ListRecordsRequest { namespace, ..Default::default() };
            admin.list_records(with(token, request)).await.map(drop)
        }
        "ForceRelease" => {
            let request =
                v1::ForceReleaseRequest { namespace, key, reason, operator, fencing_token: 0 };
            admin.force_release(with(token, request)).await.map(drop)
        }
        "ForceComplete" => {
            let request = v1::ForceCompleteRequest {
                namespace,
                key,
                reason,
                operator,
                result: v1::Result::Succeeded.into(),
                ..Default::default()
            };
            admin.force_complete(with(token, request)).await.map(drop)
        }
        "DeleteRecord" => {
            let request =
                v1::DeleteRecordRequest { namespace, key, reason, operator, fencing_token: 0 };
            admin.delete_record(with(token, request)).await.map(drop)
        }
        "EraseNamespace" => {
            let erase_id = String::new();
            let request = v1::EraseNamespaceRequest { namespace, reason, operator, erase_id };
            admin.erase_namespace(with(token, request)).await.map(drop)
        }
        "DescribeNamespace" => {
            let request = v1::DescribeNamespaceRequest { namespace };
            admin.describe_namespace(with(token, request)).await.map(drop)
        }
        "GetStats" => admin.get_stats(with(token, v1::GetStatsRequest {})).await.map(drop),
        "SetLogFilter" => {
            let filter = "info".to_owned();
            let request = v1::SetLogFilterRequest { filter, reason, operator, duration: None };
            admin.set_log_filter(with(token, request)).await.map(drop)
        }
        "CreateBackup" => {
            let request = v1::CreateBackupRequest { reason, operator };
            admin.create_backup(with(token, request)).await.map(drop)
        }
        "ListBackups" => admin.list_backups(with(token, v1::ListBackupsRequest {})).await.map(drop),
        other => panic!("{other} is not called"),
    }
}

/// The status of an item, as it would have come alone.
fn as_status(status: tonic_types::pb::Status) -> Status {
    let details = status.encode_to_vec().into();
    Status::with_details(Code::from_i32(status.code), status.message, details)
}

/// The reason of a refusal that has to do with who calls.
fn refusal(answered: &Result<(), Status>) -> Option<String> {
    let Err(status) = answered else { return None };
    if ![Code::Unauthenticated, Code::PermissionDenied].contains(&status.code()) {
        return None;
    }
    let details = status.get_error_details_vec();
    assert_eq!(details.len(), 1, "exactly one detail: {status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "onced");
    Some(info.reason)
}

/// A server of which everybody is a caller, on a connection whose store is open.
async fn guarded(directory: &Path) -> (TestServer, Channel) {
    let credentials = Some(everybody(directory));
    let server = TestServer::start(Settings { credentials, ..settings("memory:") });
    // Health is asked without a token.
    server.client().await;
    let channel = server.channel().await;
    (server, channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_principal_may_make_the_calls_of_its_role_in_its_namespaces_and_no_others() {
    let dir = TempDir::new().unwrap();
    let (server, channel) = guarded(dir.path()).await;
    let onced: Vec<_> = calls()
        .into_iter()
        .filter(|(service, _)| service.starts_with("onced.v1."))
        .map(|(_, name)| name)
        .collect();
    assert_eq!(onced.len(), 17);
    let mut asked = 0;
    for call in &onced {
        for (name, role) in ROLES {
            for pattern in PATTERNS {
                let token = token_of(name, pattern);
                // "*" is a namespace for a listing alone, and then all of them.
                let all = (call == "ListRecords").then_some("*");
                for namespace in NAMESPACES.into_iter().chain(all) {
                    let answered = make(&channel, Some(&token), call, namespace).await;
                    let is_allowed = match (call.as_str(), namespace) {
                        // They concern all namespaces.
                        ("GetStats" | "SetLogFilter" | "CreateBackup" | "ListBackups", _)
                        | ("ListRecords", "*") => pattern == "*",
                        // It has no default.
                        ("EraseNamespace", "") => is_for(pattern, ""),
                        _ => is_for(pattern, namespace),
                    };
                    let expected = (role < role_for(call) || !is_allowed)
                        .then(|| "PERMISSION_DENIED".to_owned());
                    let told = refusal(&answered);
                    assert_eq!(
                        told, expected,
                        "{token} calls {call} in {namespace:?}: {answered:?}"
                    );
                    // No refusal tells what was sent.
                    if let Err(status) = &answered {
                        assert!(!format!("{status:?}").contains(&token), "{status:?}");
                    }
                    asked += 1;
                }
            }
        }
        // Whoever shows nothing, or what nobody has, is not told whether there is such a thing.
        for token in [None, Some("guessed")] {
            let answered = make(&channel, token, call, "orders").await;
            assert_eq!(refusal(&answered).as_deref(), Some("UNAUTHENTICATED"), "{call}");
        }
    }
    assert_eq!(asked, 17 * 12 * 6 + 12);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn permission_is_asked_before_anything_else_about_a_request_is() {
    let dir = TempDir::new().unwrap();
    let credentials = Some(everybody(dir.path()));
    let strict = Settings { credentials, strict: true, ..settings("memory:") };
    let server = TestServer::start(strict);
    server.client().await;
    let channel = server.channel().await;
    // Of a namespace that is not listed, and of one that cannot be: as of all others.
    let token = token_of("writer", "orders");
    for namespace in ["unlisted", "NO NAMESPACE"] {
        let answered = make(&channel, Some(&token), "Reserve", namespace).await;
        assert_eq!(refusal(&answered).as_deref(), Some("PERMISSION_DENIED"));
    }
    let answered = make(&channel, Some(&token), "Reserve", "orders").await;
    assert_eq!(answered.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_items_of_a_batch_are_permitted_or_denied_on_their_own() {
    let dir = TempDir::new().unwrap();
    let (_server, channel) = guarded(dir.path()).await;
    let item = |namespace: &str, key: &str| v1::ReserveRequest {
        namespace: namespace.into(),
        key: key.into(),
        ..Default::default()
    };
    let items =
        vec![item("orders", "a"), item("other", "b"), item("orders", ""), item("orders", "c")];
    let request = with(Some(&token_of("writer", "orders")), v1::BatchReserveRequest { items });
    let mut client = IdempotencyServiceClient::new(channel.clone());
    let answer = client.batch_reserve(request).await.unwrap().into_inner();
    let codes: Vec<_> = answer
        .items
        .into_iter()
        .map(|item| match item.result.unwrap() {
            batch_reserve_item::Result::Response(_) => Code::Ok,
            batch_reserve_item::Result::Status(status) => Code::from_i32(status.code),
        })
        .collect();
    assert_eq!(codes, [Code::Ok, Code::PermissionDenied, Code::InvalidArgument, Code::Ok]);
    // And nothing was written where it was denied.
    let all = token_of("operator", "*");
    let found = make(&channel, Some(&all), "Lookup", "other").await.unwrap_err();
    assert_eq!(found.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn health_is_for_everybody_and_reflection_for_those_who_are_known() {
    let dir = TempDir::new().unwrap();
    let (_server, channel) = guarded(dir.path()).await;
    let mut health = HealthClient::new(channel.clone());
    health.check(HealthCheckRequest::default()).await.unwrap();
    health.check(with(Some("guessed"), HealthCheckRequest::default())).await.unwrap();

    let mut reflection = ServerReflectionClient::new(channel.clone());
    let asking = || tokio_stream::once(ServerReflectionRequest::default());
    let refused = reflection.server_reflection_info(asking()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let known = with(Some(&token_of("reader", "orders")), asking());
    reflection.server_reflection_info(known).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_that_does_not_exist_is_unimplemented_for_everybody() {
    let dir = TempDir::new().unwrap();
    let (_server, channel) = guarded(dir.path()).await;
    for path in ["/onced.v1.IdempotencyService/Unheard", "/other.Service/Call"] {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<v1::ReserveRequest, v1::ReserveResponse>::default();
        let token = token_of("operator", "*");
        let request = with(Some(&token), v1::ReserveRequest::default());
        let refused = grpc.unary(request, path.parse().unwrap(), codec).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_guesses_is_slowed_and_who_is_known_is_not() {
    let dir = TempDir::new().unwrap();
    let (_server, guessing) = guarded(dir.path()).await;
    // Given a caller who guesses a hundred times at once, from the same address as all others.
    let guesses: Vec<_> = (0..100)
        .map(|number| {
            let channel = guessing.clone();
            tokio::spawn(async move {
                let guess = format!("guess-{number}");
                make(&channel, Some(&guess), "Lookup", "orders").await.unwrap_err().code()
            })
        })
        .collect();
    // When a hundred calls of somebody who is known are answered, one after another, also on that
    // very connection,
    let token = token_of("writer", "orders");
    for _ in 0..100 {
        assert_eq!(refusal(&make(&guessing, Some(&token), "Reserve", "orders").await), None);
    }
    // then most guesses are still held back: they are answered ten a second.
    let answered = guesses.iter().filter(|guess| guess.is_finished()).count();
    assert!(answered < 100, "{answered} guesses are answered");
    for guess in guesses {
        assert_eq!(guess.await.unwrap(), Code::Unauthenticated);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn credentials_are_exchanged_under_open_connections_and_broken_ones_are_not() {
    let dir = TempDir::new().unwrap();
    let (server, channel) = guarded(dir.path()).await;
    let path = dir.path().join("credentials.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    let (old, new) = (token_of("reader", "*"), Token::mint().unwrap());
    let lookup = async |token: &str| {
        refusal(&make(&channel, Some(token), "Lookup", "orders").await).is_none()
    };
    assert!(lookup(&old).await && !lookup(new.reveal()).await);

    // When a file is broken, whoever was known still is.
    for broken in ["", "[principals.shop]\n", &before[..before.len() / 2 + 3]] {
        std::fs::write(&path, broken).unwrap();
        // Files are looked at each second.
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        assert!(lookup(&old).await, "{broken:?}");
    }
    // When one token takes the place of another, the connection stays, and what it shows counts.
    let after = before.replace(&digest(&old), &new.digest().to_string());
    std::fs::write(&path, after).unwrap();
    while lookup(&old).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(lookup(new.reveal()).await);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_principal_is_known_by_the_names_of_its_certificate() {
    let (dir, authority) = (TempDir::new().unwrap(), Arc::new(Authority::new("ours")));
    let (cert, key) = authority.server().write(dir.path(), "server");
    let (ca, credentials) = (dir.path().join("ca.crt"), dir.path().join("credentials.toml"));
    std::fs::write(&ca, &authority.pem).unwrap();
    let text = format!(
        "[principals.shop]\nrole = 'writer'\nnamespaces = ['orders']\n\
         certificates = ['URI:spiffe://example/shop', 'DNS:shop.example']\n\
         [principals.probe]\nrole = 'reader'\nnamespaces = ['*']\ntokens = ['{}']\n",
        digest("of the probe")
    );
    std::fs::write(&credentials, text).unwrap();
    let server = TestServer::start(Settings {
        tls_cert: Some(cert),
        tls_key: Some(key),
        tls_client_ca: Some(ca),
        tls_client_auth: TlsClientAuth::Optional,
        credentials: Some(credentials),
        ..settings("memory:")
    });
    let ask = async |names: &[&str], token: Option<&str>, call: &str, namespace: &str| {
        let identity = (!names.is_empty()).then(|| authority.client(names));
        let channel = connect(server.address, &authority, identity.as_ref()).await.unwrap();
        refusal(&make(&channel, token, call, namespace).await)
    };
    let (denied, unknown) =
        (Some("PERMISSION_DENIED".to_owned()), Some("UNAUTHENTICATED".to_owned()));
    for names in [&["URI:spiffe://example/shop"][..], &["DNS:other", "DNS:SHOP.example"]] {
        assert_eq!(ask(names, None, "Reserve", "orders").await, None);
        assert_eq!(ask(names, None, "Reserve", "other").await, denied);
        assert_eq!(ask(names, None, "ListRecords", "orders").await, denied);
    }
    assert_eq!(ask(&["DNS:other"], None, "Reserve", "orders").await, unknown);
    assert_eq!(ask(&["URI:spiffe://example/shop/2"], None, "Reserve", "orders").await, unknown);
    assert_eq!(ask(&[], None, "Lookup", "orders").await, unknown);
    // A token says who calls, with or without a certificate.
    assert_eq!(ask(&[], Some("of the probe"), "Lookup", "other").await, None);
    assert_eq!(ask(&["DNS:shop.example"], Some("of the probe"), "Lookup", "other").await, None);
    assert_eq!(ask(&["DNS:shop.example"], Some("guessed"), "Lookup", "orders").await, unknown);
}
