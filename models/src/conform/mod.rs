//! Conformance: runs cases of reference values through the compiler and says which arrays agree. What is checked is what a user runs: texts,
//! passes, back ends; no formula of a gradient stands here. The format of the files is in `tests/fixtures/README.md`.
//!
//! | file | is |
//! |---|---|
//! | `file.rs`, `config.rs` | the files of a set, read and checked |
//! | `derive.rs`, `*.pf` | how each array is derived |
//! | `backend.rs` | what runs the programs |
//! | `compare.rs` | tolerances |
//! | `report.rs` | what came out, as text |
//! | `error.rs` | what can be wrong with a set |
//!
//! It never prints, and a bad file is never a panic. An array that cannot be derived here is counted apart, and one that the index promises
//! and the file lacks has failed. Read [`run`] first.

mod backend;
mod compare;
mod config;
mod derive;
mod error;
mod file;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use backend::{Backend, Cpu, Device, Eval};
pub use report::{ArrayReport, CaseReport, Miss, Problem, Report, Verdict};

use pushforward_ir::Op;
use pushforward_passes::simplify::Settings;
use pushforward_plan::device::Precision;

use compare::{tolerance, tolerance_tf32, worst};
use config::Config;
use derive::{Derivation, derivations, is_made_of};
use error::FixtureError;
use file::{Array, Fixture, Listed};

/// Runs the cases of all paths: folders that hold an index, or single files beside one.
pub fn run(paths: &[PathBuf], backend: &dyn Backend) -> Report {
    run_with(paths, backend, &Settings::default())
}

/// The same, with `simplify` told what it may do.
pub fn run_with(paths: &[PathBuf], backend: &dyn Backend, simplify: &Settings) -> Report {
    let mut report = Report::default();
    for path in paths {
        match file::find(path) {
            Ok(found) => {
                report.cases.extend(found.cases.iter().map(|listed| case(listed, &found.index, backend, simplify)));
                let notes = found.unlisted.iter().map(|p| format!("`{}` is left alone: the index does not list it", p.display()));
                report.notes.extend(notes);
            }
            Err(error) => report.problems.push(Problem { path: path.clone(), message: error.to_string() }),
        }
    }
    report
}

fn case(listed: &Listed, index: &std::path::Path, backend: &dyn Backend, simplify: &Settings) -> CaseReport {
    let refused =
        |error: String, outputs: Vec<String>| CaseReport { name: listed.name.clone(), refused: Some(error), arrays: failed(outputs) };
    let entry = match &listed.entry {
        Ok(entry) => entry,
        Err(error) => return refused(error.to_string(), Vec::new()),
    };
    let promised: Vec<String> = entry.outputs.keys().cloned().collect();
    let fixture = match Fixture::read(&listed.path, index, entry) {
        Ok(fixture) => fixture,
        Err(error) => return refused(error.to_string(), promised),
    };
    // The verdicts of every array: it may be derived in several ways, and all must agree.
    let mut verdicts: BTreeMap<&str, Vec<Verdict>> = BTreeMap::new();
    for derivation in derivations(&fixture, simplify).into_iter().filter(|_| is_judged(&fixture.config, backend.precision())) {
        let outcome = values(&derivation, &fixture, backend);
        for (name, output) in &derivation.gives {
            let Some((name, Ok(expected))) = fixture.outputs.get_key_value(name) else { continue };
            let verdict = match &outcome {
                Err(problem) => Verdict::Failed(Miss::Problem(format!("{}: {problem}", derivation.by))),
                Ok((values, inner)) => match values.get(output) {
                    Some(got) => {
                        let allowed = tolerance(backend.float(), entry, &fixture, name, &expected.data);
                        let allowed = match backend.precision() {
                            Precision::Fp32 => allowed,
                            Precision::Tf32 => tolerance_tf32(allowed, *inner, &expected.data),
                        };
                        judge(&derivation.by, &fixture.path, name, expected, got, allowed)
                    }
                    // The program has no such value: the index names a layer that the config does not have.
                    None => continue,
                },
            };
            verdicts.entry(name).or_default().push(verdict);
        }
    }
    let arrays = fixture.outputs.iter().map(|(name, expected)| {
        let verdict = match expected {
            Err(error) => Verdict::Failed(Miss::Problem(error.to_string())),
            Ok(_) => verdicts.remove(name.as_str()).and_then(worst_of).unwrap_or(Verdict::NotCovered),
        };
        ArrayReport { name: name.clone(), verdict }
    });
    CaseReport { name: listed.name.clone(), refused: None, arrays: arrays.collect() }
}

