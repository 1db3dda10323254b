//! What a reservation of `onced run` is bound to, and who holds it.

use std::ffi::OsString;

use sha2::{Digest as _, Sha256};

/// The longest holder that the server takes, in characters.
const MAX_HOLDER_CHARS: usize = 128;

/// SHA-256 over the words of a command, each after its length, so that no two commands
/// have the same digest.
pub(super) fn digest(command: &[OsString]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for word in command {
        let word = word.as_encoded_bytes();
        digest.update((word.len() as u64).to_be_bytes());
        digest.update(word);
    }
    digest.finalize().to_vec()
}

/// `hostname:pid`.
pub(super) fn this_process() -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let host: String = host.chars().filter(|character| !character.is_control()).collect();
    let pid = format!(":{}", std::process::id());
    let room = MAX_HOLDER_CHARS - pid.len();
    host.chars().take(room).chain(pid.chars()).collect()
}
