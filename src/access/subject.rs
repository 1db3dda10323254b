//! The names by which a client certificate says whose it is: the DNS names and URIs of its
//! subject alternative name. The subject itself, a field for people, proves nothing here.

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// One name of a certificate, written as openssl does: `DNS:shop.example` or
/// `URI:spiffe://example/shop`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SubjectName {
    /// A host, in lower case. A wildcard is a name like any other: it matches itself alone.
    Dns(String),
    /// A URI, as it is written.
    Uri(String),
}

impl SubjectName {
    /// Reads `DNS:…` or `URI:…`, or says what is wrong.
    pub fn read(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("DNS", name)) if !name.is_empty() => Ok(Self::Dns(name.to_ascii_lowercase())),
            Some(("URI", uri)) if uri.contains(':') => Ok(Self::Uri(uri.to_owned())),
            _ => Err("is no name of a certificate; give one such as DNS:shop.example or \
                      URI:spiffe://example/shop"
                .to_owned()),
        }
    }

    /// All names in a certificate that was verified, given in DER. Names of other kinds are left
    /// out.
    pub fn all_of(certificate: &[u8]) -> Vec<Self> {
        let Ok((_, certificate)) = parse_x509_certificate(certificate) else { return Vec::new() };
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
        let known = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(Self::Dns(name.to_ascii_lowercase())),
            GeneralName::URI(uri) => Some(Self::Uri((*uri).to_owned())),
            _ => None,
        };
        names.value.general_names.iter().filter_map(known).collect()
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Uri(uri) => write!(f, "URI:{uri}"),
        }
    }
}
