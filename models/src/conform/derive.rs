//! How each array of a case is derived: which text, with which settings and passes, fed with which inputs, gives it. It runs nothing and
//! compares nothing; sizes come from the case's config. Read [`derivations`] first: a kind of case is one function below it.

use pushforward_ir::eval::{Inputs, Tensor};
use pushforward_ir::op::Affine;
use pushforward_ir::program::{Output, Port};
use pushforward_ir::{Builder, DType, Diagnostic, LIBRARY, Op, Program, Sources, Value, parse};
use pushforward_passes::algorithm::Signal;
use pushforward_passes::feedback::{DIRECT, FEEDBACK};
use pushforward_passes::inline::{self, Bindings};
use pushforward_passes::perturb::{ACTIVITY_NOISE, WEIGHT_NOISE};
use pushforward_passes::simplify::Settings;
use pushforward_passes::update::MOMENTUM;
use pushforward_passes::{Algorithm, NoiseSource, Options, algorithm};

use super::config::{Config, Features, Network, Norm, Replicated, Size};
use super::error::FixtureError;
use super::file::Fixture;

/// One run of one program.
pub struct Derivation {
    /// What was done, in a few words.
    pub by: String,
    /// (array of the fixture, output of the program)
    pub gives: Vec<(String, String)>,
    program: Box<dyn Fn(DType) -> Result<Program, String>>,
    feed: Box<dyn Fn(&str) -> Feed>,
}

/// Where a program's input or parameter comes from.
pub enum Feed {
    /// The fixture's input of this name.
    Array(String),
    /// As much of the fixture's input of this name as the program takes: its first rows.
    Rows(String),
    /// These inputs of the fixture, one for each index of the first axis.
    Stacked([String; 2]),
    /// The same number everywhere.
    Fill(f64),
}

/// All derivations that a kind of case has; those of arrays that the index does not promise are left out.
pub fn derivations(fixture: &Fixture, simplify: &Settings) -> Vec<Derivation> {
    let promised: Vec<&str> = fixture.outputs.keys().map(String::as_str).collect();
    let mut all = match &fixture.config {
        Config::Xent(sizes) => xent(sizes, simplify),
        Config::Norm(sizes) => norm(sizes, simplify),
        Config::Step(network) => step(network, &promised, simplify),
        Config::Infonce(sizes) => infonce(sizes, simplify),
        Config::NceStep(network) => nce_step(network, &promised, simplify),
    };
    for derivation in &mut all {
        derivation.gives.retain(|(array, _)| promised.contains(&array.as_str()));
    }
    all.retain(|d| !d.gives.is_empty());
    all
}

impl Derivation {
    /// The program, computing in `float`.
    pub fn program(&self, float: DType) -> Result<Program, String> {
        (self.program)(float)
    }

    /// Tensors for all inputs and parameters of the program.
    pub fn inputs(&self, program: &Program, fixture: &Fixture) -> Result<Inputs, FixtureError> {
        let ports = program.inputs.iter().chain(program.params.iter().map(|p| &p.port));
        ports.map(|port| Ok((port.name.clone(), self.tensor(program, port, fixture)?))).collect()
    }

    fn tensor(&self, program: &Program, port: &Port, fixture: &Fixture) -> Result<Tensor, FixtureError> {
        match (self.feed)(&port.name) {
            Feed::Fill(x) => Ok(Tensor::from_fn(&program.axes, port.dtype, &port.order, |_| x)),
            Feed::Array(name) => self.array(program, port, fixture, name, 1),
            Feed::Rows(name) => self.array(program, port, fixture, name, 2),
            Feed::Stacked(names) => {
                let one = Port { order: port.order.iter().skip(1).copied().collect(), ..port.clone() };
                let parts = names.map(|name| Ok(self.array(program, &one, fixture, name, 1)?.data));
                let data = parts.into_iter().collect::<Result<Vec<_>, FixtureError>>()?.concat();
                Ok(Tensor::from_data(&program.axes, port.dtype, &port.order, data))
            }
        }
    }

