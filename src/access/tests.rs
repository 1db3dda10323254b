//! What a file of credentials may say, all that can be wrong with one, and who is known by it.

use std::path::Path;
use std::sync::Arc;

use super::*;

const DIGEST: &str = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

fn read(text: &str) -> Result<Credentials, Vec<String>> {
    Credentials::read(Path::new("c.toml"), text, true)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

/// A file with one principal.
fn principal(fields: &str) -> String {
    format!("[principals.shop]\n{fields}\n")
}

fn visitor(guard: &Arc<Guard>, certificate: Option<Vec<SubjectName>>) -> Visitor {
    Visitor::new(Arc::clone(guard), [127, 0, 0, 1].into(), certificate)
}

fn guard(text: &str) -> Arc<Guard> {
    Arc::new(Guard::new(read(text).unwrap(), Arc::default()))
}

#[test]
fn a_token_is_known_by_its_digest() {
    let token = Token::mint().unwrap();
    assert_ne!(token.reveal(), Token::mint().unwrap().reveal());
    assert!(token.reveal().starts_with("onced_") && token.reveal().len() == 6 + 43);
    let digest = token.digest().to_string();
    assert!(TokenDigest::read(&digest).unwrap() == token.digest());
    assert_eq!(TokenDigest::of(b"secret").to_string(), DIGEST);
    for wrong in ["", "secret", &DIGEST[7..], &DIGEST[..70], &format!("{DIGEST}0"), "sha256:é"] {
        assert!(TokenDigest::read(wrong).is_err(), "{wrong:?}");
    }
    assert!(!format!("{token:?}{:?}", token.digest()).contains(&token.reveal()[6..]));
}

#[test]
fn a_pattern_reaches_what_it_says_and_an_empty_name_is_the_default() {
    let text = principal(&format!(
        "role = 'reader'\nnamespaces = ['orders', 'mail.*', 'default']\ntokens = ['{DIGEST}']"
    ));
    let credentials = read(&text).unwrap();
    let shop = credentials.of_token(b"secret").unwrap();
    for reached in ["orders", "mail.", "mail.eu", "default", ""] {
        assert!(shop.reaches(reached), "{reached}");
    }
    for other in ["order", "orders2", "mail", "other", "*", "Orders", "mail*"] {
        assert!(!shop.reaches(other), "{other}");
    }
    assert!(!shop.reaches_all());

    let all = text.replace("'orders', 'mail.*', 'default'", "'*'");
    let all = read(&all).unwrap();
    let all = all.of_token(b"secret").unwrap();
    assert!(all.reaches("anything") && all.reaches("") && all.reaches_all());
}

#[test]
fn roles_include_each_other_in_their_order() {
    assert!(Role::Reader < Role::Writer && Role::Writer < Role::Operator);
    for role in [Role::Reader, Role::Writer, Role::Operator] {
        assert_eq!(Role::named(role.name()), Some(role));
    }
    assert_eq!(Role::named("root"), None);
}

#[test]
fn all_faults_of_a_file_are_told_at_once_and_none_quotes_a_secret() {
    let text = format!(
        "\
people = 1
[principals.shop]
role = 'king'
namespaces = ['Orders', 7]
tokens = ['my-secret-token', '{DIGEST}']
tokenz = []
[principals.'two words']
role = 'reader'
namespaces = []
[principals.mail]
role = 7
tokens = ['{DIGEST}']
certificates = ['CN=mail']
[principals]
none = 'x'
"
    );
    let faults = read(&text).unwrap_err();
    assert_eq!(
        faults,
        [
            "people (from c.toml:1): is not principals, all that there is",
            "principals.shop.tokenz (from c.toml:6): is nothing that a principal has; did you mean \
             tokens?",
            "principals.shop.role (from c.toml:3): \"king\" is no role; give reader, writer or \
             operator",
            "principals.shop.namespaces (from c.toml:4): \"Orders\" byte 0 is outside a-z, 0-9, \
             '-', '_' and '.'; give a name, a prefix such as mail.* or *",
            "principals.shop.namespaces (from c.toml:4): has the wrong type, integer",
            "principals.shop.tokens (from c.toml:5): is not sha256: and 64 hex digits; `onced token \
             new` makes one",
            "principals.\"two words\" (from c.toml:7): character 3 is a space or not printable ASCII",
            "principals.\"two words\".namespaces (from c.toml:9): is empty; list one or more, or \
             leave it out",
            "principals.\"two words\" (from c.toml:7): has neither tokens nor certificates, so \
             nobody can be it; give one",
            "principals.mail.role (from c.toml:11): has the wrong type, integer; give reader, writer \
             or operator",
            "principals.mail.namespaces (from c.toml:10): is missing; list names, prefixes such as \
             mail.* or \"*\"",
            "principals.mail.certificates (from c.toml:13): \"CN=mail\" is no name of a \
             certificate; give one such as DNS:shop.example or URI:spiffe://example/shop",
            "principals.mail.tokens (from c.toml:12): has one that shop has already",
            "principals.none (from c.toml:15): has the wrong type, string; write a table, \
             [principals.none]",
        ]
    );
}

#[test]
fn a_file_without_principals_or_in_pieces_is_refused() {
    for (text, told) in [
        ("", "names no principal, so every call would be refused"),
        ("# nobody\n[principals]\n", "names no principal"),
        ("principals = 7", "has the wrong type, integer; write tables such as [principals.shop]"),
        ("[principals.sho", "c.toml:1"),
    ] {
        let faults = read(text).unwrap_err();
        assert!(faults[0].contains(told), "{text:?}: {faults:?}");
    }
    let whole = principal(&format!("role='reader'\nnamespaces=['*']\ntokens=['{DIGEST}']"));
    assert!(read(&whole).is_ok());
    for end in 1..whole.trim_end().len() {
        assert!(read(&whole[..end]).is_err(), "cut off: {}", &whole[..end]);
    }
}

#[test]
fn certificates_are_taken_only_where_callers_are_asked_for_them() {
    let text = principal("role='reader'\nnamespaces=['*']\ncertificates=['DNS:shop.example']");
    assert!(read(&text).is_ok());
    let faults = Credentials::read(Path::new("c.toml"), &text, false).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].problem.contains("set tls_client_ca"));
}

