//! A model's text, and the way from it to a flat program: parse, inline, passes. It compiles nothing. Read [`Model::training`] first.

use std::fs;
use std::io;
use std::path::Path;

use pushforward_ir::ast::{AxisDef, Block, Item, Module, StmtKind};
use pushforward_ir::{DType, Diagnostic, LIBRARY, Program, Sources, parse, print};
use pushforward_passes::alone::{self, Mode};
use pushforward_passes::inline::{self, Bindings, Inlined};
use pushforward_passes::{Algorithm, Options, accumulate, algorithm, requirements, show};

use crate::error::Error;

/// A parsed model, with the library that it may call.
#[derive(Clone, Debug)]
pub struct Model {
    name: String,
    module: Module,
    library: Module,
    sources: Sources,
}

/// What a program is made for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sizes and options of the model by name, as text: `("groups", "16")`. The last one of a name holds.
    pub sets: Vec<(String, String)>,
    /// The size of the batch axis. `None`: as the text says.
    pub batch: Option<usize>,
    /// The algorithm, and what else the passes are told.
    pub passes: Options,
    /// Add the mean of every local loss as an output of its name.
    pub show_local: bool,
}

impl Settings {
    pub fn new(algorithm: Algorithm, batch: usize) -> Settings {
        Settings { sets: Vec::new(), batch: Some(batch), passes: Options::new(algorithm), show_local: false }
    }
}

/// What is left to do once a loss has derivatives.
const LOSSES: &[&str] = &["simplify", "dce"];

/// The passes of a program that only looks: nothing is differentiated and nothing updated.
const EVALUATION: &[&str] = &["dce", "simplify", "dce"];

impl Model {
    /// `file` is what messages call the text; its stem names the model.
    pub fn parse(file: &str, text: &str) -> Result<Model, Error> {
        let mut sources = Sources::default();
        let own = sources.add(file, text);
        let shared = sources.add("lib.pf", LIBRARY);
        let parsed =
            |text, file| parse::parse(text, file).map_err(|errors| Error::text(&sources, errors.into_iter().map(with_hint).collect()));
        let (module, library) = (parsed(text, own)?, parsed(LIBRARY, shared)?);
        let stem = Path::new(file).file_stem().map_or(file.into(), |s| s.to_string_lossy());
        Ok(Model { name: stem.into_owned(), module, library, sources })
    }