    /// The array `name`, or of an array that is `times` as long the first part.
    fn array(&self, program: &Program, port: &Port, fixture: &Fixture, name: String, times: usize) -> Result<Tensor, FixtureError> {
        let path = || fixture.path.clone();
        let array = fixture.inputs.get(&name).ok_or_else(|| FixtureError::NoInput { path: path(), array: name.clone() })?;
        let mut wants = program.shape(port);
        if let Some(rows) = wants.first_mut() {
            *rows *= times;
        }
        if !is_made_of(&array.shape, &wants) {
            return Err(FixtureError::Shape { path: path(), array: name, got: array.shape.clone(), by: "its config", wants });
        }
        let count = array.data.len() / times;
        Ok(Tensor::from_data(&program.axes, port.dtype, &port.order, array.data[..count].to_vec()))
    }
}

/// Whether an array's axes are those of a tensor, or several of them side by side (`P` for `Y, X`). Both are row-major.
pub fn is_made_of(shape: &[usize], atoms: &[usize]) -> bool {
    let mut left = atoms.iter().copied().filter(|&n| n != 1);
    let made = shape.iter().copied().filter(|&n| n != 1).all(|size| {
        let mut product = 1usize;
        while product < size {
            match left.next() {
                Some(n) => product = product.saturating_mul(n),
                None => return false,
            }
        }
        product == size
    });
    made && left.next().is_none()
}

// ---- kinds of cases

/// The replicated cross entropy: copies by `replicate`, derivatives by `jvp` and `transpose` of the whole of it.
fn xent(sizes: &Replicated, simplify: &Settings) -> Vec<Derivation> {
    let model =
        Text::new("xent.pf", include_str!("xent.pf"), sizes.features.n, sizes_of(&sizes.features), simplify).set("classes", sizes.classes);
    let derivation =
        |by: &str, passes: &'static [&'static str], kept: &'static [&'static str], gives: &[(&str, &str)], feed: fn(&str) -> Feed| {
            let model = model.clone();
            Derivation {
                by: by.into(),
                gives: gives.iter().map(|(array, output)| (array.to_string(), output.to_string())).collect(),
                program: Box::new(move |float| {
                    let program = model.program(float, &[], &["cut", "replicate"], &model.options(Algorithm::LG_BP))?;
                    passed(copies_as_outputs(program, kept)?, passes, &model.options(Algorithm::LG_BP))
                }),
                feed: Box::new(feed),
            }
        };
    let named: fn(&str) -> Feed = |port| Feed::Array(array_of(port, ""));
    let along_x: fn(&str) -> Feed = |port| if matches!(port, "d.w" | "d.b") { Feed::Fill(0.0) } else { Feed::Array(array_of(port, "")) };
    let ones: fn(&str) -> Feed = |port| if port == "ct.loss" { Feed::Fill(1.0) } else { Feed::Array(array_of(port, "")) };
    let (gx, g1x) = ([("gx", "g.x"), ("gw", "g.w"), ("gb", "g.b")], [("g1x", "g.x"), ("g1w", "g.w"), ("g1b", "g.b")]);
    vec![
        derivation(
            "replicate",
            FORWARD,
            &["aggregated", "logits", "loss"],
            &[("aggregated", "aggregated"), ("logits", "logits"), ("loss", "loss")],
            named,
        ),
        derivation("jvp", JVP, &["loss"], &[("loss", "loss"), ("dloss", "d.loss")], named),
        derivation("jvp along x", JVP, &["loss"], &[("dloss_x", "d.loss")], along_x),
        derivation("transpose", TRANSPOSE, &["loss"], &gx, named),
        derivation("transpose of ones", TRANSPOSE, &["loss"], &g1x, ones),
    ]
}

