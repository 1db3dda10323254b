//! The boundaries between modules, and a few habits, checked on the source text.
//!
//! A rule is a function from one file to the numbers of the lines that break it, so that
//! each is tried on a planted offence as well: a rule that catches nothing would look just
//! like a rule that everybody keeps. Rules read code, not prose: a comment may name what the
//! code must not use. They know rustfmt's layout and no more of Rust than they need. What
//! the compiler or clippy can check is left to them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn the_domain_knows_std_only() {
    everybody_keeps(domain_knows_std_only);

    let text = "\
//! Unlike tonic::Status, this is plain data.
use std::collections::{self, BTreeMap};
use std::fmt;
use super::{Moment, record};
use tokio::sync::Mutex;
use crate::domain::Span;
use crate::storage::Engine;
mod tests;

fn plain(f: &mut fmt::Formatter<'_>) -> i64 {
    let _ = collections::BTreeSet::<u8>::new().iter().collect::<Vec<_>>();
    record::of(tests::all(), i64::MAX, Moment::from_millis(1), size_of::<u8>())
}

use {
    uuid::Uuid, std::sync::Arc,
};
tracing::debug!(\"tonic\");
extern crate prost;
use rocksdb;
";
    assert_eq!(caught(domain_knows_std_only, "src/domain/key.rs", text), [5, 7, 16, 18, 19, 20]);
    assert_eq!(caught(domain_knows_std_only, "src/server.rs", text), []);
}

