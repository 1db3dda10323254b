//! Reading protobuf in place: which fields a message has, without making anything of them.

/// The fields of a message, in the order in which they were written. Ends at what is malformed.
#[derive(Clone)]
pub struct Fields<'a>(pub &'a [u8]);

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number or a flag.
    Number(u64),
    /// A message, a string, or bytes.
    Bytes(&'a [u8]),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            // Neither onced nor etcd answers with numbers of fixed width.
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Fields<'a> {
    /// The message, string or bytes in the field with this number.
    pub fn bytes(mut self, number: u64) -> Option<&'a [u8]> {
        self.find_map(|(it, value)| match value {
            Value::Bytes(bytes) if it == number => Some(bytes),
            _ => None,
        })
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::pb::v1::{Completion, Response};

    #[test]
    fn what_prost_writes_is_read() {
        let response =
            Response { payload: vec![b'x'; 300], status_code: 201, ..Response::default() };
        let completion = Completion {
            response: Some(response),
            fencing_token: 1 << 40,
            ..Completion::default()
        };
        let message = completion.encode_to_vec();
        let response = Fields(&message).bytes(2).unwrap();
        assert_eq!(Fields(response).bytes(1), Some(&[b'x'; 300][..]));
        assert!(Fields(response).any(|field| field == (3, Value::Number(201))));
        assert!(Fields(&message).any(|field| field == (6, Value::Number(1 << 40))));
        assert_eq!(Fields(&message).bytes(9), None);
    }

    #[test]
    fn what_is_cut_off_has_no_more_fields() {
        let message = Response { payload: vec![b'x'; 300], ..Response::default() }.encode_to_vec();
        for length in 0..message.len() {
            assert_eq!(Fields(&message[..length]).next(), None);
        }
    }
}
