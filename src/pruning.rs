//! What ReLUs make needless of a step that draws noise: perturbations, tangents, estimates. How much stands behind each ReLU is counted from
//! the program; which share of it is needless is a matter of data, and measured with a program that gives the masks.
//!
//! Nothing is printed here, and no data is read. Read [`Pruning::of`], then [`Masks`].

use ndarray::{ArrayViewD, Axis};
use pushforward_cpu::Pool;
use pushforward_ir::program::{Output, Port};
use pushforward_ir::{Builder, Program, Value};
use pushforward_passes::cost::Flops;
use pushforward_passes::needless::{self, Layer, Work, layers};
use pushforward_passes::prune;
use serde::Serialize;

use crate::error::Error;
use crate::model::{Model, Settings};
use crate::step::{Step, View};

/// Elements that are made side by side: lanes of one vector register, and numbers of one call of the cipher that makes noise.
pub const TILE: usize = 4;

/// The whole of a step, and its ReLUs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Pruning {
    /// Whether the step masks its noise.
    pub pruned: bool,
    pub directions: usize,
    pub total: Counts,
    pub layers: Vec<Gated>,
}

/// An activity and the ReLU that stops its noise; or one of the two alone.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Gated {
    pub name: String,
    /// Where in the text the ReLU stands, or the activity that has none.
    pub place: String,
    /// Whether noise is drawn here, and masked by this ReLU.
    pub masked: bool,
    /// Why it is not.
    pub why: Option<String>,
    /// Elements of the activity, or of the ReLU where no noise is drawn.
    pub elements: u64,
    /// What stands behind the ReLU: all of it would be needless if it were shut everywhere.
    pub behind: Counts,
    /// Measured on data.
    pub shut: Option<Shut>,
}

/// Work that exists for the noise alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Normal numbers drawn.
    pub draws: u64,
    pub tangent_contraction_flops: u64,
    pub tangent_other_flops: u64,
    pub estimate_contraction_flops: u64,
    pub estimate_other_flops: u64,
}

/// Shares of a mask that are shut, from 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Shut {
    pub elements: f64,
    /// Neighbours along the last axis, [`TILE`] at a time, that are shut all together.
    pub tiles: f64,
    /// Rows of the last axis.
    pub rows: f64,
    /// Elements of an example that are shut for every example of a batch.
    pub units: f64,
}

/// The passes before noise is placed, and those from there on; `None` where the algorithm draws none.
fn split(settings: &Settings) -> Option<(Vec<&'static str>, &'static [&'static str])> {
    let passes = settings.passes.algorithm.passes();
    let (before, rest) = passes.split_at(passes.iter().position(|&p| p == "perturb")?);
    Some((before.iter().copied().chain(["dce"]).collect(), rest))
}

/// The program that is going to be perturbed.
fn unperturbed(model: &Model, settings: &Settings, before: &[&str]) -> Result<Program, Error> {
    let program = model.inline(&settings.sets, settings.batch)?.program;
    model.passes(program, before, &settings.passes, &mut |_, _| {})
}

impl Pruning {
    /// Of a model's training step; `None` where its algorithm draws no noise.
    pub fn of(model: &Model, settings: &Settings) -> Result<Option<Pruning>, Error> {
        let Some((before, rest)) = split(settings) else { return Ok(None) };
        let program = unperturbed(model, settings, &before)?;
        let layers = layers(&program);
        let needless = needless::needless(&program, &layers, rest, &settings.passes).map_err(|errors| model.wrong(errors))?;
        let gated = layers.iter().zip(needless.behind).map(|(layer, behind)| gated(model, &program, settings, layer, behind));
        Ok(Some(Pruning {
            pruned: settings.passes.prune,
            directions: settings.passes.directions,
            total: needless.total.into(),
            layers: gated.collect(),
        }))
    }

    /// The share of the noise that is masked: drawn before a ReLU that stops it.
    pub fn share_masked(&self) -> f64 {
        let masked: u64 = self.layers.iter().filter(|l| l.masked).map(|l| l.behind.draws).sum();
        share(masked as f64, self.total.draws as f64)
    }

    /// What of the step is needless on the data on which `shut` was measured; `None` before that.
    pub fn needless(&self) -> Option<Spared> {
        self.spared(|shut| shut.elements)
    }

    /// As much of it as stands in tiles, rows or units that are shut whole.
    pub fn spared(&self, kind: impl Fn(&Shut) -> f64) -> Option<Spared> {
        let mut spared = Spared::default();
        for layer in &self.layers {
            let shut = match (&layer.shut, layer.behind == Counts::default()) {
                (Some(shut), _) => kind(shut),
                (None, true) => 0.0,
                (None, false) => return None,
            };
            spared.draws += shut * layer.behind.draws as f64;
            spared.tangents += shut * layer.behind.tangent_flops() as f64;
            spared.estimates += shut * layer.behind.estimate_flops() as f64;
        }
        spared.draws = share(spared.draws, self.total.draws as f64);
        spared.tangents = share(spared.tangents, self.total.tangent_flops() as f64);
        spared.estimates = share(spared.estimates, self.total.estimate_flops() as f64);
        Some(spared)
    }
}

/// Shares of all that exists for the noise, from 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Spared {
    pub draws: f64,
    pub tangents: f64,
    pub estimates: f64,
}

