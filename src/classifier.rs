//! Training a model on images: which of its tensors are images, labels, prediction and loss, or views and features, one step, the error on a
//! set, the features of a set. It reads all of that off the types: no input, output or layer is known by name. It holds the parameters,
//! touches no file and shows nothing. Read [`Goal`], [`Classifier::step`], and [`Classifier::error`] or [`Classifier::features`].

use std::borrow::Cow;
use std::collections::HashMap;

use ndarray::ArrayViewD;
use pushforward::fault::Fault;
use pushforward::{Engine, Error, Input, Model, Parameters, Settings, Step, View, Wrong};
use pushforward_ir::program::Port;
use pushforward_ir::{DType, Diagnostic};
use pushforward_models::RecipeError;
use pushforward_models::data::loader::Batch;
use pushforward_models::data::{DataError, DataSet, Scale, Splits};
use pushforward_models::recipe::pixel;
use pushforward_passes::accumulate;

/// Why a model cannot be trained on a set of labelled images.
#[derive(Debug, thiserror::Error)]
pub enum ClassifierError {
    #[error(transparent)]
    Step(#[from] Error),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(
        "`{model}` is no classifier: it needs exactly one {what}, and has {found}; hint: `train` is for classifiers and for models that learn \
         from views, and examples/embed.rs shows how a program of your own trains anything else"
    )]
    NoClassifier { model: String, what: &'static str, found: String },
    #[error(
        "`{model}` learns from views of an image: it needs exactly one {what}, and has {found}; hint: compare with models/localmixer.pf"
    )]
    NoViews { model: String, what: &'static str, found: String },
    #[error("`{data}` has images of {image}, but `{input}` takes {wants}; hint: {hint}")]
    Images { data: String, image: String, input: String, wants: usize, hint: String },
    #[error("the linear probe: {0}")]
    Probe(RecipeError),
    #[error("the batch of {batch} is larger than the training set `{data}` of {images} images; hint: --batch {images}, or less")]
    Batch { batch: usize, data: String, images: usize },
}

/// A model with its parameters, ready for steps on any number of images.
pub struct Classifier {
    model: Model,
    settings: Settings,
    ports: Ports,
    engine: Engine,
    parameters: Parameters,
    /// What is done to images that are looked at; those of a step come scaled.
    scale: Scale,
    /// By batch; for pieces of one, if steps are taken in pieces.
    training: HashMap<usize, Step>,
    pieces: Option<Pieces>,
    looking: HashMap<usize, Step>,
}

/// How steps are taken in pieces.
struct Pieces {
    /// Examples in one, but for a last one.
    size: usize,
    /// What follows the last.
    apply: Step,
}

/// What of a step's batch a program gets.
#[derive(Clone, Copy)]
struct Part {
    /// Examples before it.
    first: usize,
    /// Examples in the batch.
    of: usize,
}

/// Images for programs of a model that take no part in its training.
pub struct Feed {
    ports: Ports,
}

impl Feed {
    pub fn of(model: &Model, settings: &Settings) -> Result<Feed, ClassifierError> {
        Ok(Feed { ports: Ports::of(model, settings)? })
    }

    /// Runs a step that takes what the model takes, on the images of `set` at `indices`; all views of an image are alike.
    pub fn run(&mut self, step: &mut Step, parameters: &mut Parameters, set: &DataSet, indices: &[u32]) -> Result<(), Error> {
        let all = || indices.iter().map(|&i| i as usize);
        let batch = plain((0..self.ports.views).flat_map(|_| all()), set);
        let inputs = self.ports.inputs(step, &batch);
        step.run(parameters, &inputs)
    }
}

/// The tensors that matter, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Ports {
    images: String,
    labels: Option<String>,
    /// Of each image; 1 where the images have no axis of views.
    views: usize,
    /// Numbers of one view.
    pixels: usize,
    /// Outputs of a step: the loss that is not local, or where there is none, all local ones, each a mean.
    losses: Vec<String>,
    goal: Goal,
}

/// What a model learns.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Goal {
    /// Labels: scores for each class, `f32[N, K]`.
    Classes { prediction: String, classes: usize },
    /// Features: `f32[V, N, ..]`, `width` numbers for each view.
    Features { features: String, width: usize },
}

