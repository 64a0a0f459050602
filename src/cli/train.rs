//! `train`: a model on a data set, with checkpoints, metrics and a curve. The loop over epochs is here; a step is `Classifier`'s, images are
//! the loader's, files are `run`'s. Read [`run`], then [`epochs`].

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use clap::Parser;
use pushforward::fault::Fault;
use pushforward::{Algorithm, Engine, Error, Model, Settings, Wrong};
use pushforward_gpu::driver::DeviceError;
use pushforward_ir::Diagnostic;
use pushforward_models::data::loader::{Feed, Loader, LoaderError};
use pushforward_models::data::{Source, Splits, epoch_order};
use pushforward_models::recipe::{Rates, TRAIN_ERROR_IMAGES};
use pushforward_models::{PRESETS, Recipe, Schedule, presets};
use pushforward_passes::accumulate;

use super::failure::{Failure, note};
use super::feed::FeedFlags;
use super::flags::{self, Chosen, DEFAULT_BATCH, DEFAULT_MODEL, ModelFlags, SimplifyFlags, StepFlags};
use super::out::{self, thousands};
use super::update::UpdateFlags;
use crate::classifier::{self, At, Classifier, ClassifierError};
use crate::probe::{self, Probe};
use crate::run::{self, Checkpoint, Meta, Metrics, Progress, Purpose, Row, RunDir, Tensor};

/// What is trained where nothing is said.
pub const DEFAULT_PRESET: &str = "M/1/16";
/// What runs steps where nothing is said.
const CPU: &str = "cpu";
/// Of the linear probe where nothing is said.
const PROBE_EPOCHS: usize = 100;
/// What `--data` says of the images that are in the program.
pub const BUILT_IN_DATA: &str = "builtin";

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    step: StepFlags,
    /// `builtin`, or a folder with MNIST's idx files (or any set in that format), CIFAR-10's binary batches, or PNG and JPEG files:
    /// train/CLASS/*.png, test/CLASS/*.png
    #[arg(long, value_name = "builtin|DIR", default_value = "builtin")]
    data: String,
    /// How often every training image is seen [default: 10]. 0 with --resume: evaluate the checkpoint
    #[arg(long, value_name = "E", allow_negative_numbers = true, value_parser = epochs_value)]
    epochs: Option<usize>,
    /// The learning rate at its highest [default: 0.01, and for a model that learns from views B / 512 with a batch of B]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = flags::not_negative)]
    lr: Option<f64>,
    /// What becomes of the learning rate: `constant`, or it falls to 0, as a line or a cosine [default: linear,
    /// and cosine for a model that learns from views]
    #[arg(long, value_name = "constant|linear|cosine", value_parser = schedule)]
    schedule: Option<Schedule>,
    /// Epochs over which the learning rate rises, before that [default: 0, and a tenth of all for a model that learns from views]
    #[arg(long, value_name = "E", allow_negative_numbers = true, value_parser = flags::not_negative)]
    warmup: Option<f64>,
    /// Take each step in pieces of M examples, for batches that memory does not hold at once [default: whole]
    #[arg(long, value_name = "M", allow_negative_numbers = true, value_parser = flags::batch)]
    micro_batch: Option<usize>,
    #[command(flatten)]
    feed: FeedFlags,
    /// For a model that learns features: how often the linear probe at the end sees every training image; no checkpoint says it
    #[arg(long, value_name = "E", default_value_t = PROBE_EPOCHS, allow_negative_numbers = true, value_parser = epochs_value)]
    probe_epochs: usize,
    /// Decides the first parameters, the noise, the order of images and their views [default: 0]
    #[arg(long, value_name = "S", allow_negative_numbers = true, value_parser = flags::seed)]
    seed: Option<u32>,
    /// Threads; results do not depend on it [default: as many as the machine runs at once]
    #[arg(long, value_name = "T", default_value = "0", hide_default_value = true, value_parser = flags::threads)]
    threads: usize,
    /// What runs the steps
    #[arg(long, value_name = "NAME", default_value = CPU, value_parser = flags::training_backend)]
    backend: String,
    /// Go on with the run in the folder, to the same bits as if it had not stopped; flags that are left out are those of that run
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace the run that the folder holds
    #[arg(long)]
    force: bool,
    /// The folder of the run [default: runs/<model>-<algorithm>-<seed>]
    #[arg(short = 'o', long = "output", value_name = "DIR")]
    output: Option<PathBuf>,
}

