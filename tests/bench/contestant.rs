//! A server that is measured: started on a free port with its data in a directory, put to sleep
//! while others are measured, and asked afterwards what it has really stored.
//!
//! What is particular to one of them is in the files beside this one.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to start; under valgrind it takes a while.
const PATIENCE: Duration = Duration::from_secs(240);

/// A server that runs.
pub trait Contestant {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// The process, or the first of several.
    fn id(&self) -> u32;

    /// How many keys it has, as it says itself.
    fn keys(&self) -> anyhow::Result<u64>;

    /// What it says of how it syncs, or what it was told.
    fn durability(&self) -> anyhow::Result<String>;
}

/// A process that ends when it is dropped, and with this one.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts a command whose output goes to a file in `directory`.
    pub fn start(mut command: Command, directory: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(directory.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("{command:?} cannot be run"))?;
        Ok(Self { child })
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `serves` says so, and fails where the process ends before.
    pub fn until(&mut self, serves: impl Fn() -> bool) -> anyhow::Result<()> {
        let began_at = Instant::now();
        while !serves() {
            if let Some(status) = self.child.try_wait()? {
                bail!("a server ended with {status}; its log lies in its data directory");
            }
            if began_at.elapsed() > PATIENCE {
                bail!("a server does not answer after {PATIENCE:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Running {
    /// Stops it in order, and waits for the end.
    pub fn stop(mut self) -> anyhow::Result<()> {
        signal(self.id(), Signal::TERM);
        let status = self.child.wait()?;
        ensure!(status.success(), "a server ended with {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // With its children: those of PostgreSQL may be asleep and would not notice.
        signal(self.id(), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A command that ends when this process does, by the user of that name where this is root.
pub fn kept(program: &Path, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user.filter(|_| is_root()) {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.arg(program);
    command
}

/// Whether this runs as root, which PostgreSQL refuses.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A free port on loopback.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Loopback with this port.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Puts a server to sleep: what it would do in the background costs the next one nothing.
pub fn freeze(contestant: &dyn Contestant) {
    signal(contestant.id(), Signal::STOP);
}

/// Wakes it up.
pub fn thaw(contestant: &dyn Contestant) {
    signal(contestant.id(), Signal::CONT);
}

fn signal(id: u32, signal: Signal) {
    for process in tree(id) {
        let _ = kill_process(process, signal);
    }
}

/// A process and all that it has started, parents first.
fn tree(id: u32) -> Vec<Pid> {
    let Some(root) = Pid::from_raw(id.cast_signed()) else { return Vec::new() };
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    std::iter::once(root).chain(children.flat_map(tree)).collect()
}

/// The CPU that a server has used so far, in seconds.
pub fn cpu_seconds(contestant: &dyn Contestant) -> f64 {
    tree(contestant.id()).into_iter().map(cpu_seconds_of).sum()
}

fn cpu_seconds_of(process: Pid) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    let stat = stat.unwrap_or_default();
    // The name of the program, in brackets, may have spaces.
    let Some((_, fields)) = stat.rsplit_once(") ") else { return 0.0 };
    // Its own, and that of children that have ended, such as PostgreSQL's.
    let ticks = fields.split(' ').skip(11).take(4).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}