/// The contrastive losses: as the replicated cross entropy, with the bank under a stop-gradient.
fn infonce(sizes: &Replicated, simplify: &Settings) -> Vec<Derivation> {
    let text = |file, text| Text::new(file, text, sizes.features.n, sizes_of(&sizes.features), simplify).set("classes", sizes.classes);
    let one_sided = text("infonce.pf", include_str!("infonce.pf"));
    let views = text("infonce_views.pf", include_str!("infonce_views.pf"));
    let forms = [("dot", one_sided.clone().set("similarity", "dot")), ("cos", one_sided.set("similarity", "cos")), ("simclr", views)];
    let mut all = Vec::new();
    for (form, model) in forms {
        let gradients = [("gx1", "g.x1"), ("gx2", "g.x2"), ("gw", "g.w"), ("gb", "g.b")];
        let runs: [(_, &'static [&'static str], &[_]); 2] =
            [("jvp", JVP, &[("loss", "loss"), ("dloss", "d.loss")]), ("transpose", TRANSPOSE, &gradients)];
        for (by, passes, gives) in runs {
            let model = model.clone();
            all.push(Derivation {
                by: by.into(),
                gives: gives.iter().map(|(array, output)| (format!("{form}.{array}"), output.to_string())).collect(),
                program: Box::new(move |float| {
                    let program = model.program(float, &[], &["cut", "replicate"], &model.options(Algorithm::LG_BP))?;
                    passed(copies_as_outputs(program, &["loss"])?, passes, &model.options(Algorithm::LG_BP))
                }),
                // One cotangent serves all forms: those of one side take its first half.
                feed: Box::new(move |port| match port {
                    "ct.loss" if form != "simclr" => Feed::Rows("ct".into()),
                    _ => Feed::Array(array_of(port, "")),
                }),
            });
        }
    }
    all
}

/// `norm` of the library along the axes of each kind.
fn norm(sizes: &Features, simplify: &Settings) -> Vec<Derivation> {
    let mut all = Vec::new();
    for kind in Norm::ALL {
        for (number, channels) in [("3", "whole"), ("4", "grouped")] {
            let model = Text::new("norm.pf", include_str!("norm.pf"), sizes.n, sizes_of(sizes), simplify)
                .set("kind", kind.name())
                .set("channels", channels);
            for (passes, array, output) in [(FORWARD, "y", "y"), (JVP, "dy", "d.y"), (TRANSPOSE, "gx", "g.x")] {
                let model = model.clone();
                all.push(Derivation {
                    by: passes.first().unwrap_or(&"norm").to_string(),
                    gives: vec![(format!("{}.{array}{number}", kind.name()), output.into())],
                    program: Box::new(move |float| model.program(float, &[], passes, &model.options(Algorithm::BP))),
                    feed: Box::new(move |port| Feed::Array(array_of(port, number))),
                });
            }
        }
    }
    all
}

/// What fixtures call an input of these programs: `dx` for the tangent `d.x`, `ct` for the cotangent.
fn array_of(port: &str, number: &str) -> String {
    match (port.strip_prefix("d."), port.strip_prefix("ct.")) {
        (Some(of), _) => format!("d{of}{number}"),
        (None, Some(_)) => format!("ct{number}"),
        (None, None) => format!("{port}{number}"),
    }
}

/// A training step: the forward pass with every value that the fixture names, and the whole step of each algorithm, as `compile` makes it.
fn step(network: &Network, promised: &[&str], simplify: &Settings) -> Vec<Derivation> {
    let model = localmixer(network, simplify);
    vec![forward(&model, promised)].into_iter().chain(Algorithm::every().map(|a| training(&model, a, promised))).collect()
}

/// The same with contrastive losses, of two views that are stacked along the first axis.
fn nce_step(network: &Network, promised: &[&str], simplify: &Settings) -> Vec<Derivation> {
    let model = localmixer(network, simplify).set("task", "contrastive");
    let forms = ["cos", "simclr"].into_iter().flat_map(|form| Algorithm::every().map(move |a| (form, a)));
    forms.map(|(form, algorithm)| contrastive(&model.clone().set("form", form), form, algorithm, promised)).collect()
}

