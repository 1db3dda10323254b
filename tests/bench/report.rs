//! The run as a whole: JSON for machines, a table and plots for people, and the README's part.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::crosscheck::{self, Checked};
use crate::figures::{self, Judged};
use crate::instructions::{self, Counted};
use crate::large::Curves;
use crate::options::Options;
use crate::plot;
use crate::rounds::Book;

const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";

const CONCURRENCY: &str = "concurrency.svg";
const RECORDS: &str = "records.svg";

/// What a run came to.
#[derive(Default)]
pub struct Report {
    pub facts: Value,
    pub versions: Vec<String>,
    pub book: Book,
    pub curves: Curves,
    pub judged: Vec<Judged>,
    pub instructions: Vec<Counted>,
    pub crosscheck: Vec<Checked>,
    /// What could not be measured, and why.
    pub skipped: Vec<String>,
    pub minutes: f64,
}

impl Report {
    /// Writes it to `directory`, and into the README where that is wanted.
    pub fn write(&self, options: &Options, directory: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(directory)?;
        let json = json!({
            "facts": self.facts,
            "versions": self.versions,
            "rounds": options.rounds,
            "window_seconds": options.window,
            "judged": self.judged,
            "measured": self.book,
            "rates_by_records": self.curves,
            "instructions": self.instructions,
            "crosscheck": self.crosscheck,
            "skipped": self.skipped,
        });
        fs::write(directory.join("report.json"), format!("{json:#}\n"))?;
        let mut plots = Vec::new();
        if self.book.windows.len() > 1 {
            plot::concurrency(&self.book, &directory.join(CONCURRENCY))?;
            plots.push((CONCURRENCY, "Rate and latency over the calls in flight"));
        }
        if !self.curves.is_empty() {
            plot::records(&self.curves, &directory.join(RECORDS))?;
            plots.push((RECORDS, "Rate over the number of records"));
        }
        let text = self.text(options, &plots);
        fs::write(directory.join("report.md"), &text)?;
        println!("{text}");
        if options.readme {
            let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
            for (file, _) in &plots {
                fs::copy(directory.join(file), root.join("tests/bench").join(file))?;
            }
            let path = root.join("README.md");
            fs::write(&path, replaced(&fs::read_to_string(&path)?, &text)?)?;
        }
        Ok(())
    }

    fn text(&self, options: &Options, plots: &[(&str, &str)]) -> String {
        let fact = |name: &str| self.facts[name].as_str().unwrap_or("?").to_owned();
        let mut text = format!(
            "{}, commit {}; {} cores of {}, {}, {}; servers and load on the same cores. {} rounds \
             with windows of {} s, {:.0} minutes in all. Beside onced: {}.\n\n",
            fact("date"),
            fact("commit"),
            self.facts["cores"],
            fact("processor"),
            fact("kernel"),
            fact("file_system"),
            options.rounds,
            options.window,
            self.minutes,
            self.versions.join(", "),
        );
        text += &figures::bars(&self.judged);
        for (file, title) in plots {
            text += &format!("\n![{title}](tests/bench/{file})\n");
        }
        let mut fold = |title: &str, table: String| {
            text += &format!("\n<details><summary>{title}</summary>\n\n{table}\n</details>\n");
        };
        fold("Everything that was measured in turns", figures::windows(&self.book));
        if !self.book.kept.is_empty() {
            fold("What each server had at the end, and how it syncs", figures::kept(&self.book));
        }
        if !self.instructions.is_empty() {
            fold(
                "Instructions per call, server side, counted by valgrind",
                instructions::table(&self.instructions),
            );
        }
        if !self.crosscheck.is_empty() {
            fold("The load generator against others", crosscheck::table(&self.crosscheck));
        }
        for skipped in &self.skipped {
            text += &format!("\nNot measured: {skipped}.\n");
        }
        text
    }
}

/// The README with another text between the marks.
fn replaced(readme: &str, text: &str) -> anyhow::Result<String> {
    let (before, rest) = readme.split_once(BEGIN).context("the README has no mark to begin at")?;
    let (_, after) = rest.split_once(END).context("the README has no mark to end at")?;
    Ok(format!("{before}{BEGIN}\n{text}{END}{after}"))
}