#[test]
fn the_domain_does_no_io_asks_no_clock_and_waits_for_nothing() {
    everybody_keeps(domain_is_pure);

    let text = "\
use std::time::Duration;
use std::time::{Instant, SystemTime};
use std::{fs, net};
use std::sync::Arc;
let _ = std::env::var(\"HOME\");
async fn wait() {}
fn io() { let env = thread; } // Nothing is read by std::io here.
let seed = RandomState::new();
";
    assert_eq!(caught(domain_is_pure, "src/domain/time.rs", text), [2, 3, 5, 6, 8]);
    assert_eq!(caught(domain_is_pure, "src/clock.rs", text), []);
}

#[test]
fn only_the_clock_asks_the_system_what_time_it_is() {
    everybody_keeps(only_the_clock_asks_the_time);

    let text = "\
/// Not SystemTime::now, but the clock.
let started = Instant::now();
let now = SystemTime::now();
let now = chrono::Utc::now();
let now = UNIX_EPOCH.elapsed();
";
    assert_eq!(caught(only_the_clock_asks_the_time, "src/api/service.rs", text), [3, 4, 5]);
    assert_eq!(caught(only_the_clock_asks_the_time, "tests/suite/grpc.rs", text), [3, 4, 5]);
    assert_eq!(caught(only_the_clock_asks_the_time, "src/clock.rs", text), []);
}

#[test]
fn only_the_rocksdb_engine_knows_rocksdb() {
    everybody_keeps(only_rocks_knows_rocksdb);

    let text = "\
//! The same as rocksdb::DB, but in memory.
use crate::storage::rocks::Rocks;
use rocksdb::DB;
fn open() -> Result<(), rocksdb::Error> {}
use rocksdb as engine;
let url = \"rocksdb:./onced-data\";
";
    assert_eq!(caught(only_rocks_knows_rocksdb, "src/storage/open.rs", text), [3, 4, 5]);
    assert_eq!(caught(only_rocks_knows_rocksdb, "src/storage/rocks.rs", text), []);
    assert_eq!(caught(only_rocks_knows_rocksdb, "src/storage/rocks/schema.rs", text), []);
}

#[test]
fn storage_knows_neither_grpc_nor_the_api() {
    everybody_keeps(storage_knows_no_api);

    let text = "\
//! Turning an error into a tonic status is left to crate::api.
use crate::domain::Record;
use tonic::Status;
use crate::api::status;
use crate::{api, domain};
fn refuse() -> tonic::Status { crate::api::refuse() }
struct Tonics { api: u8 }
use crate::{
    clock::Clock,
    api::status,
};
";
    assert_eq!(caught(storage_knows_no_api, "src/storage/cas.rs", text), [3, 4, 5, 6, 10]);
    assert_eq!(caught(storage_knows_no_api, "src/server.rs", text), []);
}

#[test]
fn who_may_call_is_decided_without_grpc_and_without_the_server() {
    everybody_keeps(access_knows_no_grpc);

    let text = "\
//! How a call is refused is said with a tonic Status, elsewhere.
use crate::config::Fault;
use tonic::Status;
use crate::api::Caller;
use crate::{domain, server};
fn gate(headers: http::HeaderMap) {}
struct Tonic { server: u8 }
";
    assert_eq!(caught(access_knows_no_grpc, "src/access/guard.rs", text), [3, 4, 5, 6]);
    assert_eq!(caught(access_knows_no_grpc, "src/server/gate.rs", text), []);
}

#[test]
fn the_api_knows_engines_only_by_their_trait() {
    everybody_keeps(api_knows_no_engine);

    let text = "\
use crate::storage::Engine;
use crate::storage::rocks::Rocks;
use crate::storage::{Engine, memory::MemoryEngine};
let engine = storage::memory::MemoryEngine::new();
use crate::storage::{
    rocks,
};
fn rocks(memory: u8) {}

#[cfg(test)]
use crate::storage::memory::MemoryEngine;

#[cfg(test)]
mod tests {
    use crate::storage::memory::MemoryEngine;

    fn engine() {}
}

use crate::storage::memory;
";
    assert_eq!(caught(api_knows_no_engine, "src/api/service.rs", text), [2, 3, 4, 6, 20]);
    assert_eq!(caught(api_knows_no_engine, "src/api/tests.rs", text), []);
    assert_eq!(caught(api_knows_no_engine, "src/api/wait/tests.rs", text), []);
    assert_eq!(caught(api_knows_no_engine, "src/server.rs", text), []);
}

#[test]
fn every_file_says_first_what_lives_in_it() {
    everybody_keeps(opens_with_its_subject);

    let good = "//! Keys.\n\nuse std::fmt;\n";
    let blank = "\n//! Keys.\n";
    assert_eq!(caught(opens_with_its_subject, "src/main.rs", "fn main() {}\n"), [1]);
    assert_eq!(caught(opens_with_its_subject, "src/domain/key.rs", "// Keys.\n"), [1]);
    assert_eq!(caught(opens_with_its_subject, "src/domain/key.rs", "//!\n"), [1]);
    assert_eq!(caught(opens_with_its_subject, "src/domain/key.rs", blank), [1]);
    assert_eq!(caught(opens_with_its_subject, "src/domain/key.rs", ""), [1]);
    assert_eq!(caught(opens_with_its_subject, "src/domain/key.rs", good), []);
}

#[test]
fn nothing_is_left_unfinished_and_no_test_is_switched_off() {
    everybody_keeps(is_finished);

    let text = "\
fn later() { todo!() }
fn never() { unimplemented!(\"never\") }
// FIXME: this is wrong.
/// TODO write this down.
#[ignore]
#[ignore = \"slow\"]
let ignored = todos(\"METHODOLOGY\");
";
    assert_eq!(caught(is_finished, "src/server.rs", text), [1, 2, 3, 4, 5, 6]);
    assert_eq!(caught(is_finished, "tests/suite/grpc.rs", text), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn every_file_is_named_after_a_noun_or_a_verb() {
    everybody_keeps(has_a_name_of_its_own);

    for path in [
        "src/utils.rs",
        "src/api/helpers.rs",
        "src/storage/lease_manager.rs",
        "tests/common/mod.rs",
        "tests/suite/util.rs",
    ] {
        assert_eq!(caught(has_a_name_of_its_own, path, "//! Odds and ends.\n"), [1], "{path}");
    }
    for path in ["src/storage/mod.rs", "src/lib.rs", "src/domain/command.rs"] {
        assert_eq!(caught(has_a_name_of_its_own, path, "//! A noun.\n"), [], "{path}");
    }
}

#[test]
fn there_is_something_to_check() {
    let paths: BTreeSet<String> = sources().into_iter().map(|source| source.path).collect();
    for path in ["src/domain/mod.rs", "src/domain/decide.rs", "tests/suite/main.rs"] {
        assert!(paths.contains(path), "{path} is not among {paths:?}");
    }
}

// The rules.

/// Types that a path may begin with and that nobody imports.
const PRIMITIVES: [&str; 17] = [
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "str", "u8", "u16",
    "u32", "u64", "u128", "usize",
];

/// `domain` is what onced is about, and must outlive every protocol and every store.
fn domain_knows_std_only(source: &Source) -> Vec<usize> {
    if !source.is_within("src/domain") {
        return Vec::new();
    }
    let code = source.code();
    let is_ours = |path: &str| match path.split_once("::").unwrap_or((path, "")) {
        ("std" | "core" | "alloc" | "super" | "self", _) => true,
        ("crate", rest) => rest.starts_with("domain"),
        _ => false,
    };

    // What a path may begin with because something of ours brought it into scope.
    let mut known: BTreeSet<String> = PRIMITIVES.map(str::to_owned).into();
    let imports = imports(&code);
    for import in imports.iter().filter(|import| is_ours(&import.tree)) {
        known.extend(words(&import.tree).map(|(_, word)| word.to_owned()));
    }
    for (_, line) in &code {
        let words: Vec<&str> = words(line).map(|(_, word)| word).collect();
        known.extend(words.windows(2).filter(|it| it[0] == "mod").map(|it| it[1].to_owned()));
    }

    known.remove("crate"); // Not all of the crate, because of a part of it.

    let mut lines = lines_with(&code, |line| {
        paths(line).iter().any(|path| !is_ours(path) && !known.contains(root_of(path)))
    });
    // A crate that is imported whole has no path to go by.
    for import in imports {
        let tree = import.tree.trim_end_matches(';');
        let name = tree.split(' ').next().unwrap_or(tree);
        if name.chars().all(is_word) && !is_ours(name) && !known.contains(name) {
            lines.extend(import.lines.iter().map(|(number, _)| *number));
        }
    }
    in_order(lines)
}

/// `decide` says the same wherever and however often it is asked, so there is nothing in
/// reach that could make it say something else.
fn domain_is_pure(source: &Source) -> Vec<usize> {
    const MODULES: [&str; 7] = ["env", "fs", "io", "net", "os", "process", "thread"];
    const WORDS: [&str; 5] = ["Instant", "RandomState", "SystemTime", "async", "await"];
    if !source.is_within("src/domain") {
        return Vec::new();
    }
    let code = source.code();
    let mut lines = lines_with(&code, |line| {
        paths(line).iter().any(|path| {
            path.strip_prefix("std::").is_some_and(|rest| MODULES.contains(&root_of(rest)))
        }) || words(line).any(|(_, word)| WORDS.contains(&word))
    });
    lines.extend(imported(&code, |tree, word| {
        tree.starts_with("std::{") && MODULES.contains(&word)
    }));
    in_order(lines)
}

/// Time is an argument everywhere else, which is what makes it testable. Measuring how long
/// something took is another matter.
fn only_the_clock_asks_the_time(source: &Source) -> Vec<usize> {
    if source.path == "src/clock.rs" {
        return Vec::new();
    }
    lines_with(&source.code(), |line| {
        ["SystemTime::now", "Utc::now", "Local::now", "UNIX_EPOCH.elapsed"]
            .iter()
            .any(|question| line.contains(question))
    })
}

/// Whatever else uses RocksDB directly passes by the promises of the engine. One test does,
/// because no engine of this build writes the directory of another format.
fn only_rocks_knows_rocksdb(source: &Source) -> Vec<usize> {
    let makes_a_foreign_directory =
        ["tests/suite/conformance/directory.rs", "tests/machine/files.rs"].contains(&&*source.path);
    if source.is_within("src/storage/rocks")
        || source.path == "src/storage/rocks.rs"
        || makes_a_foreign_directory
    {
        return Vec::new();
    }
    lines_with(&source.code(), |line| names_crate(line, "rocksdb"))
}

/// An engine speaks of commands and decisions: what callers see of them is not its business.
fn storage_knows_no_api(source: &Source) -> Vec<usize> {
    if !source.is_within("src/storage") && source.path != "src/storage.rs" {
        return Vec::new();
    }
    let code = source.code();
    let mut lines =
        lines_with(&code, |line| names_crate(line, "tonic") || line.contains("crate::api"));
    lines.extend(imported(&code, |tree, word| tree.starts_with("crate::{") && word == "api"));
    in_order(lines)
}

/// Principals and their rights are plain data; who turns them into headers and statuses is one
/// file of the server and one table of the API.
fn access_knows_no_grpc(source: &Source) -> Vec<usize> {
    if !source.is_within("src/access") {
        return Vec::new();
    }
    let code = source.code();
    let mut lines = lines_with(&code, |line| {
        names_crate(line, "tonic")
            || names_crate(line, "http")
            || line.contains("crate::api")
            || line.contains("crate::server")
    });
    lines.extend(imported(&code, |tree, word| {
        tree.starts_with("crate::{") && ["api", "server"].contains(&word)
    }));
    in_order(lines)
}

/// The API works with any engine because it cannot name one. Its tests may.
fn api_knows_no_engine(source: &Source) -> Vec<usize> {
    let is_api = source.is_within("src/api") || source.path == "src/api.rs";
    if !is_api || source.path.ends_with("/tests.rs") || source.is_within("src/api/tests") {
        return Vec::new();
    }
    let code = source.code_without_tests();
    let mut lines = lines_with(&code, |line| {
        line.contains("storage::rocks") || line.contains("storage::memory")
    });
    lines.extend(imported(&code, |tree, word| {
        words(tree).any(|(_, it)| it == "storage") && ["rocks", "memory"].contains(&word)
    }));
    in_order(lines)
}

/// A reader who opens a file learns first whether it is the right one.
fn opens_with_its_subject(source: &Source) -> Vec<usize> {
    let first = source.text.lines().next().unwrap_or_default();
    match first.strip_prefix("//! ") {
        Some(subject) if !subject.trim().is_empty() => Vec::new(),
        _ => vec![1],
    }
}

/// What is left to do belongs where it can be found and closed, and a test that does not run
/// proves nothing.
fn is_finished(source: &Source) -> Vec<usize> {
    let all = source.text.lines().enumerate().map(|(index, line)| (index + 1, line)).collect();
    let mut lines = lines_with(&all, |line| {
        words(line).any(|(at, word)| match word {
            "TODO" | "FIXME" => true,
            "todo" | "unimplemented" => line[at + word.len()..].starts_with("!("),
            _ => false,
        })
    });
    lines.extend(lines_with(&all, |line| line.trim_start().starts_with("#[ignore")));
    in_order(lines)
}

/// These words say that the noun is not found yet.
fn has_a_name_of_its_own(source: &Source) -> Vec<usize> {
    const NAMELESS: [&str; 8] =
        ["util", "utils", "helper", "helpers", "manager", "managers", "common", "misc"];
    let path = source.path.trim_end_matches(".rs");
    let nameless = path.split(['/', '_']).any(|word| NAMELESS.contains(&word));
    if nameless { vec![1] } else { Vec::new() }
}

// How rules are applied.

type Rule = fn(&Source) -> Vec<usize>;

/// Applies a rule to the whole tree and reports all that break it at once.
fn everybody_keeps(rule: Rule) {
    let mut offences = Vec::new();
    for source in sources() {
        for number in rule(&source) {
            let line = source.text.lines().nth(number - 1).unwrap_or_default();
            offences.push(format!("{}:{number}: {}", source.path, line.trim()));
        }
    }
    assert!(offences.is_empty(), "offences:\n{}", offences.join("\n"));
}

/// The lines at which a rule catches a planted text.
fn caught(rule: Rule, path: &str, text: &str) -> Vec<usize> {
    rule(&Source { path: path.to_owned(), text: text.to_owned() })
}

/// Every Rust file under `src` and `tests` but this one, which quotes what it forbids.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for path in listing(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
                let parts: Vec<_> = path
                    .strip_prefix(root)
                    .expect("it was found below the root")
                    .iter()
                    .map(|part| part.to_string_lossy())
                    .collect();
                sources.push(Source { path: parts.join("/"), text });
            }
        }
    }
    sources.retain(|source| source.path != "tests/tidy.rs");
    sources.sort_by(|left, right| left.path.cmp(&right.path));
    sources
}

fn listing(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{} cannot be listed: {error}", folder.display()));
    entries.map(|entry| entry.expect("a listing that began goes on").path()).collect()
}

// How rules read.

/// One file. Paths begin at the root of the project and use slashes.
struct Source {
    path: String,
    text: String,
}

/// Numbered lines without comments.
type Code<'a> = Vec<(usize, &'a str)>;

impl Source {
    fn is_within(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The lines without their comments. Two slashes behind a colon belong to a URL.
    fn code(&self) -> Code<'_> {
        let mut code = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
            let end = comment.map_or(line.len(), |(at, _)| at);
            code.push((index + 1, &line[..end]));
        }
        code
    }

    /// The same without the items that exist for tests only. rustfmt ends an item with the
    /// first line that closes it at its own depth.
    fn code_without_tests(&self) -> Code<'_> {
        let mut kept = Vec::new();
        let mut lines = self.code().into_iter();
        while let Some((number, line)) = lines.next() {
            if line.trim() != "#[cfg(test)]" {
                kept.push((number, line));
                continue;
            }
            let depth = line.len() - line.trim_start().len();
            for (_, line) in lines.by_ref() {
                let is_at_depth = line.len() - line.trim_start().len() == depth;
                let is_attribute = line.trim_start().starts_with("#[");
                if is_at_depth && !is_attribute && line.trim_end().ends_with([';', '}']) {
                    break;
                }
            }
        }
        kept
    }
}