fn contrastive(model: &Text, form: &'static str, algorithm: Algorithm, promised: &[&str]) -> Derivation {
    let prefix = format!("{form}.");
    let mut gives = gradients(algorithm, promised, &prefix);
    // One draw is for LG-FG-A, and nothing names it.
    if algorithm == Algorithm::LG_FG_A {
        for array in promised {
            let Some(of) = array.strip_prefix(&prefix) else { continue };
            match of.strip_suffix(".dloss") {
                Some(block) => gives.push((array.to_string(), format!("d.{block}.loss"))),
                None if of.ends_with(".loss") => gives.push((array.to_string(), of.to_string())),
                None => {}
            }
        }
    }
    let model = model.clone();
    Derivation {
        by: format!("{} with {form}", algorithm.name()),
        gives,
        program: Box::new(move |float| {
            let mut program = one_step(&model, algorithm, float)?;
            let images = program.input("images").ok_or("the model takes no images")? as usize;
            let [views, examples, pixels @ ..] = &program.inputs[images].order[..] else { return Err("images are no views".into()) };
            let (views, patches) = (*views, program.axes.in_order(pixels.iter().copied().collect()));
            let order = [&[views, *examples], &patches[..]].concat();
            program.inputs[images].order = order;
            // Where one view alone asks, nothing is said of the other one.
            if form != "simclr" {
                let first = Op::Window(Box::new(Affine { axis: views, terms: Vec::new(), offset: 0 }));
                outputs(&mut program, |name| name.ends_with(".loss"), |b, v| b.op(first.clone(), &[v]));
            }
            Ok(program)
        }),
        feed: Box::new(|port| match step_input(port) {
            _ if port == "labels" => Feed::Fill(0.0),
            _ if port == "images" => Feed::Stacked(["patches1".into(), "patches2".into()]),
            // One draw serves both views.
            Feed::Array(noise) if noise.starts_with(ACTIVITY_NOISE) => Feed::Stacked([noise.clone(), noise]),
            feed => feed,
        }),
    }
}

/// LocalMixer in the sizes of a case.
fn localmixer(network: &Network, simplify: &Settings) -> Text {
    let [height, width, colours] = network.image;
    Text::new("localmixer.pf", include_str!("../../localmixer.pf"), network.n, Vec::new(), simplify)
        .set("height", height)
        .set("width", width)
        .set("colours", colours)
        .set("grid", network.grid)
        .set("channels", network.channels)
        .set("groups", network.groups)
        .set("blocks", network.blocks)
        .set("classes", network.classes)
        .set("norm", network.norm.name())
}

/// The suffixes of what the model's text gives names to, as the fixtures spell them.
const NAMED: [&str; 5] = [".pre", ".z", ".act", ".feat", ".logits"];

fn forward(model: &Text, promised: &[&str]) -> Derivation {
    // What the text does not name is not covered.
    let known = model.program(DType::F32, &[], &[], &model.options(Algorithm::BP)).map(|p| p.names).unwrap_or_default();
    let named: Vec<String> =
        promised.iter().filter(|a| NAMED.iter().any(|s| a.ends_with(s)) && known.contains_key(**a)).map(|a| a.to_string()).collect();
    let declared = ["logits", PATCHES].map(String::from);
    let gives = named.iter().cloned().chain(declared).map(|a| (a.clone(), a)).collect();
    let model = model.clone();
    Derivation {
        by: "forward".into(),
        gives,
        program: Box::new(move |float| {
            let mut program = model.program(float, &named, &[], &model.options(Algorithm::BP))?;
            program.losses.clear();
            add_patches(&mut program)?;
            passed(program, FORWARD, &model.options(Algorithm::BP))
        }),
        feed: Box::new(parameter_or_input),
    }
}

const PATCHES: &str = "patches";

