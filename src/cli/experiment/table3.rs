//! `experiment table3`: the errors of every algorithm on a data set, mean and deviation over seeds, beside those that are known. Each run is one
//! of `train`, with its usual recipe, in a folder of its own, so that what is done is not done again. Read [`run`].

use std::path::PathBuf;

use pushforward::Algorithm;
use pushforward_models::data::Splits;
use pushforward_models::{PRESETS, Preset};

use super::super::failure::{Failure, note};
use super::super::flags;
use super::super::out::plural;
use super::super::train::{self, BUILT_IN_DATA, Job};
use super::{cell, csv};
use crate::run::chart::{Along, Dot, Dots, dots};
use crate::run::{RunDir, write_whole};

#[derive(clap::Args)]
pub struct Args {
    /// Epochs of every run
    #[arg(long, value_name = "E", default_value = "10", value_parser = epochs)]
    epochs: usize,
    /// Runs of every row, with the seeds 0, 1, and so on
    #[arg(long, value_name = "K", default_value = "3", value_parser = seeds)]
    seeds: usize,
    /// `builtin`, or a folder, as `train` takes it
    #[arg(long, value_name = "builtin|DIR", default_value = BUILT_IN_DATA)]
    data: String,
    /// Only these sizes; may be given several times [default: of S/1/1, M/1/16, M/8/16 those that the images fit]
    #[arg(long = "preset", value_name = "NAME", value_parser = flags::preset)]
    presets: Vec<&'static Preset>,
    /// Only this algorithm; may be given several times [default: the eleven of the paper]
    #[arg(long = "algorithm", value_name = "NAME", value_parser = flags::algorithm)]
    algorithms: Vec<Algorithm>,
    /// [default: as many as the machine runs at once]
    #[arg(long, value_name = "T", default_value = "0", hide_default_value = true, value_parser = flags::threads)]
    threads: usize,
    /// What runs the steps
    #[arg(long, value_name = "NAME", default_value = "cpu", value_parser = flags::training_backend)]
    backend: String,
    /// The folder of the table and its runs
    #[arg(short = 'o', long = "output", value_name = "DIR", default_value = "runs/table3")]
    output: PathBuf,
}

/// Larger ones take days.
const USUAL: [&str; 3] = ["S/1/1", "M/1/16", "M/8/16"];

/// Errors in percent: test, training.
type Errors = [f64; 2];

/// Known errors, and whose.
struct Known {
    preset: &'static str,
    algorithm: Algorithm,
    data: &'static str,
    epochs: usize,
    errors: Errors,
}

const MNIST: &str = "mnist";
const CIFAR: &str = "cifar-10";

/// A JAX implementation of the paper, with this recipe and one seed each.
const REFERENCE: &[Known] = &[
    reference("S/1/1", Algorithm::BP, 10, [2.3, 0.5]),
    reference("S/1/1", Algorithm::L_BP, 10, [2.6, 0.7]),
    reference("S/1/1", Algorithm::LG_BP, 10, [2.6, 0.7]),
    reference("S/1/1", Algorithm::FA, 10, [2.9, 1.5]),
    reference("S/1/1", Algorithm::L_FA, 10, [3.1, 1.9]),
    reference("S/1/1", Algorithm::LG_FA, 10, [3.1, 1.9]),
    reference("S/1/1", Algorithm::DFA, 10, [3.5, 2.3]),
    reference("S/1/1", Algorithm::FG_W, 10, [9.2, 8.5]),
    reference("S/1/1", Algorithm::FG_A, 10, [5.7, 5.6]),
    reference("S/1/1", Algorithm::LG_FG_W, 10, [8.4, 7.8]),
    reference("S/1/1", Algorithm::LG_FG_A, 10, [6.1, 5.7]),
    reference("M/1/16", Algorithm::BP, 10, [2.4, 0.2]),
    reference("M/1/16", Algorithm::LG_BP, 10, [2.6, 0.4]),
    reference("M/1/16", Algorithm::FG_W, 10, [7.2, 6.3]),
    reference("M/1/16", Algorithm::FG_A, 10, [5.6, 5.2]),
    reference("M/1/16", Algorithm::LG_FG_W, 10, [6.3, 5.5]),
    reference("M/1/16", Algorithm::LG_FG_A, 10, [3.3, 2.5]),
    reference("M/1/16", Algorithm::LG_FG_A, 100, [2.1, 0.1]),
];