/// What is learnt of examples, and their labels. Images, or what a network made of them.
pub trait Examples {
    fn count(&self) -> usize;
    /// Appends the numbers of one.
    fn write(&self, index: usize, out: &mut Vec<f32>);
    fn label(&self, index: usize) -> u8;
}

impl Examples for DataSet {
    fn count(&self) -> usize {
        self.len()
    }

    fn write(&self, index: usize, out: &mut Vec<f32>) {
        out.extend(self.image(index).iter().map(|&byte| pixel(byte)));
    }

    fn label(&self, index: usize) -> u8 {
        self.labels[index]
    }
}

/// What a network makes of images, with their labels.
#[derive(Clone, PartialEq, Debug)]
pub struct Features {
    /// Numbers for each image.
    pub width: usize,
    pub numbers: Vec<f32>,
    pub labels: Vec<u8>,
}

impl Examples for Features {
    fn count(&self) -> usize {
        self.labels.len()
    }

    fn write(&self, index: usize, out: &mut Vec<f32>) {
        out.extend(&self.numbers[index * self.width..][..self.width]);
    }

    fn label(&self, index: usize) -> u8 {
        self.labels[index]
    }
}

/// Examples as they are, one after the other.
pub fn plain(indices: impl Iterator<Item = usize>, set: &impl Examples) -> Batch {
    let mut batch = Batch::default();
    for index in indices {
        set.write(index, &mut batch.pixels);
        batch.labels.push(i32::from(set.label(index)));
    }
    batch
}

/// What one step said of its images, before it changed anything.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Outcome {
    /// Mean over the images, and over local losses if they are all there is.
    pub loss: f64,
    /// How many were put into another class than their own, if the model learns classes.
    pub wrong: Option<usize>,
}

/// Where a step stands in its run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct At {
    pub lr: f64,
    pub seed: u32,
    /// From 0.
    pub step: u64,
}

impl Classifier {
    /// Compiles the step for the settings' batch, or for pieces of it, and draws the parameters from `seed`.
    pub fn new(
        model: Model,
        mut settings: Settings,
        engine: Engine,
        seed: u32,
        piece: Option<usize>,
    ) -> Result<Classifier, ClassifierError> {
        let ports = Ports::of(&model, &settings)?;
        settings.show_local |= ports.learns_features();
        let step = match piece {
            None => Step::training(&model, &settings, &engine)?,
            Some(_) => Step::accumulating(&model, &Settings { batch: piece, ..settings.clone() }, &engine)?,
        };
        let mut parameters = Parameters::new(&step, seed)?;
        let pieces = match piece {
            None => None,
            Some(size) => Some(Pieces { size, apply: Step::applying(&model, &settings, &engine)? }),
        };
        if let Some(pieces) = &pieces {
            parameters.add(&pieces.apply, seed)?;
        }
        let training = piece.or(settings.batch).map(|n| (n, step)).into_iter().collect();
        Ok(Classifier { model, settings, ports, engine, parameters, scale: Scale::default(), training, pieces, looking: HashMap::new() })
    }

    /// Whether a data set fits a model: images, labels, and enough of them for a batch. `hint` says what to do about images that do not.
    /// Nothing is compiled for it.
    pub fn check(model: &Model, settings: &Settings, splits: &Splits, hint: impl FnOnce() -> String) -> Result<(), ClassifierError> {
        let (set, ports) = (&splits.train, Ports::of(model, settings)?);
        let (pixels, data) = (set.pixels_per_image(), splits.name.clone());
        if pixels != ports.pixels {
            let DataSet { height, width, channels, .. } = *set;
            let image = format!("{height} x {width} x {channels} = {pixels} numbers");
            let input = format!("{}.{}", model.name(), ports.images);
            return Err(ClassifierError::Images { data, image, input, wants: ports.pixels, hint: hint() });
        }
        match ports.goal {
            Goal::Classes { classes, .. } => splits.check_classes(classes)?,
            Goal::Features { .. } => {}
        }
        match settings.batch {
            Some(batch) if batch > set.len() => Err(ClassifierError::Batch { batch, data, images: set.len() }),
            _ => Ok(()),
        }
    }

