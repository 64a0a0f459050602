//! Training a classifier: which of a model's tensors are images, labels, prediction and loss, batches out of a data set, one step, and the
//! error on a set. It reads all of that off the types: no input, output or layer is known by name. It holds the parameters, touches no
//! file and shows nothing. Read [`Classifier::step`] and [`Classifier::error`].

use std::collections::HashMap;

use ndarray::ArrayViewD;
use pushforward::{Engine, Error, Fault, Input, Model, Parameters, Settings, Step, View};
use pushforward_ir::program::Port;
use pushforward_ir::{DType, Program};
use pushforward_models::data::{DataError, DataSet, Splits};
use pushforward_models::recipe::pixel;

/// Why a model cannot be trained on a set of labelled images.
#[derive(Debug, thiserror::Error)]
pub enum ClassifierError {
    #[error(transparent)]
    Step(#[from] Error),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(
        "`{model}` is no classifier: it needs exactly one {what}, and has {found}; hint: `train` is for classifiers, and examples/embed.rs \
         shows how a program of your own trains anything else"
    )]
    NoClassifier { model: String, what: &'static str, found: String },
    #[error("`{data}` has images of {image}, but `{input}` takes {wants}; hint: {hint}")]
    Images { data: String, image: String, input: String, wants: usize, hint: String },
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
    /// By batch.
    training: HashMap<usize, Step>,
    looking: HashMap<usize, Step>,
    batch: Batch,
}

/// Images for programs of a model that take no part in its training.
pub struct Feed {
    ports: Ports,
    batch: Batch,
}

impl Feed {
    pub fn of(model: &Model, settings: &Settings) -> Result<Feed, ClassifierError> {
        Ok(Feed { ports: Ports::of(model, settings)?, batch: Batch::default() })
    }

    /// Runs a step that takes what the model takes, on the images of `set` at `indices`.
    pub fn run(&mut self, step: &mut Step, parameters: &mut Parameters, set: &DataSet, indices: &[u32]) -> Result<(), Error> {
        self.batch.fill(set, indices.iter().map(|&i| i as usize));
        let images = (self.ports.images.as_str(), Input::from(&self.batch.pixels[..]));
        let labels = (self.ports.labels.as_str(), Input::from(&self.batch.labels[..]));
        step.run(parameters, &[images, labels])
    }
}

/// The tensors that matter, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Ports {
    images: String,
    labels: String,
    prediction: String,
    loss: String,
    pixels: usize,
    classes: usize,
}