/// Table 3 of Ren et al., "Scaling forward gradient with local losses" (ICLR 2023), of the data sets that are read here: MNIST after 1000 epochs,
/// CIFAR-10 after 200.
const PAPER: &[Known] = &[
    paper_mnist("S/1/1", Algorithm::BP, [2.66, 0.0]),
    paper_mnist("S/1/1", Algorithm::L_BP, [2.38, 0.0]),
    paper_mnist("S/1/1", Algorithm::LG_BP, [2.43, 0.0]),
    paper_mnist("S/1/1", Algorithm::FA, [2.82, 0.0]),
    paper_mnist("S/1/1", Algorithm::L_FA, [3.21, 0.0]),
    paper_mnist("S/1/1", Algorithm::LG_FA, [3.11, 0.0]),
    paper_mnist("S/1/1", Algorithm::DFA, [3.31, 0.0]),
    paper_mnist("S/1/1", Algorithm::FG_W, [9.25, 8.93]),
    paper_mnist("S/1/1", Algorithm::FG_A, [3.24, 1.53]),
    paper_mnist("S/1/1", Algorithm::LG_FG_W, [9.25, 8.93]),
    paper_mnist("S/1/1", Algorithm::LG_FG_A, [3.24, 1.53]),
    paper_mnist("M/1/16", Algorithm::BP, [2.41, 0.0]),
    paper_mnist("M/1/16", Algorithm::L_BP, [2.16, 0.0]),
    paper_mnist("M/1/16", Algorithm::LG_BP, [2.81, 0.0]),
    paper_mnist("M/1/16", Algorithm::FA, [2.9, 0.0]),
    paper_mnist("M/1/16", Algorithm::L_FA, [2.9, 0.0]),
    paper_mnist("M/1/16", Algorithm::LG_FA, [2.5, 0.0]),
    paper_mnist("M/1/16", Algorithm::DFA, [3.17, 0.0]),
    paper_mnist("M/1/16", Algorithm::FG_W, [8.56, 8.64]),
    paper_mnist("M/1/16", Algorithm::FG_A, [3.76, 1.75]),
    paper_mnist("M/1/16", Algorithm::LG_FG_W, [5.66, 4.59]),
    paper_mnist("M/1/16", Algorithm::LG_FG_A, [2.55, 0.0]),
    paper_cifar("M/8/16", Algorithm::BP, [33.62, 0.0]),
    paper_cifar("M/8/16", Algorithm::L_BP, [30.75, 0.0]),
    paper_cifar("M/8/16", Algorithm::LG_BP, [33.84, 0.05]),
    paper_cifar("M/8/16", Algorithm::FA, [39.94, 28.44]),
    paper_cifar("M/8/16", Algorithm::L_FA, [39.74, 28.98]),
    paper_cifar("M/8/16", Algorithm::LG_FA, [39.73, 32.32]),
    paper_cifar("M/8/16", Algorithm::DFA, [38.8, 33.69]),
    paper_cifar("M/8/16", Algorithm::FG_W, [55.95, 54.28]),
    paper_cifar("M/8/16", Algorithm::FG_A, [59.72, 41.29]),
    paper_cifar("M/8/16", Algorithm::LG_FG_W, [52.7, 51.71]),
    paper_cifar("M/8/16", Algorithm::LG_FG_A, [30.68, 19.39]),
];

const fn paper_mnist(preset: &'static str, algorithm: Algorithm, errors: Errors) -> Known {
    Known { preset, algorithm, data: MNIST, epochs: 1000, errors }
}

const fn paper_cifar(preset: &'static str, algorithm: Algorithm, errors: Errors) -> Known {
    Known { preset, algorithm, data: CIFAR, epochs: 200, errors }
}

const fn reference(preset: &'static str, algorithm: Algorithm, epochs: usize, errors: Errors) -> Known {
    Known { preset, algorithm, data: MNIST, epochs, errors }
}