fn failed(outputs: Vec<String>) -> Vec<ArrayReport> {
    outputs.into_iter().map(|name| ArrayReport { name, verdict: Verdict::Failed(Miss::Case) }).collect()
}

/// A failure if there is one, else the pass that came nearest to one.
fn worst_of(verdicts: Vec<Verdict>) -> Option<Verdict> {
    let badness = |v: &Verdict| match v {
        Verdict::NotCovered => f64::NEG_INFINITY,
        Verdict::Passed { share } => *share,
        Verdict::Failed(_) => f64::INFINITY,
    };
    verdicts.into_iter().reduce(|worst, next| if badness(&next) > badness(&worst) { next } else { worst })
}

/// Shape and numbers of each output.
type Values = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// With products in TF32 only losses are judged: errors of whole steps have no bound that would say something.
fn is_judged(config: &Config, precision: Precision) -> bool {
    match (precision, config) {
        (Precision::Fp32, _) | (Precision::Tf32, Config::Xent(_) | Config::Infonce(_)) => true,
        (Precision::Tf32, Config::Norm(_) | Config::Step(_) | Config::NceStep(_)) => false,
    }
}

/// The outputs, and how many terms the longest product sums.
fn values(derivation: &Derivation, fixture: &Fixture, backend: &dyn Backend) -> Result<(Values, usize), String> {
    let program = derivation.program(backend.float())?;
    let sizes = program.values().map(|v| match program.op(v) {
        Op::Contract(over) => program.axes.count(*over),
        _ => 1,
    });
    let inner = sizes.max().unwrap_or(1);
    let inputs = derivation.inputs(&program, fixture).map_err(|e: FixtureError| e.to_string())?;
    let mut outputs = backend.run(&program, &inputs)?;
    let shaped = program.outputs.iter().map(|o| {
        let name = &o.port.name;
        let values = outputs.remove(name).ok_or_else(|| format!("the back end did not give the output `{name}`"))?;
        Ok((name.clone(), (program.shape(&o.port), values)))
    });
    Ok((shaped.collect::<Result<Values, String>>()?, inner))
}

/// What comes of an array: `got` is the shape and the numbers of the output that `by` gives for it.
fn judge(by: &str, path: &Path, name: &str, expected: &Array, got: &(Vec<usize>, Vec<f64>), allowed: f64) -> Verdict {
    let ((shape, got), reference) = (got, &expected.data);
    if !is_made_of(&expected.shape, shape) || got.len() != reference.len() {
        let (path, array) = (path.to_path_buf(), name.to_string());
        let error = FixtureError::Shape { path, array, got: expected.shape.clone(), by: "its config", wants: shape.clone() };
        return Verdict::Failed(Miss::Problem(error.to_string()));
    }
    let Some(worst) = worst(got, reference) else { return Verdict::NotCovered };
    if worst.error <= allowed {
        return Verdict::Passed { share: if worst.error == 0.0 { 0.0 } else { worst.error / allowed } };
    }
    Verdict::Failed(Miss::Departs {
        by: by.to_string(),
        error: worst.error,
        at: expected.index(worst.at),
        got: worst.got,
        expected: worst.expected,
        tolerance: allowed,
    })
}
