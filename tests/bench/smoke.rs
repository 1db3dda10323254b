//! The short form, which `make test` runs: every workload for a moment, against onced alone.

use std::path::Path;

use anyhow::ensure;

use crate::figures;
use crate::load::{Load, Run};
use crate::options::Options;
use crate::place::Place;
use crate::rounds::{BATCH, Book, CYCLE, Entry, FOUR, WORKLOADS};
use crate::stage::{Stage, Subject};

const NAME: &str = "the_benchmark_measures_every_workload_without_a_fault";

/// Runs the test, unless the arguments of the test command pick others.
pub fn test(arguments: &[String]) -> anyhow::Result<()> {
    let mut picked = arguments.iter().filter(|it| !it.starts_with(['-', '1'])).peekable();
    if picked.peek().is_some() && !picked.any(|text| NAME.contains(&**text)) {
        return Ok(());
    }
    if arguments.iter().any(|argument| argument == "--list") {
        println!("{NAME}: test");
        return Ok(());
    }
    run()?;
    println!("test {NAME} ... ok");
    Ok(())
}

fn run() -> anyhow::Result<()> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-smoke");
    let options = Options {
        only: Vec::new(),
        rounds: 1,
        window: 0.1,
        length: 0.1,
        records: 0,
        data: None,
        out: None,
        binary: env!("CARGO_BIN_EXE_onced").into(),
        readme: false,
    };
    let place = Place::new(&directory)?;
    let small = |load: Load| Load { in_flight: load.in_flight.min(8), ..load };
    let workloads = WORKLOADS.map(|workload| Load::new(workload, 4, 8));
    let entries: Vec<Entry> = [FOUR, CYCLE, BATCH]
        .map(small)
        .into_iter()
        .chain(workloads)
        .map(|load| (Subject::Onced, load))
        .collect();

    let mut stage = Stage::new(&options, &place);
    let onced = stage.wake(Subject::Onced)?;
    let open = Run {
        binary: &options.binary,
        server: "onced",
        place: &place,
        load: small(FOUR),
        length: options.window() * 2,
        rate: Some(200),
        more: &[],
    };
    let window = open.on(onced)?;
    ensure!(window.faults == 0 && window.rate > 0.0, "in an open loop: {window:?}");
    // The keys of it were not counted, so the next begins on an empty store.
    let mut stage = Stage::new(&options, &place);
    let mut book = Book::default();
    book.round(&mut stage, &place, &entries)?;
    for (entry, windows) in &book.windows {
        ensure!(windows.len() == 1 && windows[0].faults == 0, "{entry:?}: {windows:?}");
        ensure!(windows[0].rate > 0.0, "{entry:?}: {windows:?}");
    }
    ensure!(book.kept[&Subject::Onced].keys > 0, "no key is on record");
    // With the shapes of this form, no bar is judged; the tables are made all the same.
    ensure!(figures::bars(&figures::judged(&book)).lines().count() == 2, "a bar was judged");
    ensure!(figures::windows(&book).lines().count() == entries.len() + 2, "rows are missing");
    std::fs::remove_dir_all(directory)?;
    Ok(())
}