/// Cutting images into patches is no op: the images' own axes, in another order, are the patches.
fn add_patches(program: &mut Program) -> Result<(), String> {
    let images =
        program.values().find(|&v| matches!(program.op(v), pushforward_ir::Op::Input(i) if program.inputs[*i as usize].name == "images"));
    let images = images.ok_or("the model does not use its images")?;
    let port = Port { name: PATCHES.into(), dtype: program.ty(images).dtype, order: program.axes.in_order(program.axes_of(images)) };
    program.outputs.push(Output { port, value: images });
    Ok(())
}

/// One step of an algorithm from momentum zero and without decay: the new momentum is the gradient.
fn training(model: &Text, algorithm: Algorithm, promised: &[&str]) -> Derivation {
    let mut gives = gradients(algorithm, promised, "");
    for array in promised {
        let Some(of) = after(array, algorithm.name()).and_then(|a| a.strip_suffix("dloss")) else { continue };
        // Of a block's loss (`LG-FG-A.block0.dloss`), or of the whole model's.
        gives.push((array.to_string(), format!("d.{of}loss")));
    }
    // The replicated ones: exact gradients need no copies.
    if algorithm == Algorithm::LG_FG_A {
        gives.extend(promised.iter().filter(|a| a.ends_with(".loss")).map(|a| (a.to_string(), a.to_string())));
    }
    // Every step reports the loss; no step with noise is run for that alone, as a set may come without noise.
    if !gives.is_empty() || algorithm == Algorithm::BP {
        gives.push(("loss".to_string(), "loss".to_string()));
    }
    let model = model.clone();
    Derivation {
        by: algorithm.name().into(),
        gives,
        program: Box::new(move |float| {
            let mut program = one_step(&model, algorithm, float)?;
            // Noise on weights moves the mean over the batch.
            if algorithm.signal == Signal::Weights {
                outputs(&mut program, |name| name == "d.loss", |b, v| b.sum(v, b.axes_of(v)));
            }
            Ok(program)
        }),
        feed: Box::new(step_input),
    }
}

/// Arrays of an algorithm's gradients, `grad.LG-FG-A.block0.fc.w` after `prefix`, with the momenta that they become.
fn gradients(algorithm: Algorithm, promised: &[&str], prefix: &str) -> Vec<(String, String)> {
    let parameter = |array: &&str| after(array.strip_prefix(prefix)?.strip_prefix("grad.")?, algorithm.name()).map(String::from);
    promised.iter().filter_map(|a| Some((a.to_string(), format!("{MOMENTUM}{}", parameter(a)?)))).collect()
}

/// What follows `name`, in any case, and a dot.
fn after<'a>(array: &'a str, name: &str) -> Option<&'a str> {
    let (head, rest) = array.split_at_checked(name.len())?;
    rest.strip_prefix('.').filter(|_| head.eq_ignore_ascii_case(name))
}

fn one_step(model: &Text, algorithm: Algorithm, float: DType) -> Result<Program, String> {
    let mut options = Options { noise: NoiseSource::Given, report: true, ..model.options(algorithm) };
    options.update.weight_decay = 0.0;
    model.program(float, &[], algorithm.passes(), &options)
}

/// Other values in the place of outputs.
fn outputs(program: &mut Program, which: impl Fn(&str) -> bool, instead: impl Fn(&mut Builder, Value) -> Value) {
    let mut b = Builder::new(std::mem::take(program));
    for i in 0..b.program().outputs.len() {
        let Output { port, value } = b.program().outputs[i].clone();
        if which(&port.name) {
            let value = instead(&mut b, value);
            let axes = b.axes_of(value);
            let order = port.order.into_iter().filter(|&a| axes.contains(a)).collect();
            b.program_mut().outputs[i] = Output { port: Port { name: port.name, dtype: port.dtype, order }, value };
        }
    }
    *program = b.finish();
}

/// The momentum that there is before a step, and the rate that changes nothing.
fn step_input(port: &str) -> Feed {
    if port == "lr" || port.starts_with(MOMENTUM) { Feed::Fill(0.0) } else { parameter_or_input(port) }
}

