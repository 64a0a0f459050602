//! Bad models, one file per behaviour: `tests/corpus/errors/*.pf`. What is expected stands in the file, on the guilty line:
//!
//! ```text
//! y = sum[D](x); //~ error@9: `sum` over D: the value f32[N, C] does not depend on D [absent-axis]; operands: f32[N, C]
//! //~ hint: sum over axes that the value has
//! ```
//!
//! The number is the column. `call 1@4` is the innermost of the calls that led to an error, on the line of that call. What has no place in the
//! file stands before its first line. All that is reported must be expected, and the other way round. Comments at the top set the stage:
//! `// set: groups=3`, `// batch: 4`, `// passes: cut, replicate`, `// algorithm: lg-fg-a` (all of its passes). The library is loaded.
//!
//! A new case is a new file. `BLESS=1 cargo test --test corpus` writes what is reported now into the files: read the difference.

use std::fs;
use std::path::{Path, PathBuf};

use pushforward_ir::ast::Module;
use pushforward_ir::diag::Severity;
use pushforward_ir::{Diagnostic, Sources, Span, parse};
use pushforward_passes::algorithm::{self, Algorithm, Options};
use pushforward_passes::inline::{self, Bindings};

const LIBRARY: &str = include_str!("../ir/lib.pf");
const MARK: &str = "//~ ";

#[test]
fn bad_models_are_reported_as_their_files_say() {
    let bless = std::env::var_os("BLESS").is_some();
    let files = corpus("errors");
    assert!(files.len() > 40, "only {} files in tests/corpus/errors: the walker lost them", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("corpus files are text");
        let bare = without_expectations(&text);
        let reported = reports(&bare);
        let expected = expectations(&text);
        assert!(bless || !expected.is_empty(), "{name} expects nothing: it tests nothing");
        if bless {
            let blessed = with_reports(&bare, &reported);
            if blessed != text {
                fs::write(&path, blessed).expect("the corpus can be written");
            }
        } else if reported != expected {
            let show = |reports: &[Report]| reports.iter().map(|r| format!("    line {}: {}\n", r.line, r.text)).collect::<String>();
            let missing: Vec<Report> = expected.iter().filter(|r| !reported.contains(r)).cloned().collect();
            let surplus: Vec<Report> = reported.iter().filter(|r| !expected.contains(r)).cloned().collect();
            wrong.push(format!("{name}\n  expected and not reported:\n{}  reported and not expected:\n{}", show(&missing), show(&surplus)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whatever is reported says what to do; `expected .., found ..` says so itself.
#[test]
fn every_error_in_the_corpus_has_a_hint_and_a_sentence() {
    for path in corpus("errors") {
        let text = without_expectations(&fs::read_to_string(&path).expect("corpus files are text"));
        for d in diagnostics(&text) {
            let file = path.display();
            let told = d.hint.as_ref().is_some_and(|h| !h.is_empty()) || d.message.starts_with("expected ");
            assert!(told, "{file}: no hint: {}", d.message);
            assert!(d.message.chars().count() > 12 && !d.message.ends_with('.'), "{file}: {}", d.message);
        }
    }
}

/// What a case reports, or expects, at one place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Report {
    /// Counted from 1 in the bare text; 0: no place in it.
    line: usize,
    /// Of the error or warning that this belongs to, on its line.
    order: usize,
    text: String,
}

fn corpus(mode: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(mode);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("a folder can be read").path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "pf"));
    files.sort();
    files
}

// ---- what is reported

/// Everything said of a bare text, errors and warnings.
fn diagnostics(text: &str) -> Vec<Diagnostic> {
    let library = parse::parse(LIBRARY, 1).expect("the library parses");
    let module = match parse::parse(text, 0) {
        Ok(module) => module,
        Err(errors) => return errors,
    };
    match compile(&library, &module, text) {
        Ok(warnings) => warnings,
        Err(errors) => errors,
    }
}

fn compile(library: &Module, module: &Module, text: &str) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let set = |text: &str| text.split_once('=').map(|(n, v)| (n.to_string(), v.to_string())).expect("`// set: name=value`");
    let sets = header(text, "set").into_iter().map(set);
    let batch = header(text, "batch").first().map_or(Some(2), |b| b.parse().ok());
    let inlined = inline::run(&[library], module, &Bindings { sets: sets.collect(), batch, ..Bindings::default() })?;
    let algorithm = header(text, "algorithm").first().map(|a| Algorithm::parse(a).expect("an algorithm's name"));
    let passes: Vec<&str> = match algorithm {
        Some(algorithm) => algorithm.passes().to_vec(),
        None => header(text, "passes").into_iter().flat_map(|p| p.split(", ")).collect(),
    };
    let options = Options::new(algorithm.unwrap_or(Algorithm::BP));
    algorithm::run(inlined.program, &passes, &options, &mut |_, _| {})?;
    Ok(inlined.warnings)
}

/// The values of `// key: value` comments.
fn header<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    text.lines().filter_map(|l| l.strip_prefix("// ")?.strip_prefix(key)?.strip_prefix(": ")).collect()
}

