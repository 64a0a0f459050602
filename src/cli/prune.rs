//! The report on pruning: what ReLUs make needless of a step, and what of that could be left out. Counted by the library; measured here on the
//! first batches of a data set. Read [`report`].

use std::path::{Path, PathBuf};

use pushforward::pruning::{Masks, Pruning, Spared, TILE};
use pushforward::{Error, Parameters, Pool, Settings};
use pushforward_models::data::{self, Source, Splits, epoch_order};
use serde_json::{Value, json};

use super::failure::Failure;
use super::flags::{self, Chosen};
use super::out::{table, thousands};
use super::train::{BUILT_IN_DATA, image_hint};
use crate::classifier::{Classifier, ClassifierError, Feed};
use crate::run::{Checkpoint, RunDir};

#[derive(clap::Args)]
pub struct PruneFlags {
    /// Say what ReLUs make needless of the step: noise, tangents, estimates
    #[arg(long)]
    pub prune: bool,
    /// With --prune: the data on which masks are looked at, as for `train` [default: builtin, where it fits the model]
    #[arg(long, value_name = "builtin|DIR", requires = "prune")]
    data: Option<String>,
    /// With --prune: how many batches are looked at
    #[arg(long, value_name = "B", default_value = "4", requires = "prune", value_parser = batches)]
    batches: usize,
    /// With --prune: take the parameters of the run in this folder, not those of a start
    #[arg(long, value_name = "DIR", requires = "prune")]
    run: Option<PathBuf>,
}

/// What there is to say.
pub struct Report {
    /// `None`: the algorithm draws no noise.
    pruning: Option<Pruning>,
    algorithm: &'static str,
    /// What the masks were measured on, or why they were not.
    measured: Result<String, String>,
}

pub fn report(chosen: &Chosen, settings: &Settings, flags: &PruneFlags) -> Result<Report, Failure> {
    let algorithm = settings.passes.algorithm.name();
    let Some(mut pruning) = Pruning::of(&chosen.model, settings)? else {
        return Ok(Report { pruning: None, algorithm, measured: Err(format!("{algorithm} draws no noise")) });
    };
    let measured = match measure(chosen, settings, flags, &mut pruning) {
        Ok(on) => Ok(on),
        // Nobody asked for this data: that it does not fit is no fault.
        Err(Unmeasured::NoFit(error)) if flags.data.is_none() && flags.run.is_none() => Err(error.to_string()),
        Err(Unmeasured::NoFit(error)) => return Err(error.into()),
        Err(Unmeasured::Failed(failure)) => return Err(failure),
    };
    Ok(Report { pruning: Some(pruning), algorithm, measured })
}

enum Unmeasured {
    /// The model is none for these data.
    NoFit(ClassifierError),
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for Unmeasured {
    fn from(failure: F) -> Unmeasured {
        Unmeasured::Failed(failure.into())
    }
}

/// Puts shares of what is shut beside the layers; says on what they were measured.
fn measure(chosen: &Chosen, settings: &Settings, flags: &PruneFlags, pruning: &mut Pruning) -> Result<String, Unmeasured> {
    let name = flags.data.as_deref().unwrap_or(BUILT_IN_DATA);
    let splits = data::load(&if name == BUILT_IN_DATA { Source::Builtin } else { Source::Dir(PathBuf::from(name)) })?;
    let hint = || image_hint(chosen, &splits);
    Classifier::check(&chosen.model, settings, &splits, hint).map_err(Unmeasured::NoFit)?;
    let Some(mut masks) = Masks::new(&chosen.model, settings, &Pool::new(0).map_err(Error::from)?)? else {
        return Ok(String::new());
    };
    let mut parameters = Parameters::new(&masks.step, 0)?;
    if let Some(run) = &flags.run {
        restore(&mut parameters, run)?;
    }
    let images = count(&mut masks, &mut parameters, chosen, settings, &splits, flags.batches)?;
    masks.measured(pruning);
    let parameters = flags.run.as_ref().map_or("a start's".into(), |run| format!("those of `{}`", run.display()));
    Ok(format!("{} training images of {}, parameters {parameters}", thousands(images as u64), splits.name))
}

/// Runs the masks on the first batches of an epoch, whole ones; how many images that were.
fn count(
    masks: &mut Masks,
    parameters: &mut Parameters,
    chosen: &Chosen,
    settings: &Settings,
    splits: &Splits,
    batches: usize,
) -> Result<usize, Unmeasured> {
    let mut feed = Feed::of(&chosen.model, settings).map_err(Unmeasured::NoFit)?;
    let set = &splits.train;
    let size = masks.step.program().batch.map_or(1, |n| masks.step.program().axes.size(n)).max(1);
    let mut images = 0;
    for indices in epoch_order(0, 0, set.len()).chunks_exact(size).take(batches) {
        feed.run(&mut masks.step, parameters, set, indices)?;
        masks.count();
        images += indices.len();
    }
    Ok(images)
}

/// The tensors of a run's checkpoint in the place of the parameters that the masks depend on.
fn restore(parameters: &mut Parameters, run: &Path) -> Result<(), Failure> {
    let path = RunDir::resume(run)?.checkpoint();
    let checkpoint = Checkpoint::load(&path)?;
    let wanted: Vec<(String, Vec<usize>)> = parameters.iter().map(|(name, view)| (name.to_string(), view.shape().to_vec())).collect();
    for (name, shape) in wanted {
        let Some(tensor) = checkpoint.tensors.iter().find(|t| t.name == name && t.shape == shape) else {
            return Err(Failure::wrong(format!(
                "checkpoint `{}` has no `{name}` of shape {shape:?}; hint: give the model and sizes of that run, or another run with --run",
                path.display()
            )));
        };
        parameters.set(&name, &tensor.data)?;
    }
    Ok(())
}

impl Report {
    /// As one JSON object.
    pub fn json(&self) -> Value {
        let spared = |kind: Kind| self.pruning.as_ref().and_then(|p| p.spared(kind.share));
        let needless: serde_json::Map<String, Value> = KINDS.iter().map(|k| (k.key.to_string(), json!(spared(*k)))).collect();
        json!({
            "share_masked": self.pruning.as_ref().map(Pruning::share_masked),
            "step": self.pruning,
            "measured_on": self.measured.as_ref().ok(),
            "not_measured": self.measured.as_ref().err(),
            "needless": needless,
            "left_out": 0,
            "because": serde_json::Map::from_iter(WHY.map(|(what, why)| (what.to_string(), json!(why)))),
        })
    }

