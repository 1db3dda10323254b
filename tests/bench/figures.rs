//! What the measurements come to: medians, spreads, ratios, and the bars that they are held to.

use std::fmt::Write as _;

use serde::Serialize;

use crate::load::{Load, Window};
use crate::rounds::{BATCH, Book, CYCLE, CYCLE_1K, Entry, FOUR, MANY, ONE, PIPELINED, POOL};
use crate::stage::Subject;

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of measurements that there are.
    pub fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = match figures.len() % 2 {
            1 => figures[middle],
            _ => f64::midpoint(figures[middle - 1], figures[middle]),
        };
        Some(Self { median, min, max })
    }
}

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure that is held to a bar.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    pub what: String,
    /// What was measured, with its unit, such as "84,000/s against 171,000/s".
    pub measured: String,
    pub figure: Spread,
    pub unit: &'static str,
    pub bar: Bar,
}

impl Judged {
    /// Whether the median is on the right side.
    pub fn is_met(&self) -> bool {
        match self.bar {
            Bar::AtLeast(bar) => self.figure.median >= bar,
            Bar::AtMost(bar) => self.figure.median <= bar,
        }
    }
}

/// The ratios and spans that were measured in rounds.
pub fn judged(book: &Book) -> Vec<Judged> {
    let at = |workload, load: Load| Load { workload, ..load };
    let onced = |load| (Subject::Onced, load);
    let ratios = [
        (
            "Reserve of new keys against the no-op call, 4 × 64",
            onced(FOUR),
            onced(FOUR.noop()),
            0.5,
        ),
        ("… 256 × 1", onced(MANY), onced(MANY.noop()), 0.85),
        ("… against Redis, appendfsync always, 4 × 64", onced(FOUR), (Subject::Redis, FOUR), 1.2),
        ("… against Redis, appendfsync always, 256 × 1", onced(MANY), (Subject::Redis, MANY), 1.2),
        ("… against PostgreSQL, 64 × 1", onced(POOL), (Subject::Postgres, POOL), 8.0),
        ("… against etcd, 256 in flight", onced(FOUR), (Subject::Etcd, FOUR), 10.0),
        (
            "BatchReserve of 100, keys, against Redis with pipelining of 16, 800 keys in flight",
            onced(BATCH),
            (Subject::Redis, PIPELINED),
            1.2,
        ),
        (
            "Lookup against the no-op call, 4 × 64",
            onced(at("lookup", FOUR)),
            onced(FOUR.noop()),
            0.8,
        ),
        (
            "Replay of 1 KiB against the no-op call, 4 × 64",
            onced(at("replay", FOUR)),
            onced(FOUR.noop()),
            0.8,
        ),
        (
            "Reserve then Complete of 100 bytes, cycles, against Reserve alone",
            onced(CYCLE),
            onced(FOUR),
            0.55,
        ),
        (
            "Reserve then Complete of 1 KiB, cycles, against Reserve alone",
            onced(CYCLE_1K),
            onced(FOUR),
            0.55,
        ),
        (
            "Reserve of new keys in the large store against an empty one",
            (Subject::OncedLarge, FOUR),
            onced(FOUR),
            0.95,
        ),
        ("TLS on against off, 4 × 64", (Subject::OncedTls, FOUR), onced(FOUR), 0.75),
    ];
    let mut judged: Vec<_> = ratios
        .into_iter()
        .filter_map(|(what, one, other, bar)| ratio(book, what, one, other, bar))
        .collect();
    let p50 = book.figures(onced(ONE), |window| window.p50_micros);
    let above = p50.iter().zip(&book.fdatasync).map(|(p50, sync)| p50 - sync).collect();
    if let (Some(figure), Some(p50), Some(sync)) =
        (Spread::of(above), Spread::of(p50), Spread::of(book.fdatasync.clone()))
    {
        judged.push(Judged {
            what: "one caller: p50 above one fdatasync of the same run".to_owned(),
            measured: format!("{:.0} µs against {:.0} µs", p50.median, sync.median),
            figure,
            unit: "µs",
            bar: Bar::AtMost(100.0),
        });
    }
    judged
}

/// The rate of one against that of another, round by round; where that is another program, with
/// what a call that does nothing comes to against it, which no call of onced can exceed.
fn ratio(book: &Book, what: &str, one: Entry, other: Entry, bar: f64) -> Option<Judged> {
    let (ones, others) =
        (book.figures(one, |window| window.rate), book.figures(other, |window| window.rate));
    let ratios = |ones: &[f64]| ones.iter().zip(&others).map(|(one, other)| one / other).collect();
    let figure = Spread::of(ratios(&ones))?;
    let ceilings = match other.0.is_onced() {
        true => Vec::new(),
        false => book.figures((one.0, one.1.noop()), |window| window.rate),
    };
    let ceiling = Spread::of(ratios(&ceilings))
        .map_or(String::new(), |it| format!("; the no-op call: {:.2}", it.median));
    let (one, other) = (Spread::of(ones)?.median, Spread::of(others)?.median);
    Some(Judged {
        what: what.to_owned(),
        measured: format!("{}/s against {}/s{ceiling}", thousands(one), thousands(other)),
        figure,
        unit: "",
        bar: Bar::AtLeast(bar),
    })
}