fn reports(text: &str) -> Vec<Report> {
    let mut sources = Sources::default();
    sources.add("", text);
    sources.add("lib.pf", LIBRARY);
    let place = |span: Span| {
        let located = sources.locate(span);
        let (rest, column) = located.rsplit_once(':').expect("file:line:column");
        let (file, line) = rest.rsplit_once(':').expect("file:line:column");
        (file.to_string(), line.parse::<usize>().expect("a number"), column.to_string())
    };
    let mut all = Vec::new();
    for d in diagnostics(text) {
        let kind = match d.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let (line, at) = match &d.place {
            None => (0, String::new()),
            Some((span, _)) => match place(*span) {
                (file, line, column) if file.is_empty() => (line, format!("@{column}")),
                // Inside the library: told at the top.
                (file, line, column) => (0, format!("@{file}:{line}:{column}")),
            },
        };
        let label = d.place.as_ref().map(|(_, label)| label.as_str()).filter(|l| !l.is_empty());
        let label = label.map(|l| format!(" ({l})")).unwrap_or_default();
        let hint = d.hint.iter().map(|h| format!("hint: {h}"));
        all.extend([format!("{kind}{at}: {}{label}", d.message)].into_iter().chain(hint).map(|text| (line, text)));
        for (i, (span, what)) in d.calls.iter().enumerate() {
            let (file, line, column) = place(*span);
            let (line, at) = if file.is_empty() { (line, column) } else { (0, format!("{file}:{line}:{column}")) };
            all.push((line, format!("call {}@{at}: {what}", i + 1)));
        }
    }
    let mut count = std::collections::BTreeMap::new();
    let numbered = all.into_iter().map(|(line, text)| {
        let order = count.entry(line).and_modify(|n| *n += 1).or_insert(0);
        Report { line, order: *order, text }
    });
    let mut all: Vec<Report> = numbered.collect();
    all.sort();
    all
}

// ---- what is expected

/// The text without its expectations.
fn without_expectations(text: &str) -> String {
    let lines = text.lines().filter(|l| !l.trim_start().starts_with(MARK.trim_end()));
    lines.map(|l| l.split_once(MARK).map_or(l, |(code, _)| code.trim_end()).to_string() + "\n").collect()
}

fn expectations(text: &str) -> Vec<Report> {
    let (mut all, mut line, mut order) = (Vec::new(), 0, 0);
    for l in text.lines() {
        let (code, expected) = l.split_once(MARK).map_or((l, None), |(code, e)| (code, Some(e)));
        if expected.is_none() || !code.trim().is_empty() {
            (line, order) = (line + 1, 0);
        }
        if let Some(text) = expected {
            all.push(Report { line, order, text: text.trim_end().to_string() });
            order += 1;
        }
    }
    all
}

/// The bare text with what was reported: on the line where there is one, below it otherwise.
fn with_reports(bare: &str, reports: &[Report]) -> String {
    let at = |line: usize| reports.iter().filter(move |r| r.line == line);
    let mut out: String = at(0).map(|r| format!("{MARK}{}\n", r.text)).collect();
    for (i, l) in bare.lines().enumerate() {
        let indent = &l[..l.len() - l.trim_start().len()];
        let mut here = at(i + 1);
        match here.next() {
            Some(first) => out += &format!("{l} {MARK}{}\n", first.text),
            None => out += &format!("{l}\n"),
        }
        here.for_each(|r| out += &format!("{indent}{MARK}{}\n", r.text));
    }
    out
}
