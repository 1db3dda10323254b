//! What `onced run` says itself, all of it on stderr: stdout belongs to the command.

use crate::cli::{print, text};

/// What is said, and left unsaid with `--quiet`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notices {
    pub is_quiet: bool,
}

impl Notices {
    /// Tells something that happens where all is well.
    pub(super) fn tell(self, message: &str) {
        if !self.is_quiet {
            say(message);
        }
    }
}

/// Says something that somebody has to know.
pub(super) fn say(message: &str) {
    print::complain(&format!("onced run: {message}"));
}

/// `holder` for people, where it is known.
pub(super) fn by(holder: &str) -> String {
    if holder.is_empty() { String::new() } else { format!(" by {}", text::shown(holder)) }
}