/// The bars as a table.
pub fn bars(judged: &[Judged]) -> String {
    let mut table =
        "| what | measured | figure (from – to) | bar | |\n|---|---|---|---|---|\n".to_owned();
    for it in judged {
        let Judged { what, measured, figure, unit, bar } = it;
        let (sign, bar) = match bar {
            Bar::AtLeast(bar) => ("≥", bar),
            Bar::AtMost(bar) => ("≤", bar),
        };
        let number = |number| match *unit {
            "" => format!("{number:.2}"),
            "s" => format!("{number:.2} s"),
            unit => format!("{number:.0} {unit}"),
        };
        let Spread { median, min, max } = figure;
        let verdict = if it.is_met() { "met" } else { "**missed**" };
        let _ = writeln!(
            table,
            "| {what} | {measured} | **{}** ({} – {}) | {sign} {} | {verdict} |",
            number(*median),
            number(*min),
            number(*max),
            number(*bar),
        );
    }
    table
}

/// Everything that was measured in rounds as a table: medians.
pub fn windows(book: &Book) -> String {
    let mut table =
        "| who | what | connections × in flight | per second (from – to) | p50 | p99 | \
                     CPU per call, server and load |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for (subject, load) in book.windows.keys() {
        let of = |figure: fn(&Window) -> f64| {
            let figures = book.figures((*subject, *load), figure);
            Spread::of(figures).expect("an entry has a window")
        };
        let rate = of(|window| window.rate);
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} ({} – {}) | {} | {} | {:.1} + {:.1} µs |",
            subject.name(),
            name(*subject, load),
            load.shape(),
            thousands(rate.median),
            thousands(rate.min),
            thousands(rate.max),
            span(of(|window| window.p50_micros).median),
            span(of(|window| window.p99_micros).median),
            of(|window| window.server_micros_per_call).median,
            of(|window| window.client_micros_per_call).median,
        );
    }
    table
}

/// What a load does, in the words of who is measured.
fn name(subject: Subject, load: &Load) -> String {
    match (subject, load.workload) {
        (Subject::Redis, _) => "SET NX PX, appendfsync always".to_owned(),
        (Subject::Postgres, _) => "INSERT … ON CONFLICT DO NOTHING RETURNING".to_owned(),
        (Subject::Etcd, _) => "Txn, create if absent".to_owned(),
        (_, "reserve") => "Reserve of new keys".to_owned(),
        (_, "cycle") => format!("Reserve then Complete, {} bytes; cycles", load.response_bytes),
        (_, "batch") => "BatchReserve of 100; keys".to_owned(),
        (_, "duplicate") => "duplicate in progress".to_owned(),
        (_, "replay") => "replay of 1 KiB".to_owned(),
        (_, "lookup") => "Lookup of 1 KiB".to_owned(),
        (_, "mix") => "a mix of five calls; rounds of it".to_owned(),
        (_, "hot-key") => "all callers on one key; rounds of it".to_owned(),
        (_, "noop") => "the no-op call".to_owned(),
        (_, other) => other.to_owned(),
    }
}

/// A number with its thousands apart.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of microseconds, as people write it.
pub fn span(micros: f64) -> String {
    if micros < 10_000.0 {
        format!("{:.2} ms", micros / 1e3)
    } else {
        format!("{:.0} ms", micros / 1e3)
    }
}

/// What each server had at the end of the last round, as a table.
pub fn kept(book: &Book) -> String {
    let mut table =
        "| who | new keys acknowledged | keys on record | how it syncs | answers of new \
                     keys per sync of the disk, 4 × 64 |\n|---|---|---|---|---|\n"
            .to_owned();
    for (subject, kept) in &book.kept {
        let windows = book.windows.get(&(*subject, FOUR)).into_iter().flatten();
        let ratios = windows.filter_map(|window| {
            window.flushes.map(|flushes| window.stored_keys as f64 / flushes as f64)
        });
        let per_sync =
            Spread::of(ratios.collect()).map_or("?".to_owned(), |it| format!("{:.1}", it.median));
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {per_sync} |",
            subject.name(),
            thousands(kept.acknowledged as f64),
            thousands(kept.keys as f64),
            kept.durability,
        );
    }
    table
}