/// The arguments as a command line of their own.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    args: Args,
}

impl Args {
    /// As a person would write them: whatever is not said is as usual.
    pub fn of(words: &[&str]) -> Result<Args, Failure> {
        Line::try_parse_from(words).map(|line| line.args).map_err(Failure::usage)
    }

    /// The data set that they name.
    pub fn load(&self) -> Result<Splits, Failure> {
        let source = if self.data == BUILT_IN_DATA { Source::Builtin } else { Source::Dir(PathBuf::from(&self.data)) };
        self.feed.load(&source)
    }
}

pub fn run(args: Args) -> Result<(), Failure> {
    let job = Job::of(&args)?;
    let splits = args.load()?;
    let [test, train] = job.run(&splits)?;
    if let Some(remark) = &splits.note {
        out::print(remark)?;
    }
    out::print(&format!("test error {test:.2} % train error {train:.2} %"))
}

/// One run of `train`, for whoever has the data.
pub struct Job<'a> {
    args: &'a Args,
    path: PathBuf,
    /// What it goes on from.
    stored: Option<Checkpoint>,
    plan: Plan,
}

impl Job<'_> {
    pub fn of(args: &Args) -> Result<Job<'_>, Failure> {
        let path = args.output.clone().map_or_else(|| default_path(args), Ok)?;
        let stored = match args.resume {
            true => Some(Checkpoint::load(&RunDir::resume(&path)?.checkpoint())?),
            false => None,
        };
        let plan = Plan::of(args, stored.as_ref().map(|c| &c.meta))?;
        Ok(Job { args, path, stored, plan })
    }

    /// Errors at the end, in percent: on test and on training images.
    pub fn run(self, splits: &Splits) -> Result<[f64; 2], Failure> {
        let Job { args, path, stored, plan } = self;
        trained(args, &path, stored, &plan, splits)
    }
}

fn trained(args: &Args, path: &Path, stored: Option<Checkpoint>, plan: &Plan, splits: &Splits) -> Result<[f64; 2], Failure> {
    let start = Instant::now();
    Classifier::check(&plan.chosen.model, &plan.settings, splits, || image_hint(&plan.chosen, splits))?;
    let engine = flags::engine(&args.backend, args.threads)?;
    let mut classifier = plan.classifier(engine.clone(), splits.train.len())?;
    let (views, scale) = (plan.feed.views(classifier.views())?, plan.feed.scale(classifier.views(), &splits.train));
    classifier.set_scale(scale.clone());
    let feed = Feed { seed: plan.seed, batch: plan.batch, views, scale };
    let meta = plan.meta(splits, feed.views.len())?;
    let rates = plan.recipe.rates(splits.train.len().div_ceil(plan.batch)).map_err(Failure::usage)?;
    let evaluate = args.resume && args.epochs == Some(0);
    if let Some(checkpoint) = &stored {
        let purpose = if evaluate { Purpose::Evaluate } else { Purpose::Continue };
        restore(&mut classifier, checkpoint, path, purpose, &meta)?;
    }
    let dir = match &stored {
        Some(_) => RunDir::resume(path)?,
        None => RunDir::create(path, args.force)?,
    };
    introduce(plan, &classifier, splits, start);
    let mut done = stored.as_ref().map_or(0, |c| c.meta.epochs_done);
    if !evaluate {
        let _held = dir.check_writable()?;
        let run = Run { plan, feed: &feed, splits, rates: &rates, dir: &dir };
        done = epochs(&mut classifier, &run, stored.map_or(meta, |c| c.meta))?;
    }
    let again = going_on(plan, &dir);
    if run::interrupted() {
        return Err(interrupted_at_the_end(done, &again));
    }
    match classifier.learns_features() {
        false => both_errors(&mut classifier, splits).map_err(|e| Stop::Failed(e).told(done, &again)),
        true => {
            let probe = Probe { epochs: args.probe_epochs, seed: plan.seed };
            let errors = probed(&mut classifier, splits, probe, &engine).map_err(|e| e.told(done, &again))?;
            errors.ok_or_else(|| interrupted_at_the_end(done, &again))
        }
    }
}

