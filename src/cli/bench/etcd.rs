//! What people do with etcd instead: a transaction that puts a key where its create revision is
//! zero, which is to say where there is none.

use super::call::{Answer, Call, Messages, Step};
use super::keys::Keys;
use super::protobuf::{Fields, Value};

/// The messages of a run.
pub struct Etcd {
    /// What makes its keys.
    pub keys: Keys,
}

impl Messages for Etcd {
    fn path(&self, _: Step) -> &'static str {
        "/etcdserverpb.KV/Txn"
    }

    fn write(&self, call: &Call, request: &mut Vec<u8>) {
        let key = self.keys.key(call.key);
        // TxnRequest.compare: the target is CREATE (1), the result EQUAL (0, which is left out),
        // and create_revision is 0, which is written out because it is one of several.
        field(1, request, |compare| {
            compare.extend_from_slice(&[0x10, 1]);
            field(3, compare, |it| it.extend_from_slice(&key));
            compare.extend_from_slice(&[0x28, 0]);
        });
        // TxnRequest.success: RequestOp.request_put with key and value.
        field(2, request, |operation| {
            field(2, operation, |put| {
                field(1, put, |it| it.extend_from_slice(&key));
                field(2, put, |value| {
                    value.extend_from_slice(&self.keys.owner_token(call.owner));
                    value.extend_from_slice(&self.keys.fingerprint(call.key));
                });
            });
        });
    }

    fn read(&self, _: &Call, answer: &[u8]) -> Answer {
        // TxnResponse.succeeded, left out where it is false; the header is always there.
        if Fields(answer).bytes(1).is_none() {
            return Answer::Wrong("an answer without a header: is this etcd?");
        }
        let succeeded = Fields(answer).any(|field| field == (2, Value::Number(1)));
        if succeeded { Answer::Granted } else { Answer::InProgress }
    }
}

/// Appends a message, a string or bytes as the field with this number.
fn field(number: u8, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[number << 3 | 2, 0]);
    let begin = out.len();
    value(out);
    let length = u8::try_from(out.len() - begin).ok().filter(|length| *length < 128);
    let length = length.unwrap_or_else(|| panic!("{} bytes", out.len() - begin));
    out[begin - 1] = length;
}
