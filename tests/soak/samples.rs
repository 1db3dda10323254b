//! What a server holds, once a second: memory, open files, bytes and files on disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::process::Process;

#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: Instant,
    pub memory: u64,
    pub open_files: u64,
    pub disk: u64,
    pub files: u64,
}

pub struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    sampling: JoinHandle<()>,
}

impl Sampler {
    /// Begins to look at `server` and its `data`.
    pub fn start(server: &Arc<Process>, data: &Path) -> Self {
        let (server, data) = (Arc::downgrade(server), data.to_owned());
        let samples = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&samples);
        let sampling = tokio::spawn(async move {
            while let Some(server) = server.upgrade() {
                noted.lock().unwrap().push(sample(&server, &data));
                drop(server);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Self { samples, sampling }
    }

    /// Ends, and hands out what it saw.
    pub async fn stop(self) -> Vec<Sample> {
        self.sampling.abort();
        let _ = self.sampling.await;
        std::mem::take(&mut *self.samples.lock().unwrap())
    }
}

fn sample(server: &Process, data: &PathBuf) -> Sample {
    let sizes: Vec<_> = std::fs::read_dir(data)
        .unwrap()
        .filter_map(|entry| entry.unwrap().metadata().ok())
        .map(|file| file.len())
        .collect();
    Sample {
        at: Instant::now(),
        memory: server.resident_bytes(),
        open_files: server.open_files() as u64,
        disk: sizes.iter().sum(),
        files: sizes.len() as u64,
    }
}

/// The median of what `of` says of each sample.
pub fn median(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}