fn interrupted_at_the_end(done: usize, again: &str) -> Failure {
    Failure::Interrupted(format!("interrupted after epoch {done}, the last; its checkpoint is whole: `{again}` measures the errors"))
}

/// What a run is made of, and does not change.
struct Run<'a> {
    plan: &'a Plan,
    feed: &'a Feed,
    splits: &'a Splits,
    rates: &'a Rates,
    dir: &'a RunDir,
}

/// All epochs that are still to come; gives their number in all. At the end of each: metrics, curve, checkpoint, in this order.
fn epochs(classifier: &mut Classifier, run: &Run, mut meta: Meta) -> Result<usize, Failure> {
    run::install()?;
    let Run { plan, feed, splits, dir, .. } = *run;
    let mut metrics = match meta.epochs_done {
        0 => Metrics::new(Vec::new()),
        done => Metrics::resume(&dir.metrics(), Vec::new(), done)?,
    };
    if meta.epochs_done == 0 {
        // Whatever stops the first epoch, there is something to resume; and a full disk shows now, not after it.
        save(classifier, &meta, dir)?;
        dir.forget_epochs()?;
        if classifier.learns_features() {
            let row = untrained(classifier, feed, splits)?;
            note(format_args!("untrained: loss {:.4}", row.train_loss));
            metrics.push(row);
        }
    }
    let steps_per_epoch = splits.train.len().div_ceil(plan.batch);
    let mut progress = Progress::new(plan.recipe.epochs, steps_per_epoch, meta.epochs_done, io::stderr().is_terminal());
    // Epochs have numbers of 32 bits in the order of images and in their views.
    let [done, planned] = [meta.epochs_done, plan.recipe.epochs].map(|epoch| u32::try_from(epoch).unwrap_or(u32::MAX));
    thread::scope(|scope| {
        let mut loader = Loader::new(scope, &splits.train, feed.clone(), done..planned, plan.loader_threads);
        for epoch in meta.epochs_done..plan.recipe.epochs {
            let row = match one_epoch(classifier, run, &mut loader, &mut meta, &mut progress) {
                Ok(row) => row,
                Err(stop) => {
                    progress.finish();
                    return Err(stop.told(epoch, &going_on(plan, dir)));
                }
            };
            meta.epochs_done = epoch + 1;
            metrics.push(row.clone());
            metrics.save(&dir.metrics())?;
            let curve = run::learning_curve(&plan.title(), &plan.subtitle(&splits.name), &metrics.rows)?;
            run::write_whole(&dir.curve(), curve.as_bytes())?;
            save(classifier, &meta, dir)?;
            progress.epoch(&row);
        }
        progress.finish();
        if done < planned {
            note(format_args!("steps waited {:.2} s for images", loader.waited().as_secs_f64()));
        }
        Ok(meta.epochs_done)
    })
}

/// Images that the loss of the untrained network is measured on, about.
const FIRST_LOOK: usize = 1024;

/// What there is to compare a contrastive loss with: that of the untrained network, on the first views.
fn untrained(classifier: &mut Classifier, feed: &Feed, splits: &Splits) -> Result<Row, Failure> {
    let set = &splits.train;
    let (mut loss, mut seen) = (0.0, 0);
    for indices in epoch_order(feed.seed, 0, set.len()).chunks(feed.batch).take(FIRST_LOOK.div_ceil(feed.batch)) {
        loss += classifier.look(&feed.batch_of(set, 0, indices))?.loss * indices.len() as f64;
        seen += indices.len();
    }
    Ok(Row { train_loss: loss / seen.max(1) as f64, train_error: f64::NAN, test_error: f64::NAN, ..Row::default() })
}

