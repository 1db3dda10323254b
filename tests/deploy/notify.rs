//! What a service manager is told, over a real socket by the real binary.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Process, onced};
use crate::run;
use crate::shim::{EIO, Shim};

/// When a test gives up and fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A manager that hears what it is told.
struct Manager {
    socket: UnixDatagram,
    dir: TempDir,
}

impl Manager {
    fn new() -> Self {
        Self::within(TempDir::new().unwrap())
    }

    fn within(dir: TempDir) -> Self {
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, dir }
    }

    /// A server in its own folder that tells it. With a watchdog that wants to hear of it at
    /// least once in `interval`.
    fn starts(&self, mut command: Command, interval: Option<Duration>) -> Process {
        command.env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        command.env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        if let Some(interval) = interval {
            command.env("WATCHDOG_USEC", interval.as_micros().to_string());
        }
        Process::start(command, &self.dir.path().join("data"), &["--drain-grace", "0s"])
    }

    /// The lines of the next message.
    fn hears(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).expect("it is told something");
        let message = String::from_utf8(message[..length].to_vec()).unwrap();
        message.lines().map(str::to_owned).collect()
    }

    /// Listens until it is told `line`.
    fn waits_for(&self, line: &str) {
        while !self.hears().iter().any(|it| it == line) {}
    }

    /// What is left to be heard of a server that has ended.
    fn has_heard(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut rest = Vec::new();
        let mut message = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut message) {
            let message = String::from_utf8(message[..length].to_vec()).unwrap();
            rest.extend(message.lines().map(str::to_owned));
        }
        rest
    }
}

fn ends_in_order(server: Process) {
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_manager_is_told_when_the_server_is_ready_and_when_it_stops() {
    let manager = Manager::new();
    let server = manager.starts(onced(), None);
    assert_eq!(manager.hears(), ["STATUS=opening the store"]);
    assert_eq!(manager.hears(), ["READY=1"]);
    assert_eq!(manager.hears(), ["STATUS=serving"]);

    ends_in_order(server);
    // No watchdog was asked for, and none was fed.
    assert_eq!(manager.has_heard(), ["STOPPING=1", "STATUS=draining"]);
}

#[test]
fn a_watchdog_is_fed_until_a_commit_fails_and_then_triggered() {
    let (manager, shim) = (Manager::new(), Shim::new());
    let server = manager.starts(shim.onced(), Some(Duration::from_millis(50)));
    for _ in 0..3 {
        manager.waits_for("WATCHDOG=1");
    }

    shim.fail_syncs(EIO);
    let address = server.address.to_string();
    let (reserved, _) =
        run(onced().args(["reserve", "order-1", "--timeout", "1s", "--server", &address]));
    assert!(!reserved);
    manager.waits_for("STATUS=a commit failed: everything is refused until a restart");
    assert_eq!(manager.hears(), ["WATCHDOG=trigger"]);
    let health =
        |service| run(onced().args(["health", "--server", &address, "--service", service]));
    assert_eq!(health("liveness"), (false, "NOT_SERVING\n".to_owned()));

    shim.fail_syncs(0);
    ends_in_order(server);
    assert_eq!(manager.has_heard(), ["STOPPING=1", "STATUS=draining"], "it was fed again");
}

#[test]
fn a_nearly_full_disk_is_no_reason_to_be_restarted() {
    // A file system in memory, whose room is less than any memory has.
    let manager = Manager::within(TempDir::new_in("/dev/shm").unwrap());
    let mut command = onced();
    command.env("ONCED_MIN_FREE_DISK_BYTES", "1TiB");
    let server = manager.starts(command, Some(Duration::from_millis(50)));
    manager.waits_for("READY=1");
    manager.waits_for("STATUS=the disk is nearly full: new reservations are refused");
    for _ in 0..3 {
        manager.waits_for("WATCHDOG=1");
    }
    let address = server.address.to_string();
    let health =
        |service| run(onced().args(["health", "--server", &address, "--service", service]));
    assert_eq!(health(""), (false, "NOT_SERVING\n".to_owned()));
    assert_eq!(health("liveness"), (true, "SERVING\n".to_owned()));
    ends_in_order(server);
}

#[test]
fn a_manager_that_is_gone_stops_nobody() {
    let manager = Manager::new();
    let mut command = onced();
    command.env("NOTIFY_SOCKET", manager.dir.path().join("elsewhere"));
    let server = Process::start(command, &manager.dir.path().join("data"), &[]);
    server.wait_for_line("cannot tell the service manager");
    ends_in_order(server);
}
