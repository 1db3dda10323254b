//! What the service manager is told, by sd_notify(3): that the server is ready, what it is
//! doing, and, as a watchdog, that it need not be restarted. Without the socket of a manager in
//! the environment all of it does nothing.
//!
//! # Why the watchdog
//!
//! After a failed commit the engine refuses everything until it is opened anew (promise 6), and
//! the server stays, because a refusal that says so is better for callers than a closed port.
//! Somebody has to restart it, and the watchdog is how systemd gets to know: it is fed for as
//! long as that would not help, also where the disk is nearly full, and triggered at once where
//! nothing else does.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::storage::Condition;

/// How long the end of the server waits until its manager has been told of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The shortest interval at which a watchdog is fed.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// What it is told at a time.
type States = Vec<NotifyState<'static>>;

/// The manager of this process, where there is one.
pub struct ServiceManager {
    opened: Option<oneshot::Sender<watch::Receiver<Condition>>>,
    stopping: oneshot::Sender<()>,
    telling: JoinHandle<()>,
}

impl ServiceManager {
    /// Tells it that the store is being opened.
    pub fn starting() -> Self {
        let (opened, is_opened) = oneshot::channel();
        let (stopping, is_stopping) = oneshot::channel();
        // Twice as often as the manager wants to hear, as it recommends itself.
        let interval = sd_notify::watchdog_enabled().map(|it| (it / 2).max(SHORTEST_INTERVAL));
        let (tell, told) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                () = follow(is_opened, interval, &tell) => {}
                _ = is_stopping => {}
            }
            let _ = tell.send(vec![NotifyState::Stopping, NotifyState::Status("draining")]).await;
        });
        Self { opened: Some(opened), stopping, telling: tokio::spawn(pass_on(told)) }
    }

    /// Tells it that the server is ready, and the condition of its engine from now on.
    pub fn ready(&mut self, condition: watch::Receiver<Condition>) {
        if let Some(opened) = self.opened.take() {
            let _ = opened.send(condition);
        }
    }

    /// Tells it that the server stops.
    pub async fn stopping(self) {
        let _ = self.stopping.send(());
        let _ = tokio::time::timeout(PATIENCE, self.telling).await;
    }
}

/// Tells how the start goes and what becomes of the engine, until it is gone or nobody listens.
async fn follow(
    opened: oneshot::Receiver<watch::Receiver<Condition>>,
    interval: Option<Duration>,
    tell: &mpsc::Sender<States>,
) {
    let _ = tell.send(vec![NotifyState::Status("opening the store")]).await;
    let Ok(mut condition) = opened.await else { return std::future::pending().await };
    let _ = tell.send(vec![NotifyState::Ready]).await;
    loop {
        let seen = *condition.borrow_and_update();
        let _ = tell.send(vec![NotifyState::Status(described(seen))]).await;
        // An engine may say the same twice, and a second trigger would end the drain at once.
        let changes = async { condition.wait_for(|it| *it != seen).await.is_ok() };
        tokio::select! {
            changed = changes => if !changed { return std::future::pending().await },
            () = watchdog(seen, interval, tell) => {}
        }
    }
}

fn described(condition: Condition) -> &'static str {
    match condition {
        Condition::Serving => "serving",
        Condition::Full => "the disk is nearly full: new reservations are refused",
        Condition::Poisoned => "a commit failed: everything is refused until a restart",
    }
}

/// Feeds the watchdog or triggers it, for as long as this is polled.
async fn watchdog(condition: Condition, interval: Option<Duration>, tell: &mpsc::Sender<States>) {
    let Some(interval) = interval else { return std::future::pending().await };
    match condition {
        Condition::Serving | Condition::Full => loop {
            let _ = tell.send(vec![NotifyState::Watchdog]).await;
            tokio::time::sleep(interval).await;
        },
        Condition::Poisoned => {
            let _ = tell.send(vec![NotifyState::WatchdogTrigger]).await;
            std::future::pending().await
        }
    }
}

/// Passes on what it is told, in order and off the runtime, which also accepts connections: a
/// manager that does not listen would block it.
async fn pass_on(mut told: mpsc::Receiver<States>) {
    let mut is_broken = false;
    while let Some(states) = told.recv().await {
        let said = tokio::task::spawn_blocking(move || sd_notify::notify(&states)).await;
        let Ok(said) = said else { return };
        match &said {
            Err(error) if !is_broken => warn!(%error, "cannot tell the service manager"),
            _ => {}
        }
        is_broken = said.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the manager is told next.
    async fn next(told: &mut mpsc::Receiver<States>) -> String {
        let states = told.recv().await.unwrap();
        states.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn a_watchdog_is_triggered_once_however_often_the_engine_fails() {
        let (condition, seen) = watch::channel(Condition::Serving);
        let (opened, is_opened) = oneshot::channel();
        let (tell, mut told) = mpsc::channel(8);
        let rarely = Some(Duration::from_secs(3_600));
        let following = tokio::spawn(async move { follow(is_opened, rarely, &tell).await });
        assert_eq!(next(&mut told).await, "STATUS=opening the store");
        opened.send(seen).unwrap();
        assert_eq!(next(&mut told).await, "READY=1");
        assert_eq!(next(&mut told).await, "STATUS=serving");
        assert_eq!(next(&mut told).await, "WATCHDOG=1");

        // The writer and the syncer may both find that a commit failed.
        for _ in 0..2 {
            condition.send_replace(Condition::Poisoned);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        following.abort();
        let _ = following.await;
        let mut last = Vec::new();
        while let Some(states) = told.recv().await {
            last.extend(states.iter().map(ToString::to_string));
        }
        let status = "STATUS=a commit failed: everything is refused until a restart";
        assert_eq!(last, [status, "WATCHDOG=trigger"]);
    }
}