/// A row of the table, with the errors of each seed so far.
struct Measured {
    preset: &'static Preset,
    algorithm: Algorithm,
    errors: Vec<Errors>,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let splits = train::Args::of(&["--data", &args.data])?.load()?;
    let presets = if args.presets.is_empty() { fitting(&splits)? } else { args.presets.clone() };
    let algorithms = if args.algorithms.is_empty() { Algorithm::ALL.to_vec() } else { args.algorithms.clone() };
    let mut rows: Vec<Measured> = presets
        .iter()
        .flat_map(|&preset| algorithms.iter().map(move |&algorithm| Measured { preset, algorithm, errors: Vec::new() }))
        .collect();
    let all = rows.len() * args.seeds;
    let mut failed = Vec::new();
    // Seed by seed, so that the whole table is there early.
    for seed in 0..args.seeds {
        for i in 0..rows.len() {
            let row = &mut rows[i];
            let what =
                format!("{} {}, seed {seed} ({} of {all})", row.preset.name, row.algorithm.name(), seed * (all / args.seeds) + i + 1);
            note(&what);
            match one(&args, row, seed, &splits) {
                Ok(errors) => {
                    row.errors.push(errors);
                    note(format_args!("{what}: test error {:.2} % train error {:.2} %", errors[0], errors[1]));
                    write(&args, &rows, &splits.name)?;
                }
                Err(Failure::Interrupted(_)) => {
                    return Err(Failure::Interrupted(format!("interrupted at {what}; the same command goes on from there")));
                }
                // The others are worth having, whatever became of this one.
                Err(Failure::Wrong(message)) => {
                    note(format_args!("{what}: {message}"));
                    failed.push(what);
                }
                Err(other @ (Failure::Usage(_) | Failure::Check | Failure::Closed)) => return Err(other),
            }
        }
    }
    if rows.iter().any(|row| !row.errors.is_empty()) {
        note(format_args!("table3.csv, table3.md, table3.svg in `{}`", args.output.display()));
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failure::wrong(format!("without {}; hint: what became of each is said above", failed.join("; ")))),
    }
}

/// Of the usual sizes, those that are made for such images.
fn fitting(splits: &Splits) -> Result<Vec<&'static Preset>, Failure> {
    let set = &splits.train;
    let image = [set.height, set.width, set.channels];
    let found: Vec<&Preset> = PRESETS.iter().filter(|p| USUAL.contains(&p.name) && p.image() == image).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(Failure::wrong(format!(
            "`{}` has images of {} x {} x {}, for which none of {} is made; hint: take the digits of MNIST or the images of CIFAR-10",
            splits.name,
            set.height,
            set.width,
            set.channels,
            USUAL.join(", ")
        ))),
    }
}

/// Trains one row with one seed, or what is left of that.
fn one(args: &Args, row: &Measured, seed: usize, splits: &Splits) -> Result<Errors, Failure> {
    let name = |text: &str| text.replace('/', "-").to_lowercase();
    let dir = args.output.join(format!("{}-{}-{seed}", name(row.preset.name), name(row.algorithm.name())));
    let words = [
        ["--preset", row.preset.name],
        ["--algorithm", row.algorithm.name()],
        ["--epochs", &args.epochs.to_string()],
        ["--seed", &seed.to_string()],
        ["--data", &args.data],
        ["--threads", &args.threads.to_string()],
        ["--backend", &args.backend],
        ["--output", &dir.to_string_lossy()],
    ];
    let mut words = words.concat();
    if RunDir::resume(&dir).is_ok() {
        words.push("--resume");
    }
    Job::of(&train::Args::of(&words)?)?.run(splits)
}

// ---- files

const HEAD: [&str; 13] = [
    "preset",
    "algorithm",
    "data",
    "epochs",
    "seeds",
    "test_error",
    "test_deviation",
    "train_error",
    "train_deviation",
    "reference_test_error",
    "reference_train_error",
    "paper_test_error",
    "paper_train_error",
];