    /// Whether the model can be trained on what is left over where an epoch of so many images is cut into batches, and these into pieces.
    /// Nothing is compiled for it.
    pub fn check_rests(model: &Model, settings: &Settings, piece: Option<usize>, images: usize) -> Result<(), Error> {
        let Some(batch) = settings.batch else { return Ok(()) };
        let size = piece.unwrap_or(batch);
        for rest in [batch % size, images % batch % size].into_iter().filter(|&rest| rest > 0) {
            let settings = Settings { batch: Some(rest), ..settings.clone() };
            let program = model.inline(&settings.sets, settings.batch)?.program;
            let told = |d: Diagnostic| {
                let pieces = piece.map_or(String::new(), |piece| format!(" and --micro-batch {piece}"));
                let message = format!("{images} images with --batch {batch}{pieces} leave {rest} over: {}", d.message);
                Diagnostic { message, ..d }.hint("take sizes that leave none over, or more; or another norm")
            };
            model.check(&program, &settings).map_err(|error| match error {
                Error::Text(wrong) => Error::Text(Wrong { diagnostics: wrong.diagnostics.into_iter().map(told).collect(), ..wrong }),
                other => other,
            })?;
        }
        Ok(())
    }

    /// How images are scaled before the network looks at them.
    pub fn set_scale(&mut self, scale: Scale) {
        self.scale = scale;
    }

    /// How many views of each image a step takes: those of a batch's pixels.
    pub fn views(&self) -> usize {
        self.ports.views
    }

    /// Whether it learns features, and no classes: then there are [`Classifier::features`], and no error.
    pub fn learns_features(&self) -> bool {
        self.ports.learns_features()
    }

    /// One training step.
    pub fn step(&mut self, batch: &Batch, at: At) -> Result<Outcome, Error> {
        let mut whole = Outcome { loss: 0.0, wrong: None };
        for (piece, part) in self.parts(batch) {
            let outcome = self.with_step(&piece, part, at, |step, parameters, inputs, ports| {
                step.run(parameters, inputs)?;
                Ok(ports.outcome(step, &piece))
            })?;
            whole.loss += outcome.loss * (piece.labels.len() as f64 / part.of as f64);
            whole.wrong = outcome.wrong.map(|wrong| whole.wrong.unwrap_or(0) + wrong);
        }
        self.with_last(at, |apply, parameters, inputs| apply.run(parameters, inputs))?;
        Ok(whole)
    }

    /// What of that step is not finite, from the parameters as they are here, which are no more what they were afterwards; see [`Step::fault`].
    pub fn fault(&mut self, batch: &Batch, at: At) -> Result<Fault, Error> {
        for (piece, part) in self.parts(batch) {
            if self.pieces.is_some() {
                // Only the piece that did it is worth a search.
                let before = self.sums();
                let outcome = self.with_step(&piece, part, at, |step, parameters, inputs, ports| {
                    step.run(parameters, inputs)?;
                    Ok(ports.outcome(step, &piece))
                })?;
                self.fetch()?;
                if outcome.loss.is_finite() && self.not_finite().is_none() {
                    continue;
                }
                before.iter().try_for_each(|(name, sum)| self.parameters.set(name, sum))?;
            }
            return self.with_step(&piece, part, at, |step, parameters, inputs, _| step.fault(parameters, inputs));
        }
        let last = self.with_last(at, |apply, parameters, inputs| apply.fault(parameters, inputs))?;
        Ok(last.unwrap_or(Fault::None))
    }

    /// What pieces have added up so far.
    fn sums(&self) -> Vec<(String, Vec<f32>)> {
        let sums = self.parameters.iter().filter(|(name, _)| name.starts_with(accumulate::ACCUMULATED));
        sums.filter_map(|(name, view)| Some((name.to_string(), view.f32()?.iter().copied().collect()))).collect()
    }