/// Parameters of the model carry a prefix in fixtures; inputs, noise and fixed random tensors do not.
fn parameter_or_input(port: &str) -> Feed {
    let as_it_is = [ACTIVITY_NOISE, WEIGHT_NOISE, FEEDBACK, DIRECT];
    match port {
        "images" | "labels" => Feed::Array(port.into()),
        other if as_it_is.iter().any(|prefix| other.starts_with(prefix)) => Feed::Array(other.into()),
        param => Feed::Array(format!("param.{param}")),
    }
}

// ---- from text to program

const FORWARD: &[&str] = &["simplify", "dce"];
const JVP: &[&str] = &["jvp", "simplify", "dce"];
const TRANSPOSE: &[&str] = &["transpose", "simplify", "dce"];

/// A model's text and its sizes.
#[derive(Clone)]
struct Text {
    file: &'static str,
    text: &'static str,
    batch: u32,
    sets: Vec<(String, String)>,
    simplify: Settings,
}

fn sizes_of(sizes: &Features) -> Vec<(String, String)> {
    [("patches", sizes.p), ("groups", sizes.g), ("depth", sizes.d)].map(|(name, size)| (name.to_string(), size.to_string())).into()
}

impl Text {
    fn new(file: &'static str, text: &'static str, batch: Size, sets: Vec<(String, String)>, simplify: &Settings) -> Text {
        Text { file, text, batch: batch.get(), sets, simplify: simplify.clone() }
    }

    fn options(&self, algorithm: Algorithm) -> Options {
        Options { simplify: self.simplify.clone(), ..Options::new(algorithm) }
    }

    fn set(mut self, name: &str, value: impl ToString) -> Text {
        self.sets.push((name.into(), value.to_string()));
        self
    }

    fn program(&self, float: DType, results: &[String], passes: &[&str], options: &Options) -> Result<Program, String> {
        let mut sources = Sources::default();
        let (library, own) = (sources.add("lib.pf", LIBRARY), sources.add(self.file, self.text));
        let parsed = |text, file| parse::parse(text, file).map_err(|errors| told(&sources, &errors));
        let (library, module) = (parsed(LIBRARY, library)?, parsed(self.text, own)?);
        let batch = usize::try_from(self.batch).map_err(|e| e.to_string())?;
        let bindings = Bindings { sets: self.sets.clone(), batch: Some(batch), float, results: results.to_vec() };
        let program = inline::run(&[&library], &module, &bindings).map_err(|errors| told(&sources, &errors))?.program;
        passed(program, passes, options)
    }
}

fn passed(program: Program, passes: &[&str], options: &Options) -> Result<Program, String> {
    algorithm::run(program, passes, options, &mut |_, _| {}).map_err(|errors| told(&Sources::default(), &errors))
}

/// The outputs in `kept`: declared ones, and the copies of local losses under the losses' names. Marks go.
fn copies_as_outputs(mut program: Program, kept: &[&str]) -> Result<Program, String> {
    let mut outputs = std::mem::take(&mut program.outputs);
    for loss in std::mem::take(&mut program.losses) {
        let value = loss.local.and_then(|l| l.copies).ok_or_else(|| format!("the loss `{}` has no copies", loss.name))?;
        let order = program.axes.in_order(program.axes_of(value));
        outputs.push(Output { port: Port { name: loss.name, dtype: program.ty(value).dtype, order }, value });
    }
    outputs.retain(|o| kept.contains(&o.port.name.as_str()));
    program.outputs = outputs;
    Ok(program)
}

/// The first diagnostic, with its place.
fn told(sources: &Sources, errors: &[Diagnostic]) -> String {
    let Some(error) = errors.first() else { return "it failed without a reason".into() };
    let place = error.place.as_ref().map_or(String::new(), |(span, _)| format!("{}: ", sources.locate(*span)));
    let hint = error.hint.as_ref().map_or(String::new(), |h| format!("; hint: {h}"));
    format!("{place}{}{hint}", error.message)
}