    pub fn text(&self) -> String {
        let Some(pruning) = &self.pruning else { return format!("{} draws no noise: there is nothing to prune\n", self.algorithm) };
        let each = if pruning.directions == 1 { "" } else { ", for all directions together" };
        let mut text = format!(
            "A step draws {} normal numbers{each}; {} of them stand before a ReLU that masks them.\n\n",
            thousands(pruning.total.draws),
            percent(pruning.share_masked())
        );
        text += &layers(pruning);
        match &self.measured {
            Err(why) => text += &format!("\nNot measured on data: {why}\n"),
            Ok(on) => {
                text += &format!("\nMeasured on {on}; needless, as shares of all that is done for the noise:\n\n{}", needless(pruning));
                text += "\nAll of it is masked, and none of it left out, as no element is computed apart from its neighbours:\n";
                text += &table(&WHY.map(|(what, why)| vec![what.to_string(), why.to_string()]), &[]);
                text += &most_rows(pruning);
            }
        }
        text
    }
}

/// Why the step masks all of this and leaves none of it out: no element is computed apart from its neighbours. What the measured shares are
/// to be read with.
const WHY: [(&str, &str); 4] = [
    ("noise", "is made many calls of a cipher side by side, 4 numbers each; calls can be left out together, tiles of one call cannot"),
    ("tangents", "of maps are made in lanes, whole tiles at a time and several of them; rows of the last axis could be left out"),
    ("products", "of matrices take whole rows and columns: a row of zeros could be left out, single zeros cannot"),
    ("units", "that are shut for a whole batch may be open for the next"),
];

/// How much has to be shut together for something to be left out.
#[derive(Clone, Copy)]
struct Kind {
    key: &'static str,
    about: &'static str,
    share: fn(&pushforward::pruning::Shut) -> f64,
}

const KINDS: [Kind; 4] = [
    Kind { key: "elements", about: "behind a ReLU that is shut", share: |s| s.elements },
    Kind { key: "tiles", about: "of it in tiles of 4 that are shut whole", share: |s| s.tiles },
    Kind { key: "rows", about: "of it in rows of the last axis that are shut whole", share: |s| s.rows },
    Kind { key: "units", about: "of it in units that are shut for a whole batch", share: |s| s.units },
];

const _: () = assert!(TILE == 4, "the texts of this report say so");

fn layers(pruning: &Pruning) -> String {
    let mut head = ["layer", "stands at", "noise", "tangent FLOPs", "estimate FLOPs"].map(String::from).to_vec();
    let measured = pruning.layers.iter().any(|l| l.shut.is_some());
    if measured {
        head.extend(["shut", "tiles", "rows", "units"].map(String::from));
    }
    let mut rows = vec![head];
    let mut reasons = String::new();
    for layer in &pruning.layers {
        let behind = layer.behind;
        let mut row = vec![
            layer.name.clone(),
            layer.place.clone(),
            thousands(behind.draws),
            thousands(behind.tangent_flops()),
            thousands(behind.estimate_flops()),
        ];
        if measured {
            row.extend(KINDS.map(|k| layer.shut.as_ref().map_or(String::new(), |s| percent((k.share)(s)))));
        }
        rows.push(row);
        reasons += &layer.why.as_ref().map_or(String::new(), |why| format!("{}: no noise is masked: {why}\n", layer.name));
    }
    let total = pruning.total;
    let all = [total.draws, total.tangent_flops(), total.estimate_flops()].map(thousands);
    rows.push(["all of the step".to_string(), String::new()].into_iter().chain(all).collect());
    table(&rows, &[false, false, true, true, true, true, true, true, true]) + &reasons
}

fn needless(pruning: &Pruning) -> String {
    let mut rows = vec![["", "noise", "tangent FLOPs", "estimate FLOPs"].map(String::from).to_vec()];
    for kind in KINDS {
        let Some(Spared { draws, tangents, estimates }) = pruning.spared(kind.share) else { continue };
        rows.push([kind.about.to_string()].into_iter().chain([draws, tangents, estimates].map(percent)).collect());
    }
    table(&rows, &[false, true, true, true])
}

/// Where leaving out rows would be worth most.
fn most_rows(pruning: &Pruning) -> String {
    let rows = pruning.layers.iter().filter_map(|l| Some((l.shut.as_ref()?.rows, &l.name)));
    match rows.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((share, name)) if share > 0.0 => format!("No layer has more whole rows shut than `{name}`: {} of them.\n", percent(share)),
        _ => "No layer has a row that is shut whole.\n".into(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn batches(text: &str) -> Result<usize, String> {
    flags::count(text, 1, "at least one batch is needed to measure on")
}