/// One `use`, which may span lines.
struct Import<'a> {
    tree: String,
    lines: Code<'a>,
}

fn imports<'a>(code: &Code<'a>) -> Vec<Import<'a>> {
    let mut imports = Vec::new();
    let mut lines = code.iter();
    while let Some((number, line)) = lines.next() {
        let Some(begin) = tree_of(line) else { continue };
        let mut import = Import { tree: begin.to_owned(), lines: vec![(*number, line)] };
        while !import.tree.contains(';') {
            let Some((number, line)) = lines.next() else { break };
            import.tree.push_str(line.trim());
            import.lines.push((*number, line));
        }
        imports.push(import);
    }
    imports
}

/// What follows the `use` of a line that begins with one, perhaps behind a `pub`.
fn tree_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => line,
    };
    line.strip_prefix("use ").or_else(|| line.strip_prefix("extern crate "))
}

/// The numbers of the lines on which an import has a `wanted` word, given its tree as well.
fn imported(code: &Code, wanted: impl Fn(&str, &str) -> bool) -> Vec<usize> {
    let mut numbers = Vec::new();
    for import in imports(code) {
        numbers.extend(lines_with(&import.lines, |line| {
            words(line).any(|(_, word)| wanted(&import.tree, word))
        }));
    }
    numbers
}