/// The errors of the linear probe on what the network makes of the images; none if it is interrupted.
fn probed(classifier: &mut Classifier, splits: &Splits, probe: Probe, engine: &Engine) -> Result<Option<[f64; 2]>, Stop> {
    let began = Instant::now();
    let Some(train) = classifier.features(&splits.train, usize::MAX, run::interrupted)? else { return Ok(None) };
    let Some(test) = classifier.features(&splits.test, usize::MAX, run::interrupted)? else { return Ok(None) };
    let width = train.width;
    let errors = probe::errors(probe, [train, test], splits.train.classes, engine, run::interrupted).map_err(|e| Stop::Told(e.into()))?;
    if errors.is_some() {
        let seconds = began.elapsed().as_secs_f64();
        note(format_args!("linear probe: {width} features, standardised; {} epochs; {seconds:.1} s", probe.epochs));
    }
    Ok(errors)
}

/// The epoch after those that `meta` counts, up to its figures. Afterwards the parameters are here.
fn one_epoch(classifier: &mut Classifier, run: &Run, loader: &mut Loader, meta: &mut Meta, progress: &mut Progress) -> Result<Row, Stop> {
    let Run { plan, splits, rates, .. } = *run;
    let (began, set) = (Instant::now(), &splits.train);
    let mut row = Row { epoch: meta.epochs_done + 1, ..Row::default() };
    for _ in 0..set.len().div_ceil(plan.batch) {
        let Some(batch) = loader.next().transpose()? else { break };
        let images = batch.labels.len();
        row.lr = rates.at(meta.steps_done);
        let outcome = classifier.step(&batch, At { lr: row.lr, seed: plan.seed, step: meta.steps_done })?;
        if !outcome.loss.is_finite() {
            return Err(diverged(classifier, run, progress));
        }
        meta.steps_done += 1;
        row.train_loss += outcome.loss * images as f64 / set.len() as f64;
        progress.step(outcome.loss, outcome.wrong.map(|wrong| 100.0 * wrong as f64 / images as f64), images);
        if run::interrupted() {
            return Err(Stop::Interrupted);
        }
    }
    row.step = meta.steps_done;
    row.seconds = began.elapsed().as_secs_f64();
    row.images_per_s = set.len() as f64 / row.seconds;
    [row.test_error, row.train_error] = both_errors(classifier, splits)?;
    classifier.fetch()?;
    // A ReLU may hide them from the loss.
    if classifier.not_finite().is_some() {
        return Err(diverged(classifier, run, progress));
    }
    Ok(row)
}

/// Goes through the epoch once more from its checkpoint, step by step, up to the one that made the loss or a parameter something that is not
/// finite; says what in it did. Steps have the same bits each time.
fn diverged(classifier: &mut Classifier, run: &Run, progress: &mut Progress) -> Stop {
    progress.print("the loss or a parameter is not finite any more: the epoch is gone through again, to find the step that made it so");
    retrace(classifier, run, progress).unwrap_or_else(|stop| stop)
}

fn retrace(classifier: &mut Classifier, run: &Run, progress: &mut Progress) -> Result<Stop, Stop> {
    let Run { plan, feed, splits, rates, dir } = *run;
    let checkpoint = Checkpoint::load(&dir.checkpoint()).map_err(|e| Stop::Told(e.into()))?;
    let (set, meta) = (&splits.train, &checkpoint.meta);
    put(classifier, &checkpoint.tensors)?;
    let epoch = meta.epochs_done as u32;
    for (step, indices) in (meta.steps_done..).zip(epoch_order(plan.seed, epoch, set.len()).chunks(plan.batch)) {
        let batch = feed.batch_of(set, epoch, indices);
        let before = tensors(classifier);
        let at = At { lr: rates.at(step), seed: plan.seed, step };
        let loss = classifier.step(&batch, at)?.loss;
        classifier.fetch()?;
        if run::interrupted() {
            return Err(Stop::Interrupted);
        }
        let what = match classifier.not_finite() {
            _ if !loss.is_finite() => format!("the loss is {loss}"),
            Some(name) => format!("`{name}` is not finite any more"),
            None => continue,
        };
        put(classifier, &before)?;
        let what = format!("{what} after step {} of {} (epoch {})", step + 1, rates.steps, meta.epochs_done + 1);
        // It takes a while; whoever does not wait knows this much.
        progress.print(&format!("{what}; now the op is looked for that made it so"));
        let hint =
            "the checkpoint from before this epoch is kept, and goes the same way again; train anew with a smaller --lr, or a --warmup";
        return Ok(Stop::Told(match classifier.fault(&batch, at)? {
            Fault::Found { diagnostic, .. } => {
                let diagnostic = Diagnostic { message: format!("{what}: {}", diagnostic.message), ..diagnostic }.hint(hint);
                Error::Text(Wrong { sources: plan.chosen.model.sources().clone(), diagnostics: vec![diagnostic] }).into()
            }
            Fault::None => Failure::wrong(format!(
                "{what}; run again with every value kept, all of that step is finite, so it is at the edge of what the numbers hold; hint: {hint}"
            )),
        }));
    }
    let what = "the loss or a parameter was not finite in this epoch, and was when it was repeated: the machine does not compute reliably";
    Ok(Stop::Told(Failure::wrong(format!("{what}; hint: the checkpoint from before this epoch is kept: try again with --resume"))))
}

