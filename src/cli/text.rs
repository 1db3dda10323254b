//! Answers for people: the JSON of an answer as aligned lines, one per field.
//!
//! The words are those of the JSON, so that what was read can be asked for. Absent and
//! empty fields are left out, bytes that are text are shown as text, and characters that
//! could drive a terminal are escaped, since payloads and holders come from strangers.

use serde_json::{Map, Value};

/// Values longer than this are cut; `--json` has all of them.
const SHOWN_CHARS: usize = 2_000;
/// The one field whose own fields are named by callers.
const METADATA: &str = "metadata";

/// The lines of `answer`, which is an object.
pub(super) fn table(answer: &Value) -> String {
    let mut rows = Vec::new();
    if let Value::Object(fields) = answer {
        collect(fields, 0, &mut rows);
    }
    let width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let mut table = String::new();
    for (label, value) in rows {
        let mut lines = value.split('\n');
        let first = lines.next().unwrap_or_default();
        table.push_str(format!("{label:width$}  {first}").trim_end());
        table.push('\n');
        for line in lines {
            table.push_str(format!("{:width$}  {line}", "").trim_end());
            table.push('\n');
        }
    }
    table
}

fn collect(fields: &Map<String, Value>, depth: usize, rows: &mut Vec<(String, String)>) {
    for (name, value) in fields {
        // `payload_text` is the text of `payload`, and shown in its place.
        if name.strip_suffix("_text").is_some_and(|name| fields.contains_key(name)) {
            continue;
        }
        let label = format!("{:indent$}{}", "", name.replace('_', " "), indent = 2 * depth);
        let text = fields.get(&format!("{name}_text"));
        match (value, text) {
            (Value::String(bytes), Some(Value::Null)) => {
                rows.push((label, format!("base64 {}", shown(bytes))));
            }
            (Value::String(_), Some(Value::String(text))) if !text.is_empty() => {
                rows.push((label, shown(text)));
            }
            (_, Some(_)) | (Value::Null, _) => {}
            (Value::String(text), None) if text.is_empty() => {}
            (Value::String(text), None) => rows.push((label, shown(text))),
            (Value::Bool(yes), None) => {
                rows.push((label, if *yes { "yes" } else { "no" }.to_owned()));
            }
            (Value::Number(number), None) => rows.push((label, number.to_string())),
            (Value::Object(fields), None) if fields.is_empty() => {}
            (Value::Object(fields), None) => {
                rows.push((label, String::new()));
                if name == METADATA {
                    collect_strangers(fields, depth + 1, rows);
                } else {
                    collect(fields, depth + 1, rows);
                }
            }
            (Value::Array(items), None) => {
                for item in items {
                    if let Value::Object(fields) = item {
                        rows.push((label.clone(), String::new()));
                        collect(fields, depth + 1, rows);
                    }
                }
            }
        }
    }
}

/// Fields whose names are as foreign as their values: none of them stands for another, and
/// none is a word of this program.
fn collect_strangers(fields: &Map<String, Value>, depth: usize, rows: &mut Vec<(String, String)>) {
    for (name, value) in fields {
        let name = shown(name).replace(['\n', '\t'], " ");
        let label = format!("{:indent$}{name}", "", indent = 2 * depth);
        rows.push((label, shown(value.as_str().unwrap_or_default())));
    }
}

/// `text` made safe for a terminal, and cut where it is long.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (count, character) in text.trim_end_matches('\n').chars().enumerate() {
        if count == SHOWN_CHARS {
            shown.push_str("… (cut; --json has all of it)");
            break;
        }
        match character {
            '\n' | '\t' => shown.push(character),
            control if control.is_control() => shown.extend(control.escape_unicode()),
            other => shown.push(other),
        }
    }
    shown
}

/// Objects under headings, aligned: one line for each, with the fields that are named beside
/// the headings.
pub(super) fn columns(columns: &[(&str, &str)], objects: &[Value]) -> String {
    let mut rows = vec![columns.iter().map(|(heading, _)| (*heading).to_owned()).collect()];
    rows.extend(objects.iter().map(|object| {
        columns.iter().map(|(_, name)| cell(&object[*name])).collect::<Vec<String>>()
    }));
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut lines = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        lines.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        lines.push('\n');
    }
    lines
}

/// A value on one line. Keys and holders come from strangers, or from damage.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => shown(text).replace(['\n', '\t'], " "),
        other => other.to_string(),
    }
}
