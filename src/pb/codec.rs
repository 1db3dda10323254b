//! How messages become bytes and back: prost's way, in buffers that begin small.
//!
//! tonic gives every call two buffers of 8 KiB, one for the request and one for the answer;
//! most messages here have a hundred bytes. With thousands of calls in flight those buffers
//! fall out of the processor's cache before they are used.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The size of a buffer at first, in bytes: a Reserve, or its answer, and room to spare. It
/// grows at once to what a larger request needs, and in doublings to the size of an answer.
const BUFFER_BYTES: usize = 512;

/// How many bytes of an answer are gathered before they are handed on.
const YIELD_BYTES: usize = 32 << 10;

/// Encodes `T` and decodes `U`.
#[derive(Debug)]
pub struct MessageCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for MessageCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for MessageCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