    /// A batch as it goes into steps: whole, or in pieces.
    fn parts<'a>(&self, batch: &'a Batch) -> Vec<(Cow<'a, Batch>, Part)> {
        let of = batch.labels.len();
        let Some(Pieces { size, .. }) = self.pieces else { return vec![(Cow::Borrowed(batch), Part { first: 0, of })] };
        let pixels = batch.pixels.len() / (self.ports.views * of).max(1);
        let piece = |first: usize| {
            let (labels, view) = (first..of.min(first + size), |view: usize| view * of);
            let rows = (0..self.ports.views).map(|v| (view(v) + labels.start) * pixels..(view(v) + labels.end) * pixels);
            let pixels = rows.flat_map(|rows| &batch.pixels[rows]).copied().collect();
            (Cow::Owned(Batch { epoch: batch.epoch, pixels, labels: batch.labels[labels].to_vec() }), Part { first, of })
        };
        (0..of).step_by(size).map(piece).collect()
    }

    /// `then` with what follows the last piece, if there are pieces.
    fn with_last<T>(
        &mut self,
        at: At,
        then: impl FnOnce(&mut Step, &mut Parameters, &[(&str, Input<'_>)]) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let Classifier { pieces: Some(Pieces { apply, .. }), parameters, .. } = self else { return Ok(None) };
        let lr = apply.program().input("lr").map(|_| ("lr", Input::from(at.lr as f32)));
        then(apply, parameters, lr.as_slice()).map(Some)
    }

    /// `then` with the step for a batch or a part of one, and all that it takes and says.
    fn with_step<T>(
        &mut self,
        batch: &Batch,
        part: Part,
        at: At,
        then: impl FnOnce(&mut Step, &mut Parameters, &[(&str, Input<'_>)], &Ports) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Classifier { model, settings, ports, engine, parameters, training, pieces, .. } = self;
        let step = by_batch(training, batch.labels.len(), |n| {
            let settings = Settings { batch: Some(n), ..settings.clone() };
            match pieces {
                None => Step::training(model, &settings, &*engine),
                Some(_) => Step::accumulating(model, &settings, &*engine),
            }
        })?;
        let mut inputs = ports.inputs(step, batch);
        // Which of these a step takes depends on the algorithm. Bits count: the seed and step number are written as i32.
        let scalars = [
            ("lr", Input::from(at.lr as f32)),
            ("seed", Input::from(at.seed as i32)),
            ("step", Input::from(at.step as i32)),
            (accumulate::SHARE, Input::from(batch.labels.len() as f32 / part.of as f32)),
            (accumulate::ROW, Input::from(part.first as i32)),
        ];
        inputs.extend(scalars.into_iter().filter(|(name, _)| step.program().input(name).is_some()));
        then(step, parameters, &inputs, ports)
    }

    /// The first parameter, of those here, that holds a number which is not finite.
    pub fn not_finite(&self) -> Option<&str> {
        let mut all = self.parameters.iter();
        all.find(|(_, view)| matches!(view, View::F32(x) if x.iter().any(|x| !x.is_finite()))).map(|(name, _)| name)
    }

    /// What the network says of a batch; nothing is learnt.
    pub fn look(&mut self, batch: &Batch) -> Result<Outcome, Error> {
        let Classifier { model, settings, ports, engine, parameters, looking, .. } = self;
        let step =
            by_batch(looking, batch.labels.len(), |n| Step::evaluation(model, &Settings { batch: Some(n), ..settings.clone() }, &*engine))?;
        let inputs = ports.inputs(step, batch);
        step.run(parameters, &inputs)?;
        Ok(ports.outcome(step, batch))
    }

    /// The error on the first `count` examples of a set, in percent; NaN if the model learns no classes.
    pub fn error(&mut self, set: &impl Examples, count: usize) -> Result<f64, Error> {
        if self.learns_features() {
            return Ok(f64::NAN);
        }
        let count = count.min(set.count());
        let size = self.seen_at_once().unwrap_or(count).max(1);
        let mut wrong = 0;
        for first in (0..count).step_by(size) {
            let mut batch = plain(first..count.min(first + size), set);
            self.scale.apply(&mut batch.pixels);
            wrong += self.look(&batch)?.wrong.unwrap_or(0);
        }
        Ok(100.0 * wrong as f64 / count.max(1) as f64)
    }

    /// What the network makes of the first `count` images of a set; none if it learns no features, or if `stop` says so. One call looks at as
    /// many different images as a step takes views; the last ones are made up to a whole call with copies of the last image.
    pub fn features(&mut self, set: &DataSet, count: usize, stop: impl Fn() -> bool) -> Result<Option<Features>, Error> {
        let count = count.min(set.len());
        let Goal::Features { features, width } = self.ports.goal.clone() else { return Ok(None) };
        let (views, n) = (self.ports.views, self.seen_at_once().unwrap_or(count).max(1));
        let mut numbers = Vec::with_capacity(count * width);
        for first in (0..count).step_by(views * n) {
            if stop() {
                return Ok(None);
            }
            let mut batch = plain((first..first + views * n).map(|index| index.min(count - 1)), set);
            self.scale.apply(&mut batch.pixels);
            batch.labels.truncate(n);
            self.look(&batch)?;
            let seen = self.looking.get(&n).and_then(|step| step.output(&features)).and_then(View::f32);
            numbers.extend(seen.iter().flatten().copied().take((count - first) * width));
        }
        Ok(Some(Features { width, numbers, labels: set.labels[..count].to_vec() }))
    }

    /// Examples for which there is memory.
    fn seen_at_once(&self) -> Option<usize> {
        self.pieces.as_ref().map(|pieces| pieces.size).or(self.settings.batch)
    }

    /// Brings the parameters here from the device that trains them; [`Classifier::parameters`] shows them then.
    pub fn fetch(&mut self) -> Result<(), Error> {
        self.parameters.fetch()
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// How many numbers are trained.
    pub fn trained(&self) -> usize {
        let first = self.training.values().next();
        first.map_or(0, |step| {
            let program = step.program();
            let model_own = program.params.iter().filter(|p| !pushforward_passes::update::is_kept(&p.port.name));
            model_own.map(|p| program.shape(&p.port).iter().product::<usize>()).sum()
        })
    }
}

/// The step for a batch of `n`, compiled when it is first needed.
fn by_batch(steps: &mut HashMap<usize, Step>, n: usize, compile: impl FnOnce(usize) -> Result<Step, Error>) -> Result<&mut Step, Error> {
    use std::collections::hash_map::Entry;
    Ok(match steps.entry(n) {
        Entry::Occupied(step) => step.into_mut(),
        Entry::Vacant(place) => place.insert(compile(n)?),
    })
}

/// Whether a model learns features, from views, and no classes; neither if it is none that a [`Classifier`] can train.
pub fn learns_features(model: &Model, settings: &Settings) -> bool {
    Ports::of(model, settings).is_ok_and(|ports| ports.learns_features())
}

impl Ports {
    fn of(model: &Model, settings: &Settings) -> Result<Ports, ClassifierError> {
        let program = model.inline(&settings.sets, settings.batch)?.program;
        let own = |port: &Port| port.order.first().is_some_and(|&a| Some(a) == program.batch);
        let of_views = |port: &Port| port.order.len() > 2 && !own(port) && Some(port.order[1]) == program.batch && port.dtype == DType::F32;
        let named = |ports: &mut dyn Iterator<Item = &Port>, fits: &dyn Fn(&Port) -> bool| -> Vec<String> {
            ports.filter(|p| fits(p)).map(|p| p.name.clone()).collect()
        };
        let outputs = || program.outputs.iter().map(|o| &o.port);
        let is_labels = |p: &Port| own(p) && p.dtype == DType::I32 && p.order.len() == 1;
        let labels = named(&mut program.inputs.iter(), &is_labels);
        let global: Vec<String> = program.losses.iter().filter(|l| l.local.is_none()).map(|l| l.name.clone()).collect();
        let found = |found: Vec<String>| if found.is_empty() { "none".into() } else { found.join(", ") };

        if global.is_empty() && program.inputs.iter().any(&of_views) {
            let one = |what, mut all: Vec<String>| match all.len() {
                1 => Ok(all.remove(0)),
                _ => Err(ClassifierError::NoViews { model: model.name().into(), what, found: found(all) }),
            };
            let images = one("input of views, f32[V, N, ..]", named(&mut program.inputs.iter(), &of_views))?;
            let features = one("output of features, f32[V, N, ..]", named(&mut outputs(), &of_views))?;
            let losses: Vec<String> = program.losses.iter().map(|l| l.name.clone()).collect();
            if losses.is_empty() {
                one("local loss or more", Vec::new())?;
            }
            let sizes = |port: Option<&Port>| port.map_or(Vec::new(), |p| program.shape(p));
            let image = sizes(program.inputs.iter().find(|p| p.name == images));
            let width = sizes(program.output(&features).map(|o| &o.port)).iter().skip(2).product();
            let (views, pixels) = (image[0], image.iter().skip(2).product());
            return Ok(Ports {
                images,
                labels: labels.into_iter().next(),
                views,
                pixels,
                losses,
                goal: Goal::Features { features, width },
            });
        }

        let one = |what, mut all: Vec<String>| match all.len() {
            1 => Ok(all.remove(0)),
            _ => Err(ClassifierError::NoClassifier { model: model.name().into(), what, found: found(all) }),
        };
        let of_numbers = |p: &Port| own(p) && p.dtype == DType::F32;
        let images = one(
            "input of numbers for each example, f32[N, ..]",
            named(&mut program.inputs.iter(), &|p| of_numbers(p) && p.order.len() > 1),
        )?;
        let labels = one("input of labels, i32[N]", labels)?;
        let prediction =
            one("output of scores for each class, f32[N, K]", named(&mut outputs(), &|p| of_numbers(p) && p.order.len() == 2))?;
        let losses = vec![one("loss that is not local", global)?];
        let each = |port: Option<&Port>| port.map_or(0, |p| program.shape(p).iter().skip(1).product());
        let pixels = each(program.input(&images).map(|i| &program.inputs[i as usize]));
        let classes = each(program.output(&prediction).map(|o| &o.port));
        Ok(Ports { images, labels: Some(labels), views: 1, pixels, losses, goal: Goal::Classes { prediction, classes } })
    }

    fn learns_features(&self) -> bool {
        match self.goal {
            Goal::Classes { .. } => false,
            Goal::Features { .. } => true,
        }
    }

    /// A batch, as a step wants it.
    fn inputs<'a>(&'a self, step: &Step, batch: &'a Batch) -> Vec<(&'a str, Input<'a>)> {
        let labels = self.labels.as_deref().filter(|name| step.program().input(name).is_some());
        let images = (self.images.as_str(), Input::from(&batch.pixels[..]));
        [images].into_iter().chain(labels.map(|name| (name, Input::from(&batch.labels[..])))).collect()
    }

    /// What the last run of a step said of the batch that it was given.
    fn outcome(&self, step: &Step, batch: &Batch) -> Outcome {
        let each = self.losses.iter().map(|name| step.output(name).and_then(|v| v.item()).unwrap_or(f64::NAN));
        let loss = each.sum::<f64>() / self.losses.len() as f64;
        let wrong = match &self.goal {
            Goal::Classes { prediction, .. } => {
                let scores = step.output(prediction).and_then(View::f32);
                Some(scores.map_or(batch.labels.len(), |scores| count_wrong(scores, &batch.labels)))
            }
            Goal::Features { .. } => None,
        };
        Outcome { loss, wrong }
    }
}

/// Rows whose largest entry does not stand at their label. The first of equals counts; NaN is never right.
fn count_wrong(scores: ArrayViewD<'_, f32>, labels: &[i32]) -> usize {
    let right = scores.outer_iter().zip(labels).filter(|(row, label)| {
        let mut best = (0, f32::NEG_INFINITY);
        for (class, &score) in (0i32..).zip(row.iter()) {
            if score.is_nan() {
                return false;
            }
            if score > best.1 {
                best = (class, score);
            }
        }
        best.0 == **label
    });
    labels.len() - right.count()
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use pushforward::Algorithm;

    use super::*;

    #[test]
    fn wrong_rows_are_counted() {
        let scores = array![[1.0, 2.0, 0.0], [3.0, 3.0, 1.0], [f32::NAN, 0.0, 9.0], [-5.0, f32::NEG_INFINITY, -4.0]].into_dyn();
        assert_eq!(count_wrong(scores.view(), &[1, 0, 2, 2]), 1);
        assert_eq!(count_wrong(scores.view(), &[0, 1, 0, 0]), 4);
        assert_eq!(count_wrong(ndarray::ArrayD::zeros(vec![2, 10]).view(), &[0, 5]), 1);
    }

    #[test]
    fn ports_are_found_by_their_types() {
        let text = "pf 1\naxis N, A = 3, B = 2, K = 4;\n\
                    model m(y: i32[N], lengths: i32[N, A], x: f32[N, A, B], scale: f32[A]) {\n\
                    param w: f32[A, B, K] = 0;\n\
                    z = sum[A, B](x * w);\n\
                    output scores: f32[N, K] = z;\n\
                    output total: f32[N] = sum[K](z);\n\
                    loss one: cross_entropy[K](z, y);\n}\n";
        let model = Model::parse("m.pf", text).unwrap();
        let ports = Ports::of(&model, &Settings::new(Algorithm::BP, 5)).unwrap();
        let goal = Goal::Classes { prediction: "scores".into(), classes: 4 };
        let expected = Ports { images: "x".into(), labels: Some("y".into()), views: 1, pixels: 6, losses: vec!["one".into()], goal };
        assert_eq!(ports, expected);
    }

    const VIEWS: &str = "pf 1\naxis N, V = 2, A = 3, K = 4;\n\
                    model m(x: f32[V, N, A]) {\n\
                    param w: f32[A, K] = 0;\n\
                    z = sum[A](x * w);\n\
                    local one: z along K { squared_error[K](z, 0 * z) }\n\
                    local two: z along K { squared_error[K](z, 0 * z + 1) }\n\
                    output scores: f32[V, N, K] = z;\n}\n";

    #[test]
    fn views_and_features_are_found_by_their_types() {
        let ports = |text: &str| Ports::of(&Model::parse("m.pf", text).unwrap(), &Settings::new(Algorithm::LG_BP, 5));
        let goal = Goal::Features { features: "scores".into(), width: 4 };
        let expected = Ports { images: "x".into(), labels: None, views: 2, pixels: 3, losses: vec!["one".into(), "two".into()], goal };
        assert_eq!(ports(VIEWS).unwrap(), expected);
        for (from, to, what) in [
            ("output scores: f32[V, N, K] = z;\n", "", "one output of features, f32[V, N, ..], and has none"),
            ("x: f32[V, N, A]", "x: f32[V, N, A], y: f32[V, N, A]", "one input of views, f32[V, N, ..], and has x, y"),
        ] {
            let message = ports(&VIEWS.replace(from, to)).unwrap_err().to_string();
            assert!(message.contains(what) && message.contains("`m` learns from views") && message.contains("hint: "), "{message}");
        }
    }

    /// Seven images through calls of two views of two: the weights copy the first number of each.
    #[test]
    fn features_of_every_image_once() {
        let model = Model::parse("m.pf", &VIEWS.replace("A = 3", "A = 4").replace("= 0;", "~ normal(1);")).unwrap();
        let engine = Engine::from(&pushforward::Pool::new(1).unwrap());
        let step = Step::evaluation(&model, &Settings::new(Algorithm::LG_BP, 2), &engine).unwrap();
        let parameters = Parameters::new(&step, 3).unwrap();
        let weights: Vec<f32> = parameters.get("w").and_then(|w| w.f32().map(|w| w.iter().copied().collect())).unwrap();
        let ports = Ports::of(&model, &Settings::new(Algorithm::LG_BP, 2)).unwrap();
        let settings = Settings::new(Algorithm::LG_BP, 2);
        let mut classifier = Classifier {
            model,
            settings,
            ports,
            engine,
            parameters,
            scale: Scale::default(),
            training: HashMap::new(),
            pieces: None,
            looking: HashMap::from([(2, step)]),
        };
        let images: Vec<u8> = (0..28).map(|i| i * 9).collect();
        let set = DataSet { height: 2, width: 2, channels: 1, classes: 10, images, labels: (0..7).collect() };
        let features = classifier.features(&set, usize::MAX, || false).unwrap().unwrap();
        assert_eq!((features.width, features.numbers.len(), &features.labels), (4, 28, &set.labels));
        for (index, row) in features.numbers.chunks(4).enumerate() {
            for (k, &x) in row.iter().enumerate() {
                let expected: f32 = set.image(index).iter().enumerate().map(|(a, &byte)| pixel(byte) * weights[a * 4 + k]).sum();
                assert!((x - expected).abs() < 1e-4, "image {index}: {x}, expected {expected}");
            }
        }
        assert_eq!(classifier.features(&set, 3, || true).unwrap(), None);
        assert_eq!(classifier.features(&set, 3, || false).unwrap().unwrap().numbers, features.numbers[..12]);
        assert!(classifier.error(&set, 2).unwrap().is_nan());
    }

    #[test]
    fn what_is_no_classifier_is_refused() {
        let model = Model::built_in("tanh_mlp").unwrap().unwrap();
        let message = Ports::of(&model, &Settings::new(Algorithm::BP, 5)).unwrap_err().to_string();
        for part in ["`tanh_mlp` is no classifier", "exactly one input of numbers", "x, y", "hint: "] {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }
}
