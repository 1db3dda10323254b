//! Tools that share no code with onced, against its port: openssl, and grpcurl.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::premises::{Premises, text};
use crate::process::{Process, onced, without_settings};
use crate::skip::skip;
use crate::tool::tool;

fn openssl(test: &str) -> Option<String> {
    tool("ONCED_TEST_OPENSSL", "openssl", &["version"]).map_err(|why| skip(test, &why)).ok()
}

/// Shakes hands as openssl does it, says nothing, and leaves.
fn s_client(program: &str, server: &Process, ca: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(["s_client", "-connect", &server.address.to_string(), "-CAfile"]).arg(ca);
    command.args(["-verify_return_error", "-verify_hostname", "localhost"]).args(more);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn openssl_shakes_hands_for_h2_with_both_versions_and_with_no_older_one() {
    let Some(program) =
        openssl("openssl_shakes_hands_for_h2_with_both_versions_and_with_no_older_one")
    else {
        return;
    };
    let premises = Premises::new();
    let server = premises.serve(&[]);
    let ca = premises.path("ca.crt");
    let mail = [text(&premises.path("mail.crt")), text(&premises.path("mail.key"))];
    let identity = ["-cert", &mail[0], "-key", &mail[1]];
    for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        for identity in [&[][..], &identity] {
            let shaken =
                s_client(&program, &server, &ca, &[&[flag, "-alpn", "h2"], identity].concat());
            let told = String::from_utf8_lossy(&shaken.stdout);
            assert!(shaken.status.success(), "{shaken:?}");
            for part in ["ALPN protocol: h2", "Verification: OK", version] {
                assert!(told.contains(part), "{part} is missing: {told}");
            }
        }
    }
    for flags in [&["-tls1_1", "-alpn", "h2"][..], &["-alpn", "http/1.1"]] {
        let refused = s_client(&program, &server, &ca, flags);
        assert!(!refused.status.success(), "{flags:?}: {refused:?}");
    }
    // And not without being trusted.
    let other = premises.path("mail.crt");
    assert!(!s_client(&program, &server, &other, &["-alpn", "h2"]).status.success());
}

#[test]
fn keys_are_taken_as_openssl_writes_them() {
    let Some(program) = openssl("keys_are_taken_as_openssl_writes_them") else { return };
    let premises = Premises::new();
    let directory = premises.directory.path();
    let openssl = |arguments: &[&str]| {
        let done = Command::new(&program).args(arguments).current_dir(directory).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    let checked = |key: &str| {
        let flags = ["serve", "--check", "--tls-cert", "made.crt", "--tls-key", key];
        onced().args(flags).current_dir(directory).output().unwrap()
    };
    // PKCS#8 and PKCS#1 of RSA, SEC1 of an elliptic curve with its parameters before it, Ed25519.
    for (name, make) in [
        ("rsa", &["genpkey", "-algorithm", "RSA", "-out", "rsa.key"][..]),
        ("rsa1", &["rsa", "-traditional", "-in", "rsa.key", "-out", "rsa1.key"]),
        ("ec", &["ecparam", "-name", "prime256v1", "-genkey", "-out", "ec.key"]),
        ("ed", &["genpkey", "-algorithm", "ED25519", "-out", "ed.key"]),
    ] {
        openssl(make);
        let key = format!("{name}.key");
        let subject = ["-subj", "/CN=made", "-addext", "subjectAltName=DNS:localhost"];
        let request = ["req", "-x509", "-key", &key, "-out", "made.crt", "-days", "7"];
        openssl(&[&request[..], &subject].concat());
        let checked = checked(&key);
        assert!(checked.status.success(), "{name}: {checked:?}");
    }
    // One that needs a password is refused in words that say so.
    openssl(&["pkey", "-in", "rsa.key", "-aes256", "-passout", "pass:a", "-out", "locked.key"]);
    let told = checked("locked.key");
    assert_eq!(told.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&told.stderr).contains("that is not encrypted"), "{told:?}");
}

#[test]
fn grpcurl_is_let_in_with_a_token_or_a_certificate() {
    let test = "grpcurl_is_let_in_with_a_token_or_a_certificate";
    let program = match tool("ONCED_TEST_GRPCURL", "grpcurl", &["-version"]) {
        Ok(program) => program,
        Err(why) => return skip(test, &why),
    };
    let premises = Premises::new();
    let server = premises.serve(&[]);
    let ca = text(&premises.path("ca.crt"));
    let call = |identity: &[&str], namespace: &str| {
        let mut command = without_settings(Command::new(&program));
        command.args(["-cacert", &ca]).args(identity);
        let request = format!("{{\"namespace\": \"{namespace}\", \"key\": \"order-1\"}}");
        let method = "onced.v1.IdempotencyService/Reserve";
        command.args(["-d", &request, &server.address.to_string(), method]).output().unwrap()
    };
    let header = format!("authorization: Bearer {}", premises.token("shop"));
    let granted = call(&["-H", &header], "orders");
    let granted: Value = serde_json::from_slice(&granted.stdout).unwrap();
    assert_eq!(granted["granted"]["attempt"], 1);

    let mail = [text(&premises.path("mail.crt")), text(&premises.path("mail.key"))];
    let granted = call(&["-cert", &mail[0], "-key", &mail[1]], "mail.eu");
    let granted: Value = serde_json::from_slice(&granted.stdout).unwrap();
    assert_eq!(granted["granted"]["attempt"], 1);

    let refused = call(&["-H", &header], "other");
    let told = String::from_utf8(refused.stderr).unwrap();
    for part in ["Code: PermissionDenied", "\"reason\": \"PERMISSION_DENIED\""] {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
    // It asks for the schema first, and is a stranger there already.
    let refused = call(&[], "orders");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("no credentials"), "{told}");
}