fn share(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

fn gated(model: &Model, program: &Program, settings: &Settings, layer: &Layer, behind: Work) -> Gated {
    let at = layer.relu.or(layer.activity);
    let origin = at.and_then(|v| program.origins.get(program.node(v).origin as usize));
    let off = (!settings.passes.prune).then(|| "pruning is switched off".to_string());
    let why = match (layer.activity, layer.ungated) {
        (None, _) => Some("no activity stands right before it".to_string()),
        (Some(_), Some(why)) => Some(why.to_string()),
        (Some(_), None) => off,
    };
    Gated {
        name: layer.name.clone(),
        place: origin.map_or(String::new(), |o| model.sources().locate(o.span)),
        masked: why.is_none(),
        why,
        elements: layer.activity.or(at).map_or(0, |v| program.axes.count(program.axes_of(v)) as u64),
        behind: behind.into(),
        shut: None,
    }
}

impl Counts {
    pub fn tangent_flops(self) -> u64 {
        self.tangent_contraction_flops.saturating_add(self.tangent_other_flops)
    }

    pub fn estimate_flops(self) -> u64 {
        self.estimate_contraction_flops.saturating_add(self.estimate_other_flops)
    }
}

impl From<Work> for Counts {
    fn from(work: Work) -> Counts {
        let Work { draws, tangents, estimates } = work;
        let Flops { contraction, other } = tangents;
        Counts {
            draws,
            tangent_contraction_flops: contraction,
            tangent_other_flops: other,
            estimate_contraction_flops: estimates.contraction,
            estimate_other_flops: estimates.other,
        }
    }
}

/// A program that gives the masks of a step's ReLUs, and what was seen of them.
pub struct Masks {
    /// Its outputs are the masks. To be run on one batch at a time, each followed by [`Masks::count`].
    pub step: Step,
    seen: Vec<Seen>,
}

/// Of one mask: what was shut, of how many.
#[derive(Clone, Copy, Default)]
struct Seen {
    elements: (usize, usize),
    tiles: (usize, usize),
    rows: (usize, usize),
    units: (usize, usize),
}

impl Masks {
    /// Of a model's training step; `None` where its algorithm draws no noise.
    pub fn new(model: &Model, settings: &Settings, pool: &Pool) -> Result<Option<Masks>, Error> {
        let Some((before, _)) = split(settings) else { return Ok(None) };
        let program = unperturbed(model, settings, &before)?;
        let layers = layers(&program);
        let program = model.passes(masks(&program, &layers), &["dce", "simplify", "dce"], &settings.passes, &mut |_, _| {})?;
        Ok(Some(Masks { step: Step::compile(program, pool)?, seen: vec![Seen::default(); layers.len()] }))
    }

    /// Counts what the last run's masks shut.
    pub fn count(&mut self) {
        let program = self.step.program();
        for (i, seen) in self.seen.iter_mut().enumerate() {
            let (Some(output), Some(View::Bool(mask))) = (program.output(&name(i)), self.step.output(&name(i))) else { continue };
            let batch = output.port.order.iter().position(|&a| Some(a) == program.batch);
            seen.add(mask, batch);
        }
    }

    /// Puts the shares that were counted beside the layers; `pruning` is of the same model and settings.
    pub fn measured(&self, pruning: &mut Pruning) {
        for (layer, seen) in pruning.layers.iter_mut().zip(&self.seen) {
            layer.shut = seen.shut();
        }
    }
}

/// The program whose only outputs are the masks, by [`name`].
fn masks(program: &Program, layers: &[Layer]) -> Program {
    let mut b = Builder::new(Program { outputs: Vec::new(), losses: Vec::new(), ..program.clone() });
    for (i, layer) in layers.iter().enumerate() {
        let mask: Option<Value> = match (layer.activity, layer.relu) {
            (Some(activity), Some(_)) => prune::mask(&mut b, program, activity),
            (None, Some(relu)) => Some(prune::open(&mut b, program, relu)),
            (_, None) => None,
        };
        let Some(mask) = mask else { continue };
        let (ty, order) = (b.ty(mask), b.program().axes.in_order(b.axes_of(mask)));
        b.program_mut().outputs.push(Output { port: Port { name: name(i), dtype: ty.dtype, order }, value: mask });
    }
    b.finish()
}

fn name(layer: usize) -> String {
    format!("mask {layer}")
}

impl Seen {
    fn add(&mut self, mask: ArrayViewD<'_, u8>, batch: Option<usize>) {
        let add = |of: &mut (usize, usize), shut: bool| *of = (of.0 + usize::from(shut), of.1 + 1);
        mask.iter().for_each(|&open| add(&mut self.elements, open == 0));
        let row = mask.shape().iter().rposition(|&n| n > 1).or(mask.ndim().checked_sub(1));
        let Some(row) = row else { return };
        for row in mask.lanes(Axis(row)) {
            add(&mut self.rows, row.iter().all(|&open| open == 0));
            row.axis_chunks_iter(Axis(0), TILE).for_each(|tile| add(&mut self.tiles, tile.iter().all(|&open| open == 0)));
        }
        if let Some(batch) = batch {
            mask.lanes(Axis(batch)).into_iter().for_each(|unit| add(&mut self.units, unit.iter().all(|&open| open == 0)));
        }
    }

    fn shut(&self) -> Option<Shut> {
        let of = |(shut, all): (usize, usize)| share(shut as f64, all as f64);
        let shut = Shut { elements: of(self.elements), tiles: of(self.tiles), rows: of(self.rows), units: of(self.units) };
        (self.elements.1 > 0).then_some(shut)
    }
}