/// What one step said of its images, before it changed anything.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Outcome {
    /// Mean over the images.
    pub loss: f64,
    /// How many were put into another class than their own.
    pub wrong: usize,
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
    /// Compiles the step for the settings' batch, and draws the parameters from `seed`.
    pub fn new(model: Model, settings: Settings, engine: Engine, seed: u32) -> Result<Classifier, ClassifierError> {
        let ports = Ports::of(&model, &settings)?;
        let step = Step::training(&model, &settings, &engine)?;
        let parameters = Parameters::new(&step, seed)?;
        let training = settings.batch.map(|n| (n, step)).into_iter().collect();
        Ok(Classifier { model, settings, ports, engine, parameters, training, looking: HashMap::new(), batch: Batch::default() })
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
        splits.check_classes(ports.classes)?;
        match settings.batch {
            Some(batch) if batch > set.len() => Err(ClassifierError::Batch { batch, data, images: set.len() }),
            _ => Ok(()),
        }
    }

    /// One training step on the images of `set` at `indices`.
    pub fn step(&mut self, set: &DataSet, indices: &[u32], at: At) -> Result<Outcome, Error> {
        self.with_step(set, indices, at, |step, parameters, inputs, ports, labels| {
            step.run(parameters, inputs)?;
            let loss = step.output(&ports.loss).and_then(|v| v.item()).unwrap_or(f64::NAN);
            let wrong = step.output(&ports.prediction).and_then(View::f32).map_or(labels.len(), |p| count_wrong(p, labels));
            Ok(Outcome { loss, wrong })
        })
    }

    /// What of that step is not finite, from the parameters as they are here; see [`Step::fault`].
    pub fn fault(&mut self, set: &DataSet, indices: &[u32], at: At) -> Result<Option<Fault>, Error> {
        self.with_step(set, indices, at, |step, parameters, inputs, _, _| step.fault(parameters, inputs))
    }

    /// `then` with the step for images, and all that it takes and says.
    fn with_step<T>(
        &mut self,
        set: &DataSet,
        indices: &[u32],
        at: At,
        then: impl FnOnce(&mut Step, &mut Parameters, &[(&str, Input<'_>)], &Ports, &[i32]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.batch.fill(set, indices.iter().map(|&i| i as usize));
        let Classifier { model, settings, ports, engine, parameters, training, batch, .. } = self;
        let step =
            by_batch(training, indices.len(), |n| Step::training(model, &Settings { batch: Some(n), ..settings.clone() }, &*engine))?;
        let mut inputs = vec![(ports.images.as_str(), Input::from(&batch.pixels[..])), (&ports.labels, Input::from(&batch.labels[..]))];
        // Which of these a step takes depends on the algorithm. Bits count: the seed and step number are written as i32.
        let scalars = [("lr", Input::from(at.lr as f32)), ("seed", Input::from(at.seed as i32)), ("step", Input::from(at.step as i32))];
        inputs.extend(scalars.into_iter().filter(|(name, _)| step.program().input(name).is_some()));
        then(step, parameters, &inputs, ports, &batch.labels)
    }

    /// The first parameter, of those here, that holds a number which is not finite.
    pub fn not_finite(&self) -> Option<&str> {
        let mut all = self.parameters.iter();
        all.find(|(_, view)| matches!(view, View::F32(x) if x.iter().any(|x| !x.is_finite()))).map(|(name, _)| name)
    }

    /// The error on the first `count` images of a set, in percent.
    pub fn error(&mut self, set: &DataSet, count: usize) -> Result<f64, Error> {
        let count = count.min(set.len());
        let size = self.settings.batch.unwrap_or(count).max(1);
        let mut wrong = 0;
        for first in (0..count).step_by(size) {
            let indices = first..count.min(first + size);
            let Classifier { model, settings, ports, engine, parameters, looking, batch, .. } = self;
            batch.fill(set, indices.clone());
            let step =
                by_batch(looking, indices.len(), |n| Step::evaluation(model, &Settings { batch: Some(n), ..settings.clone() }, &*engine))?;
            let mut inputs = vec![(ports.images.as_str(), Input::from(&batch.pixels[..]))];
            if step.program().input(&ports.labels).is_some() {
                inputs.push((&ports.labels, Input::from(&batch.labels[..])));
            }
            step.run(parameters, &inputs)?;
            wrong += step.output(&ports.prediction).and_then(View::f32).map_or(indices.len(), |p| count_wrong(p, &batch.labels));
        }
        Ok(100.0 * wrong as f64 / count.max(1) as f64)
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

impl Ports {
    fn of(model: &Model, settings: &Settings) -> Result<Ports, ClassifierError> {
        let program = model.inline(&settings.sets, settings.batch)?.program;
        let one = |what, found: Vec<String>| match &found[..] {
            [name] => Ok(name.clone()),
            [] => Err(ClassifierError::NoClassifier { model: model.name().into(), what, found: "none".into() }),
            _ => Err(ClassifierError::NoClassifier { model: model.name().into(), what, found: found.join(", ") }),
        };
        let named = |ports: &mut dyn Iterator<Item = &Port>, fits: &dyn Fn(&Port) -> bool| -> Vec<String> {
            ports.filter(|p| fits(p)).map(|p| p.name.clone()).collect()
        };
        let of_batch = |p: &Port| p.order.first().is_some_and(|&a| Some(a) == program.batch);
        let inputs = || program.inputs.iter();
        let images = one(
            "input of numbers for each example, f32[N, ..]",
            named(&mut inputs(), &|p| of_batch(p) && p.dtype == DType::F32 && p.order.len() > 1),
        )?;
        let labels = one("input of labels, i32[N]", named(&mut inputs(), &|p| of_batch(p) && p.dtype == DType::I32 && p.order.len() == 1))?;
        let outputs = &mut program.outputs.iter().map(|o| &o.port);
        let prediction = one(
            "output of scores for each class, f32[N, K]",
            named(outputs, &|p| of_batch(p) && p.dtype == DType::F32 && p.order.len() == 2),
        )?;
        let loss = one("loss that is not local", program.losses.iter().filter(|l| l.local.is_none()).map(|l| l.name.clone()).collect())?;
        let each = |port: Option<&Port>| port.map_or(0, |p| per_example(&program, p));
        let pixels = each(program.input(&images).map(|i| &program.inputs[i as usize]));
        let classes = each(program.output(&prediction).map(|o| &o.port));
        Ok(Ports { images, labels, prediction, loss, pixels, classes })
    }
}

/// Elements for one index of the first axis.
fn per_example(program: &Program, port: &Port) -> usize {
    program.shape(port).iter().skip(1).product()
}

/// Images and labels as a step takes them.
#[derive(Default)]
struct Batch {
    pixels: Vec<f32>,
    labels: Vec<i32>,
}

impl Batch {
    fn fill(&mut self, set: &DataSet, indices: impl Iterator<Item = usize>) {
        self.pixels.clear();
        self.labels.clear();
        for index in indices {
            self.pixels.extend(set.image(index).iter().map(|&byte| pixel(byte)));
            self.labels.push(i32::from(set.labels[index]));
        }
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
        let expected =
            Ports { images: "x".into(), labels: "y".into(), prediction: "scores".into(), loss: "one".into(), pixels: 6, classes: 4 };
        assert_eq!(ports, expected);
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
