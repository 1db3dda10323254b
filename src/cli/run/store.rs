//! What the server is told once the command has ended: its result, or that it certainly did
//! nothing.
//!
//! The work is done by then, and losing its result would be the one way to do it twice. So
//! it is offered for long, and one signal does not end that; a second one does.

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use tonic::Status;

use super::Run;
use super::capture::keep_both;
use super::child::Ended;
use super::notice::say;
use super::recording::Recording;
use super::reserve::release;
use super::signals::Signals;
use crate::cli::remote::{Client, Remote, wire};
use crate::cli::{Exit, failure, text};
use crate::pb::v1::{self, CompleteRequest, Completion, ReserveRequest};

/// How long after the command's end a signal still counts as meant for the command.
const AFTERMATH: Duration = Duration::from_secs(1);

impl Run {
    /// Tells the server how the command that was run under `reservation` ended.
    pub(super) async fn store(
        &self,
        remote: &Remote,
        reservation: &ReserveRequest,
        ended: Ended,
        signals: &mut Signals,
    ) -> Exit {
        let code = ended.code;
        if ended.was_outlived {
            say("a process that the command left behind holds its output; not waiting for it");
        }
        if self.release_on.contains(&code) {
            let release = release(remote, reservation, self.complete_timeout);
            // What could not be told was said, and the exit code is the same either way.
            let _ = settle(code, until_given_up(signals, release).await);
            return Exit::Command(code);
        }
        if ended.was_terminated && code != 0 {
            // A failure would be final, though it is nothing but the lost lease.
            say(&format!(
                "the command was terminated (exit code {code}); the key is left to whoever \
                 takes over"
            ));
            return Exit::Command(code);
        }
        let complete = self.complete(remote, reservation, ended);
        let completed = settle(code, until_given_up(signals, complete).await);
        match completed {
            Ok(completion) => {
                if completion.response_omitted {
                    say("the output is larger than the server stores; only the exit code was kept");
                }
                if completion.late {
                    say("completed after the lease had lapsed; nobody had taken over");
                }
                Exit::Command(code)
            }
            Err(Exit::Unavailable) if code == 0 => self.error(Exit::Unavailable),
            Err(_) => Exit::Command(code),
        }
    }

    async fn complete(
        &self,
        remote: &Remote,
        reservation: &ReserveRequest,
        ended: Ended,
    ) -> Result<Completion, Status> {
        let code = ended.code;
        let (stdout, stderr) = keep_both(ended.stdout, ended.stderr, self.max_output);
        let recording = Recording { code, stdout, stderr };
        let result = if code == 0 { v1::Result::Succeeded } else { v1::Result::Failed };
        let request = CompleteRequest {
            namespace: reservation.namespace.clone(),
            key: reservation.key.clone(),
            owner_token: reservation.owner_token.clone(),
            result: result.into(),
            response: Some(recording.to_response()),
            retention: self.retention.map(wire),
        };
        let answer = remote
            .call_within(self.complete_timeout, request, async |mut client: Client, request| {
                client.complete(request).await
            })
            .await?;
        Ok(answer.completion.unwrap_or_default())
    }

    /// Releases the reservation of a command that could not be started.
    pub(super) async fn not_started(
        &self,
        remote: &Remote,
        reservation: &ReserveRequest,
        error: &io::Error,
        signals: &mut Signals,
    ) -> Exit {
        let program = self.command[0].to_string_lossy();
        say(&format!("cannot start \"{}\": {error}", text::shown(&program)));
        let release = release(remote, reservation, self.complete_timeout);
        let why = match until_given_up(signals, release).await {
            Some(Ok(())) => None,
            Some(Err(status)) => Some(failure::describe(&status)),
            None => Some("given up".to_owned()),
        };
        if let Some(why) = why {
            say(&format!("the reservation stays until its lease lapses: {why}"));
        }
        match error.kind() {
            io::ErrorKind::NotFound => Exit::Command(127),
            _ => Exit::Command(126),
        }
    }
}

/// Says what came of telling the server that the command ended with `code`.
fn settle<T>(code: u8, told: Option<Result<T, Status>>) -> Result<T, Exit> {
    let (why, exit) = match told {
        Some(Ok(answer)) => return Ok(answer),
        Some(Err(status)) => (failure::describe(&status), Exit::of(&status)),
        None => ("given up".to_owned(), Exit::Unavailable),
    };
    say(&format!(
        "WARNING: the command ended with exit code {code}, and that was not stored: {why}"
    ));
    Err(exit)
}

/// The outcome of `call`, unless two signals end it before.
async fn until_given_up<T>(signals: &mut Signals, call: impl Future<Output = T>) -> Option<T> {
    let began = Instant::now();
    let mut call = pin!(call);
    let mut was_warned = false;
    loop {
        tokio::select! {
            biased;
            told = &mut call => return Some(told),
            _ = signals.next_ending() => match was_warned {
                _ if began.elapsed() < AFTERMATH => {}
                true => return None,
                false => {
                    say("the command has ended, and its result is being stored; another \
                         signal gives that up");
                    was_warned = true;
                }
            },
        }
    }
}