#[test]
fn a_certificate_is_whoever_all_its_known_names_are_of() {
    let text = "\
[principals.shop]
role = 'reader'
namespaces = ['*']
certificates = ['DNS:Shop.example', 'URI:spiffe://example/shop']
[principals.mail]
role = 'reader'
namespaces = ['*']
certificates = ['DNS:mail.example']
";
    let credentials = read(text).unwrap();
    let of = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| SubjectName::read(name).unwrap()).collect();
        credentials.of_certificate(&names).map(|principal| principal.name().to_owned())
    };
    assert_eq!(of(&["DNS:shop.EXAMPLE"]).as_deref(), Some("shop"));
    let both = ["DNS:other", "URI:spiffe://example/shop", "DNS:shop.example"];
    assert_eq!(of(&both).as_deref(), Some("shop"));
    assert_eq!(of(&["DNS:shop.example", "DNS:mail.example"]), None, "two principals");
    assert_eq!(of(&["URI:spiffe://example/SHOP"]), None);
    assert_eq!(of(&[]), None);
}

#[test]
fn who_was_known_is_asked_anew_when_the_token_or_the_credentials_change() {
    let one = |name: &str| {
        format!("[principals.{name}]\nrole='reader'\nnamespaces=['*']\ntokens=['{DIGEST}']\n")
    };
    let guard = guard(&one("shop"));
    let visitor = visitor(&guard, None);
    let name = |token: Option<&[u8]>| {
        visitor.recognise(token).map(|principal| principal.name().to_owned())
    };
    for _ in 0..2 {
        assert_eq!(name(Some(b"secret")), Ok("shop".to_owned()));
    }
    assert_eq!(name(Some(b"secreu")), Err(Unknown::Token));
    assert_eq!(name(Some(b"secret2")), Err(Unknown::Token));
    assert_eq!(name(None), Err(Unknown::Nothing));
    assert_eq!(name(Some(b"secret")), Ok("shop".to_owned()));

    guard.exchange(read(&one("mail")).unwrap());
    assert_eq!(name(Some(b"secret")), Ok("mail".to_owned()));
    let other = one("mail").replace("2bb8", "2bb9");
    guard.exchange(read(&other).unwrap());
    assert_eq!(name(Some(b"secret")), Err(Unknown::Token), "taken away from open connections too");
}

#[test]
fn a_certificate_does_not_make_a_wrong_token_good() {
    let text = format!(
        "[principals.shop]\nrole='reader'\nnamespaces=['*']\ncertificates=['DNS:shop']\n\
         [principals.mail]\nrole='reader'\nnamespaces=['*']\ntokens=['{DIGEST}']\n"
    );
    let visitor = visitor(&guard(&text), Some(vec![SubjectName::read("DNS:shop").unwrap()]));
    assert_eq!(visitor.recognise(None).unwrap().name(), "shop");
    assert_eq!(visitor.recognise(Some(b"secret")).unwrap().name(), "mail");
    assert_eq!(visitor.recognise(None).unwrap().name(), "shop");
    assert_eq!(visitor.recognise(Some(b"wrong")).unwrap_err(), Unknown::Token);
}

#[test]
fn a_token_is_quoted_from_no_place_of_the_file() {
    let token = Token::mint().unwrap();
    let secret = token.reveal();
    let text = format!(
        "{secret} = 1\n[principals.{secret}]\n{secret} = 1\nrole = '{secret}'\n\
         namespaces = ['{secret}A', 'onced_Orders']\ntokens = ['{secret}']\n\
         certificates = ['{secret}']\n"
    );
    let faults = read(&text).unwrap_err();
    assert!(faults.len() >= 5, "{faults:?}");
    for fault in &faults {
        assert!(!fault.contains(&secret[6..]), "{fault}");
    }
    let shown = faults.iter().any(|fault| fault.contains("\"onced_Orders\""));
    assert!(shown, "what is no secret is quoted: {faults:?}");
}