/// The table as far as it is known.
fn write(args: &Args, rows: &[Measured], data: &str) -> Result<(), Failure> {
    let done: Vec<&Measured> = rows.iter().filter(|r| !r.errors.is_empty()).collect();
    let table = csv(&HEAD, &done.iter().map(|r| line(args, r, data)).collect::<Vec<_>>())?;
    let mut panels: Vec<Dots> = Vec::new();
    for row in &done {
        let title = row.preset.name.to_string();
        if panels.last().is_none_or(|p| p.title != title) {
            panels.push(Dots { title, rows: Vec::new() });
        }
        let [test, train] = [0, 1].map(|i| Some(Dot { at: mean(row, i), deviation: deviation(row, i) }));
        let known = known(REFERENCE, row, data, Some(args.epochs)).map(|k| Dot::from(k.errors[0]));
        if let Some(panel) = panels.last_mut() {
            panel.rows.push((row.algorithm.name().to_uppercase(), vec![test, train, known]));
        }
    }
    let seeds = match args.seeds {
        1 => "one seed".to_string(),
        seeds => format!("mean and deviation of {seeds} seeds"),
    };
    let shown = format!("{data}, {}, {seeds}", plural(args.epochs, "epoch"));
    let figure = dots("Errors", &shown, &["test", "training", "test, reference"], Along::Values("error (%)"), &panels)?;
    for (end, text) in [("csv", table), ("md", markdown(args, &done, data)), ("svg", figure)] {
        write_whole(&args.output.join(format!("table3.{end}")), text.as_bytes())?;
    }
    Ok(())
}

fn line(args: &Args, row: &Measured, data: &str) -> Vec<String> {
    let percent = |x: Option<f64>| cell(x.map(|x| format!("{x:.3}")));
    let [test, train] = [0, 1].map(|i| [percent(Some(mean(row, i))), percent(deviation(row, i))]);
    let reference = known(REFERENCE, row, data, Some(args.epochs));
    let paper = known(PAPER, row, data, None);
    let mut cells =
        vec![row.preset.name.into(), row.algorithm.name().into(), data.into(), args.epochs.to_string(), row.errors.len().to_string()];
    cells.extend([test, train].concat());
    cells.extend([reference, paper].iter().flat_map(|k| [0, 1].map(|i| cell(k.map(|k| k.errors[i])))));
    cells
}

fn markdown(args: &Args, rows: &[&Measured], data: &str) -> String {
    let mut text = format!(
        "# Errors in percent, test / training\n\n{data}, {}, the usual recipe of `train`; mean ± deviation over seeds. The reference is a JAX \
         implementation with the same recipe and one seed; the paper's figures are from its Table 3, after more epochs.\n\n\
         | sizes | algorithm | seeds | test | training | reference | paper |\n|---|---|---:|---:|---:|---:|---:|\n",
        plural(args.epochs, "epoch")
    );
    for row in rows {
        let [test, train] =
            [0, 1].map(|i| format!("{:.2}{}", mean(row, i), deviation(row, i).map_or(String::new(), |d| format!(" ± {d:.2}"))));
        let pair = |known: Option<&Known>| known.map(|k| format!("{} / {}", k.errors[0], k.errors[1]));
        let reference = cell(pair(known(REFERENCE, row, data, Some(args.epochs))));
        let paper = known(PAPER, row, data, None);
        let paper = cell(pair(paper).zip(paper).map(|(pair, k)| format!("{pair} ({} epochs)", k.epochs)));
        let algorithm = row.algorithm.name().to_uppercase();
        text += &format!("| {} | {algorithm} | {} | {test} | {train} | {reference} | {paper} |\n", row.preset.name, row.errors.len());
    }
    text
}

fn known<'a>(all: &'a [Known], row: &Measured, data: &str, epochs: Option<usize>) -> Option<&'a Known> {
    all.iter().find(|k| {
        (k.preset, k.algorithm, k.data) == (row.preset.name, row.algorithm, data) && epochs.is_none_or(|epochs| epochs == k.epochs)
    })
}

fn mean(row: &Measured, i: usize) -> f64 {
    row.errors.iter().map(|e| e[i]).sum::<f64>() / row.errors.len() as f64
}

/// Over seeds, where there are several.
fn deviation(row: &Measured, i: usize) -> Option<f64> {
    let mean = mean(row, i);
    let squares: f64 = row.errors.iter().map(|e| (e[i] - mean) * (e[i] - mean)).sum();
    (row.errors.len() > 1).then(|| (squares / (row.errors.len() - 1) as f64).sqrt())
}

fn epochs(text: &str) -> Result<usize, String> {
    flags::count(text, 1, "at least one epoch is needed for errors that tell something")
}

fn seeds(text: &str) -> Result<usize, String> {
    flags::count(text, 1, "at least one run is needed for a row")
}
