//! What each call needs, in one table. A call that is not in it is not served, so that one that
//! is added without a row stands nobody open.

use super::Role;

/// What whoever makes a call has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Nobody in particular: probes have no credentials, and learn only whether the server serves.
    Anybody,
    /// Some principal.
    Somebody,
    /// A principal with this role or a later one, which also reaches the namespace in question.
    Has(Role),
}

use Right::{Anybody, Has, Somebody};
use Role::{Operator, Reader, Writer};

/// Every call, by its path, the frequent ones first.
pub const RIGHTS: &[(&str, Right)] = &[
    ("/onced.v1.IdempotencyService/Reserve", Has(Writer)),
    ("/onced.v1.IdempotencyService/Complete", Has(Writer)),
    ("/onced.v1.IdempotencyService/Renew", Has(Writer)),
    ("/onced.v1.IdempotencyService/Lookup", Has(Reader)),
    ("/onced.v1.IdempotencyService/Release", Has(Writer)),
    ("/onced.v1.IdempotencyService/BatchReserve", Has(Writer)),
    ("/onced.v1.IdempotencyService/BatchComplete", Has(Writer)),
    ("/onced.v1.AdminService/ListRecords", Has(Operator)),
    ("/onced.v1.AdminService/ForceRelease", Has(Operator)),
    ("/onced.v1.AdminService/ForceComplete", Has(Operator)),
    ("/onced.v1.AdminService/DeleteRecord", Has(Operator)),
    ("/onced.v1.AdminService/EraseNamespace", Has(Operator)),
    ("/onced.v1.AdminService/DescribeNamespace", Has(Reader)),
    ("/onced.v1.AdminService/GetStats", Has(Operator)),
    ("/onced.v1.AdminService/SetLogFilter", Has(Operator)),
    ("/onced.v1.AdminService/CreateBackup", Has(Operator)),
    ("/onced.v1.AdminService/ListBackups", Has(Operator)),
    ("/grpc.health.v1.Health/Check", Anybody),
    ("/grpc.health.v1.Health/Watch", Anybody),
    // What it tells is no secret, but answering strangers at length is no service to anybody.
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Somebody),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Somebody),
];

/// What the call with this path needs; `None` where there is no such call.
pub fn of(path: &str) -> Option<Right> {
    RIGHTS.iter().find(|(known, _)| *known == path).map(|(_, right)| *right)
}

/// The name of a call: the end of its path.
pub fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}