/// On test and training images; NaN where no labels are learnt.
fn both_errors(classifier: &mut Classifier, splits: &Splits) -> Result<[f64; 2], Error> {
    Ok([classifier.error(&splits.test, usize::MAX)?, classifier.error(&splits.train, TRAIN_ERROR_IMAGES)?])
}

/// What ends an epoch before its time.
enum Stop {
    Interrupted,
    /// All is said.
    Told(Failure),
    Failed(Error),
    Unfed(LoaderError),
}

impl From<LoaderError> for Stop {
    fn from(error: LoaderError) -> Stop {
        Stop::Unfed(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

impl Stop {
    /// With what is left after `done` epochs, and the command that goes on from there.
    fn told(self, done: usize, again: &str) -> Failure {
        match self {
            Stop::Interrupted => Failure::Interrupted(format!(
                "interrupted in epoch {}; the checkpoint after epoch {done} is whole: `{again}` goes on from there",
                done + 1
            )),
            Stop::Failed(Error::Device(lost @ DeviceError::Lost { .. })) => {
                Failure::wrong(format!("{lost}; the checkpoint after epoch {done} is whole; hint: `{again}` goes on from there"))
            }
            Stop::Failed(error) => error.into(),
            Stop::Told(failure) => failure,
            Stop::Unfed(error) => Failure::wrong(error),
        }
    }
}

/// The command that goes on with a run.
fn going_on(plan: &Plan, dir: &RunDir) -> String {
    format!("pushforward train{} --resume -o {}", plan.again, quoted(&dir.path().to_string_lossy()))
}

/// The parameters as they are here.
fn save(classifier: &Classifier, meta: &Meta, dir: &RunDir) -> Result<(), Failure> {
    let checkpoint = Checkpoint { meta: meta.clone(), tensors: tensors(classifier) };
    Ok(checkpoint.save(&dir.checkpoint())?)
}

fn tensors(classifier: &Classifier) -> Vec<Tensor> {
    let tensors = classifier.parameters().iter().filter(|(name, _)| !is_sum(name)).filter_map(|(name, view)| {
        let array = view.f32()?;
        Some(Tensor { name: name.into(), shape: array.shape().to_vec(), data: array.iter().copied().collect() })
    });
    tensors.collect()
}

/// Whether a parameter is 0 between steps.
fn is_sum(name: &str) -> bool {
    name.starts_with(accumulate::ACCUMULATED)
}

/// In the place of the parameters of their names.
fn put(classifier: &mut Classifier, tensors: &[Tensor]) -> Result<(), Error> {
    tensors.iter().try_for_each(|tensor| classifier.parameters_mut().set(&tensor.name, &tensor.data))
}

/// Puts a checkpoint's tensors in the place of the parameters, if it is one of this run.
fn restore(classifier: &mut Classifier, checkpoint: &Checkpoint, path: &Path, purpose: Purpose, meta: &Meta) -> Result<(), Failure> {
    let lasting = classifier.parameters().iter().filter(|(name, _)| !is_sum(name));
    let shapes: Vec<(String, Vec<usize>)> = lasting.map(|(name, view)| (name.into(), view.shape().to_vec())).collect();
    checkpoint.check_matches(path, purpose, meta, &shapes)?;
    put(classifier, &checkpoint.tensors)?;
    match classifier.not_finite() {
        Some(name) if purpose == Purpose::Continue => Err(Failure::wrong(format!(
            "the checkpoint in `{}` holds `{name}`, which is not finite: training cannot go on from there; hint: train anew with a smaller --lr",
            path.display()
        ))),
        Some(_) | None => Ok(()),
    }
}

fn introduce(plan: &Plan, classifier: &Classifier, splits: &Splits, start: Instant) {
    let (train, test) = (thousands(splits.train.len() as u64), thousands(splits.test.len() as u64));
    note(format_args!(
        "{}: {} parameters; {}: {train} training and {test} test images; ready in {:.2} s",
        plan.title(),
        thousands(classifier.trained() as u64),
        splits.name,
        start.elapsed().as_secs_f64()
    ));
}

/// Everything that is known before data is read.
struct Plan {
    chosen: Chosen,
    /// The user's own.
    sets: Vec<(String, String)>,
    settings: Settings,
    recipe: Recipe,
    batch: usize,
    /// Examples in a piece of a step, if it is taken in pieces.
    piece: Option<usize>,
    feed: FeedFlags,
    loader_threads: usize,
    seed: u32,
    /// What a command must say to go on with the run, as no checkpoint says it: where a model of one's own and the data lie, how
    /// long the probe is trained, and what runs it.
    again: String,
}

impl Plan {
    /// From the flags; what they leave out is as in `stored`, a run to go on with, or as usual.
    fn of(args: &Args, stored: Option<&Meta>) -> Result<Plan, Failure> {
        let mut model = args.model.clone();
        let mut step = args.step.clone();
        let mut feed = args.feed.clone();
        let mut recipe = None;
        let mut seed = args.seed.unwrap_or(0);
        if let Some(meta) = stored {
            let own = model.model.is_none() && meta.model != DEFAULT_MODEL;
            if own && Model::built_in(&meta.model).is_none() {
                return Err(Failure::usage(format!(
                    "the run is one of the model `{}`; hint: give its file: `train FILE --resume`, or `-` for standard input",
                    meta.model
                )));
            }
            // Preset and algorithm of another model than the run's say nothing of this one: that they differ is found by `restore`.
            let same = model.model.as_deref().is_none_or(|name| stem(name) == meta.model);
            model.model = model.model.or_else(|| Some(meta.model.clone()));
            model.preset = model.preset.or_else(|| meta.preset.as_deref().filter(|_| same).and_then(presets::preset));
            if model.sets.is_empty() {
                model.sets = meta.sets.clone();
            }
            step.algorithm = step.algorithm.or_else(|| Algorithm::parse(&meta.algorithm).filter(|_| same));
            step.batch = step.batch.or(Some(meta.batch));
            step.no_prune |= meta.flags.iter().any(|f| f == NO_PRUNE);
            step.noise_per_example |= meta.flags.iter().any(|f| f == NOISE_PER_EXAMPLE);
            step.simplify = step.simplify.or_spelled(&meta.flags);
            feed = feed.or_spelled(&meta.flags);
            step.directions = step.directions.or_else(|| meta.flags.iter().find_map(|f| f.strip_prefix(DIRECTIONS)?.parse().ok()));
            step.update = step.update.or_spelled(&meta.flags, meta.momentum, meta.weight_decay);
            recipe = Some(Recipe { epochs: meta.epochs_planned, lr: meta.lr, ..spelled_recipe(&meta.flags) });
            seed = args.seed.unwrap_or(meta.seed);
        }
        let fallback = if stored.is_some() { None } else { Some(DEFAULT_PRESET) };
        let chosen = model.choose(fallback)?;
        let batch = step.batch.unwrap_or(chosen.preset.map_or(DEFAULT_BATCH, |p| p.batch));
        let settings = step.settings(&chosen, Some(batch))?;
        let epochs = args.epochs.or(recipe.map(|r| r.epochs)).unwrap_or(Recipe::default().epochs);
        let usual = || match classifier::learns_features(&chosen.model, &settings) {
            true => Recipe::of_views(epochs, batch),
            false => Recipe::default(),
        };
        let recipe = recipe.unwrap_or_else(usual);
        let recipe = Recipe {
            epochs,
            lr: args.lr.unwrap_or(recipe.lr),
            schedule: args.schedule.unwrap_or(recipe.schedule),
            warmup: args.warmup.unwrap_or(recipe.warmup),
        };
        recipe.check().map_err(Failure::usage)?;
        let piece = args.micro_batch.or_else(|| stored?.flags.iter().find_map(|f| f.strip_prefix(MICRO_BATCH)?.parse().ok()));
        if let Some(piece) = piece.filter(|&piece| piece > batch) {
            return Err(Failure::usage(format!(
                "pieces of {piece} examples are larger than the batch of {batch}; hint: --micro-batch is what memory holds of a larger --batch"
            )));
        }
        let mut again = String::new();
        if let Some(name) = model.model.filter(|name| Model::built_in(name).is_none()) {
            again += &format!(" {}", quoted(&name));
        }
        if args.data != BUILT_IN_DATA {
            again += &format!(" --data {}", quoted(&args.data));
        }
        again += feed.again();
        if args.probe_epochs != PROBE_EPOCHS {
            again += &format!(" --probe-epochs {}", args.probe_epochs);
        }
        if args.backend != CPU {
            again += &format!(" --backend {}", args.backend);
        }
        let loader_threads = match args.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        Ok(Plan {
            chosen,
            sets: model.sets,
            settings,
            recipe,
            batch,
            piece: piece.filter(|&piece| piece < batch),
            feed,
            loader_threads,
            seed,
            again,
        })
    }

    /// For a training set of so many images.
    fn classifier(&self, engine: Engine, images: usize) -> Result<Classifier, Failure> {
        let program = self.chosen.ready(&self.settings)?;
        Classifier::check_rests(&self.chosen.model, &self.settings, self.piece, images)?;
        let mut warnings: Vec<Diagnostic> =
            self.piece.and_then(|_| accumulate::mixing(&program, &self.settings.passes)).into_iter().collect();
        if self.batch == 1 && classifier::learns_features(&self.chosen.model, &self.settings) {
            let message = "a batch of one image has no other to tell its views from: a loss that compares images has nothing to learn from";
            warnings.push(Diagnostic::warning(message).hint("choose a larger --batch"));
        }
        self.chosen.warn(warnings);
        Ok(Classifier::new(self.chosen.model.clone(), self.settings.clone(), engine, self.seed, self.piece)?)
    }

    /// What the checkpoints of this run say of it, before its first step.
    fn meta(&self, splits: &Splits, views: usize) -> Result<Meta, Failure> {
        // The batch is a setting of its own: a model is the same at any.
        let bound = self.chosen.model.inline(&self.settings.sets, Some(1))?.program.to_text();
        let passes = &self.settings.passes;
        let mut flags = Vec::new();
        if passes.directions != 1 {
            flags.push(format!("{DIRECTIONS}{}", passes.directions));
        }
        if !passes.prune {
            flags.push(NO_PRUNE.into());
        }
        if let Some(piece) = self.piece {
            flags.push(format!("{MICRO_BATCH}{piece}"));
        }
        if passes.noise_per_example {
            flags.push(NOISE_PER_EXAMPLE.into());
        }
        flags.extend(SimplifyFlags::spelled(&passes.simplify));
        flags.extend(spelled(&self.recipe));
        flags.extend(self.feed.spelled(views));
        flags.sort_unstable();
        // Not sorted: of factors, the first that matches holds.
        flags.extend(UpdateFlags::spelled(&passes.update));
        Ok(Meta {
            model: self.chosen.model.name().into(),
            model_hash: run::fingerprint(bound.as_bytes()),
            preset: self.chosen.preset.map(|p| p.name.into()),
            sets: self.sets.clone(),
            algorithm: passes.algorithm.name().into(),
            flags,
            seed: self.seed,
            batch: self.batch,
            epochs_planned: self.recipe.epochs,
            epochs_done: 0,
            steps_done: 0,
            lr: self.recipe.lr,
            momentum: UpdateFlags::momentum_of(passes.update.rule),
            weight_decay: passes.update.weight_decay,
            data: splits.name.clone(),
        })
    }

    fn title(&self) -> String {
        format!("{}, {}", self.chosen.title(), self.settings.passes.algorithm.name().to_uppercase())
    }

    fn subtitle(&self, data: &str) -> String {
        let mut text = format!("{data}, batch {}, learning rate {}, seed {}", self.batch, self.recipe.lr, self.seed);
        for (name, value) in &self.sets {
            text += &format!(", {name}={value}");
        }
        for flag in spelled(&self.recipe).into_iter().chain(UpdateFlags::spelled(&self.settings.passes.update)) {
            text += &format!(", {}", flag.trim_start_matches('-'));
        }
        text
    }
}

/// As they stand in a checkpoint's `flags`.
const NO_PRUNE: &str = "--no-prune";
const NOISE_PER_EXAMPLE: &str = "--noise-per-example";
const DIRECTIONS: &str = "--directions=";
const MICRO_BATCH: &str = "--micro-batch=";
const SCHEDULE: &str = "--schedule=";
const WARMUP: &str = "--warmup=";

/// What of a recipe is not as usual, as the flags that say it; but epochs and rate, which checkpoints name.
fn spelled(recipe: &Recipe) -> Vec<String> {
    let usual = Recipe::default();
    let schedule = (recipe.schedule != usual.schedule).then(|| format!("{SCHEDULE}{}", recipe.schedule.name()));
    let warmup = (recipe.warmup != usual.warmup).then(|| format!("{WARMUP}{}", recipe.warmup));
    schedule.into_iter().chain(warmup).collect()
}

/// The recipe of which [`spelled`] wrote these flags.
fn spelled_recipe(flags: &[String]) -> Recipe {
    let word = |flag: &str| flags.iter().find_map(|f| f.strip_prefix(flag));
    let usual = Recipe::default();
    Recipe {
        schedule: word(SCHEDULE).and_then(|name| schedule(name).ok()).unwrap_or(usual.schedule),
        warmup: word(WARMUP).and_then(|x| x.parse().ok()).unwrap_or(usual.warmup),
        ..usual
    }
}

fn schedule(text: &str) -> Result<Schedule, String> {
    flags::named("schedule", text, Schedule::ALL, |s| s.name())
}

fn default_path(args: &Args) -> Result<PathBuf, Failure> {
    let name = args.model.model.as_deref().unwrap_or(DEFAULT_MODEL);
    // Standard input can be read once, and not for this.
    let model = if name == "-" { ModelFlags { model: None, ..args.model.clone() } } else { args.model.clone() };
    let algorithm = args.step.algorithm(&model.choose(None)?.model)?;
    Ok(RunDir::default_path(&stem(name), algorithm.name(), args.seed.unwrap_or(0)))
}

/// The name of the model in a file of that name.
fn stem(model: &str) -> String {
    std::path::Path::new(model).file_stem().map_or(model.into(), |s| s.to_string_lossy().into_owned())
}

/// As a shell reads it back.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._+=:,@%-".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// What to do about images that do not fit.
pub fn image_hint(chosen: &Chosen, splits: &Splits) -> String {
    let set = &splits.train;
    let image = [set.height, set.width, set.channels];
    let fitting: Vec<&str> = PRESETS.iter().filter(|p| p.model == chosen.model.name() && p.image() == image).map(|p| p.name).collect();
    match fitting.is_empty() {
        false => format!("--preset {}", fitting.join(" or ")),
        true => "set the sizes of the model's input with --set".into(),
    }
}

fn epochs_value(text: &str) -> Result<usize, String> {
    flags::count(text, 0, "")
}

impl From<ClassifierError> for Failure {
    fn from(error: ClassifierError) -> Failure {
        match error {
            ClassifierError::Step(error) => error.into(),
            other => Failure::wrong(other),
        }
    }
}