/// Whether a line names a crate, or one of its family: `tonic`, `tonic_types`.
fn names_crate(line: &str, name: &str) -> bool {
    let is_named = |word: &str| match word.strip_prefix(name) {
        Some(rest) => rest.is_empty() || rest.starts_with('_'),
        None => false,
    };
    let imported = tree_of(line).and_then(|tree| words(tree).next());
    paths(line).iter().any(|path| is_named(root_of(path)))
        || imported.is_some_and(|(_, word)| is_named(word))
}

/// The paths on a line that begin with a module or a crate, as `a::b::C`. One that begins
/// with a type is no boundary crossed: the type was imported.
fn paths(line: &str) -> Vec<&str> {
    let mut paths = Vec::new();
    for (at, word) in words(line) {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let goes_on = after.starts_with("::") && !after.starts_with("::<");
        let is_continuation = before.ends_with('.')
            || before
                .strip_suffix("::")
                .is_some_and(|it| it.ends_with([')', '>']) || ends_in_word(it));
        if goes_on && !is_continuation && word.starts_with(|it: char| it.is_lowercase()) {
            let rest = &line[at..];
            let end = rest.find(|it: char| !is_word(it) && it != ':').unwrap_or(rest.len());
            paths.push(rest[..end].trim_end_matches(':'));
        }
    }
    paths
}

fn root_of(path: &str) -> &str {
    path.split("::").next().unwrap_or(path)
}

/// The words of a line, each with where it begins.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    line.split(|it: char| !is_word(it)).filter_map(move |word| {
        let begin = line[at..].find(word).map_or(at, |found| at + found);
        at = begin + word.len();
        (!word.is_empty()).then_some((begin, word))
    })
}

fn is_word(it: char) -> bool {
    it.is_alphanumeric() || it == '_'
}

fn ends_in_word(text: &str) -> bool {
    text.ends_with(is_word)
}

fn lines_with(code: &Code, is_offence: impl Fn(&str) -> bool) -> Vec<usize> {
    code.iter().filter(|(_, line)| is_offence(line)).map(|(number, _)| *number).collect()
}

fn in_order(lines: Vec<usize>) -> Vec<usize> {
    lines.into_iter().collect::<BTreeSet<usize>>().into_iter().collect()
}
