//! `make bench`: onced against the call that does nothing, and against what people use instead,
//! each started here and loaded by another process, in turns on the same cores.
//!
//! In reading order: what can be asked for ([`options`]), where it runs ([`place`]), who runs
//! ([`contestant`] and its neighbours, [`stage`]), what is measured in turns ([`load`],
//! [`rounds`]) and on its own ([`large`], [`pause`], [`instructions`], [`crosscheck`]), and what it
//! comes to ([`figures`], [`plot`], [`report`]).
//!
//! `make test` runs a short form against onced alone, so that none of this rots.

mod contestant;
mod crosscheck;
mod etcd;
mod figures;
mod instructions;
mod large;
mod load;
mod onced;
mod options;
mod pause;
mod place;
mod plot;
mod postgres;
#[path = "../harness/process.rs"]
mod process;
mod redis;
mod report;
mod rounds;
mod smoke;
mod stage;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;

use crate::options::{Group, Options};
use crate::place::{Place, output};
use crate::report::Report;
use crate::rounds::Book;
use crate::stage::{Extra, Stage, Subject};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == "measure" => measure(&Options::parse_from(rest)),
        _ => smoke::test(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    let began_at = Instant::now();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target");
    let out = options.out.clone().unwrap_or_else(|| target.join("bench"));
    let place = Place::of_all_servers(options.data.as_deref(), target)?;
    let mut report = Report { facts: place.facts()?, versions: versions(), ..Report::default() };

    let mut stage = Stage::new(options, &place);
    let mut subjects = BTreeSet::from([
        Subject::Onced,
        Subject::Redis,
        Subject::Postgres,
        Subject::Etcd,
        Subject::OncedLarge,
    ]);
    if options.wants(Group::Features) {
        report.skipped = features(options, &place, &mut stage, &mut subjects)?;
    }
    let large = stage.directory(Subject::OncedLarge);
    if options.wants(Group::Records) || options.wants(Group::Restart) {
        eprintln!("the large store");
        report.curves = large::fill(options, &place, &large)?;
    }
    let entries = rounds::entries(options, &subjects);
    let mut book = Book::default();
    for round in 1..=options.rounds {
        if !entries.is_empty() {
            eprintln!("round {round}");
            book.round(&mut stage, &place, &entries)?;
        }
    }
    report.judged = figures::judged(&book);
    report.book = book;
    let mut alone = |group, what, measure: &dyn Fn(&mut Report) -> anyhow::Result<()>| {
        if !options.wants(group) {
            return;
        }
        eprintln!("{what}");
        // A run of half an hour is not to end with nothing for its last minutes.
        if let Err(error) = measure(&mut report) {
            eprintln!("  {error:#}");
            report.skipped.push(format!("{what}, for a fault: {error:#}"));
        }
    };
    alone(Group::Restart, "starts", &|report| {
        report.judged.extend(large::restart(options, &large)?);
        Ok(())
    });
    alone(Group::Pause, "the worst pause", &|report| {
        report.judged.push(pause::worst(options, &place)?);
        Ok(())
    });
    alone(Group::Instructions, "instructions", &|report| {
        report.instructions = instructions::count(options, &place)?;
        Ok(())
    });
    alone(Group::Crosscheck, "the cross-check", &|report| {
        report.crosscheck = crosscheck::check(options, &place)?;
        Ok(())
    });
    report.minutes = began_at.elapsed().as_secs_f64() / 60.0;
    report.write(options, &out)?;
    eprintln!("Table, JSON and plots are in {}", out.display());
    Ok(())
}

/// Adds the subjects whose settings this build has.
fn features(
    options: &Options,
    place: &Place,
    stage: &mut Stage<'_>,
    subjects: &mut BTreeSet<Subject>,
) -> anyhow::Result<Vec<String>> {
    let mut skipped = Vec::new();
    let owned = |arguments: &[&str]| arguments.iter().map(|it| (*it).to_owned()).collect();
    if onced::knows(&options.binary, "--metrics-listen")? {
        let address = contestant::loopback(contestant::free_port()?);
        let serve = owned(&["--metrics-listen", &address.to_string()]);
        let extra = Extra { serve, scraped: Some(address), ..Extra::default() };
        stage.extras.insert(Subject::OncedMetrics, extra);
        subjects.insert(Subject::OncedMetrics);
    } else {
        skipped.push("metrics on against off, which this build does not have".to_owned());
    }
    if onced::knows(&options.binary, "--tls-cert")? {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let path = |name| place.directory.join(name);
        std::fs::write(path("cert.pem"), made.cert.pem())?;
        std::fs::write(path("key.pem"), made.signing_key.serialize_pem())?;
        let (cert, key) = (path("cert.pem"), path("key.pem"));
        let serve = owned(&["--tls-cert", place::text(&cert), "--tls-key", place::text(&key)]);
        let bench = owned(&["--tls-ca", place::text(&cert)]);
        stage.extras.insert(Subject::OncedTls, Extra { serve, bench, scraped: None });
        subjects.insert(Subject::OncedTls);
    } else {
        skipped.push("TLS on against off, which this build does not have".to_owned());
    }
    Ok(skipped)
}

/// What else runs, in its own words.
fn versions() -> Vec<String> {
    let redis = output("redis-server", &["--version"]);
    let postgres = output("psql", &["--version"]);
    let etcd = output("etcd", &["--version"]);
    let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let redis = redis.map(|text| text.split(" sha").next().unwrap_or_default().to_owned());
    [redis, postgres.map(first), etcd.map(first)].into_iter().flatten().collect()
}