    pub fn read(path: &Path) -> Result<Model, Error> {
        let failed = |source| Error::Read { path: path.into(), source };
        let bytes = fs::read(path).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|_| failed(io::Error::new(io::ErrorKind::InvalidData, "it is not text (UTF-8)")))?;
        Model::parse(&path.to_string_lossy(), &text)
    }

    /// A model that is compiled in, such as `localmixer`.
    pub fn built_in(name: &str) -> Option<Result<Model, Error>> {
        pushforward_models::model(name).map(|m| Model::parse(m.file, m.text))
    }

    /// The stem of the file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The text as the printer writes it.
    pub fn text(&self) -> String {
        print::print(&self.module)
    }

    /// Whether the text leaves the size of its batch to the caller: `axis N;`.
    pub fn needs_batch(&self) -> bool {
        let axes = self.module.items.iter().filter_map(|item| if let Item::Axes(axes) = item { Some(axes) } else { None });
        axes.flatten().any(|axis| axis.def == AxisDef::Batch)
    }

    /// Whether the text marks local losses somewhere.
    pub fn marks_local_losses(&self) -> bool {
        fn marks(block: &Block) -> bool {
            block.stmts.iter().any(|stmt| match &stmt.kind {
                StmtKind::Local { .. } => true,
                StmtKind::Repeat { body, .. } => marks(body),
                StmtKind::Match { arms, .. } => arms.iter().any(|arm| marks(&arm.body)),
                StmtKind::Axes(_) | StmtKind::Param { .. } | StmtKind::Let { .. } | StmtKind::Loss { .. } => false,
                StmtKind::Output { .. } | StmtKind::Warn(_) => false,
            })
        }
        self.module.items.iter().any(|item| match item {
            Item::Fn(function) => marks(&function.body),
            Item::Model(model) => marks(&model.body),
            Item::Sizes(_) | Item::Option { .. } | Item::Axes(_) => false,
        })
    }

    /// The algorithm that is meant where none is named: forward gradients of activities, of local losses where there are some.
    pub fn usual_algorithm(&self) -> Algorithm {
        if self.marks_local_losses() { Algorithm::LG_FG_A } else { Algorithm::FG_A }
    }

    /// The flat program of the model alone, with warnings.
    pub fn inline(&self, sets: &[(String, String)], batch: Option<usize>) -> Result<Inlined, Error> {
        self.inline_in(DType::F32, sets, batch)
    }

    /// [`Model::inline`], with `float` for the f32 of the text.
    pub fn inline_in(&self, float: DType, sets: &[(String, String)], batch: Option<usize>) -> Result<Inlined, Error> {
        let bindings = Bindings { sets: sets.to_vec(), batch, float, ..Bindings::default() };
        inline::run(&[&self.library], &self.module, &bindings).map_err(|errors| self.wrong(errors))
    }

    /// Passes by name on a program of this model; `seen` is shown the result of each.
    pub fn passes(
        &self,
        program: Program,
        names: &[&str],
        options: &Options,
        seen: &mut dyn FnMut(&str, &Program),
    ) -> Result<Program, Error> {
        algorithm::run(program, names, options, seen).map_err(|errors| self.wrong(errors))
    }

    /// Whether a program of this model has what the settings' algorithm needs.
    pub fn check(&self, program: &Program, settings: &Settings) -> Result<(), Error> {
        requirements::check(program, &settings.passes).map_err(|errors| self.wrong(errors))
    }

    /// What is biased of the estimates of the settings' algorithm, and why.
    pub fn bias(&self, program: &Program, settings: &Settings) -> Result<Vec<Diagnostic>, Error> {
        requirements::bias(program, &settings.passes).map_err(|errors| self.wrong(errors))
    }

    /// The program of one training step.
    pub fn training(&self, settings: &Settings) -> Result<Program, Error> {
        let program = self.shown(settings)?;
        self.check(&program, settings)?;
        self.passes(program, settings.passes.algorithm.passes(), &settings.passes, &mut |_, _| {})
    }

    /// The program of a piece of a training step's batch, of the settings' batch: it adds up gradients. See [`pushforward_passes::accumulate`].
    pub fn accumulating(&self, settings: &Settings) -> Result<Program, Error> {
        let program = self.shown(settings)?;
        self.check(&program, settings)?;
        let passes = settings.passes.algorithm.passes();
        let passes: Vec<&str> = passes.iter().map(|&name| if name == "update" { "accumulate" } else { name }).collect();
        self.passes(program, &passes, &settings.passes, &mut |_, _| {})
    }

    /// The program that ends a training step in pieces: it updates parameters by what was added up.
    pub fn applying(&self, settings: &Settings) -> Result<Program, Error> {
        let program = self.inline(&settings.sets, settings.batch)?.program;
        accumulate::apply(&program, &settings.passes).map_err(|errors| self.wrong(errors))
    }

    /// The program of a training step's gradients, or of their estimates, alone: outputs `grad.<parameter>`, and no parameter changes.
    pub fn gradients(&self, settings: &Settings) -> Result<Program, Error> {
        self.gradients_in(DType::F32, settings)
    }

    /// [`Model::gradients`], with `float` for the f32 of the text.
    pub fn gradients_in(&self, float: DType, settings: &Settings) -> Result<Program, Error> {
        let program = self.inline_in(float, &settings.sets, settings.batch)?.program;
        self.check(&program, settings)?;
        let names: Vec<&str> = settings.passes.algorithm.passes().iter().copied().filter(|&name| name != "update").collect();
        self.passes(program, &names, &settings.passes, &mut |_, _| {})
    }

    /// The program of the model's local losses alone, replicated, with derivatives.
    pub fn losses(&self, settings: &Settings, mode: Mode) -> Result<Program, Error> {
        let program = self.inline(&settings.sets, settings.batch)?.program;
        let program = self.passes(program, &["replicate"], &settings.passes, &mut |_, _| {})?;
        let program = alone::run(&program, mode).map_err(|errors| self.wrong(errors))?;
        self.passes(program, LOSSES, &settings.passes, &mut |_, _| {})
    }

    /// The program that computes the model's outputs and nothing else.
    pub fn evaluation(&self, settings: &Settings) -> Result<Program, Error> {
        let mut program = self.shown(settings)?;
        if program.outputs.is_empty() {
            let error = Diagnostic::error("the model declares no output, so there is nothing to evaluate");
            return Err(self.wrong(vec![error.hint("declare its prediction: `output logits: f32[N, K] = logits;`")]));
        }
        program.losses.clear();
        self.passes(program, EVALUATION, &settings.passes, &mut |_, _| {})
    }

    /// The model alone, with the outputs that the settings ask for.
    fn shown(&self, settings: &Settings) -> Result<Program, Error> {
        let program = self.inline(&settings.sets, settings.batch)?.program;
        Ok(if settings.show_local { show::local_losses(program) } else { program })
    }

    pub(crate) fn wrong(&self, errors: Vec<Diagnostic>) -> Error {
        Error::text(&self.sources, errors)
    }
}

/// `expected .., found ..` says what to write; where to see it written is said here.
fn with_hint(error: Diagnostic) -> Diagnostic {
    match error.hint {
        Some(_) => error,
        None => error.hint("compare with a text that is right: models/localmixer.pf has almost every form of the language"),
    }
}
