//! Flags that several commands share, and how their values are read: models, presets, algorithms, sizes. Every wrong value gets a message
//! with what there is instead. Read [`ModelFlags::choose`].

use std::io::{self, Read};
use std::path::Path;

use pushforward::engine::{DEVICES, device};
use pushforward::{Algorithm, Engine, Error, Model, Pool, Settings, Wrong};
use pushforward_ir::Program;
use pushforward_models::{MODELS, PRESETS, Preset, presets};
use pushforward_passes::algorithm::{Neglect, Signal};
use pushforward_passes::inline::closest;
use pushforward_passes::simplify::{self, RULES, Rules};
use pushforward_plan::device::Precision;

use super::failure::{Failure, warn};
use super::update::UpdateFlags;

/// Which model, in which sizes.
#[derive(clap::Args, Clone, Debug)]
pub struct ModelFlags {
    /// A `.pf` file, `-` for standard input, or the name of a built-in model [default: localmixer]
    #[arg(value_name = "MODEL")]
    pub model: Option<String>,
    /// Named sizes of the model: S/1/1, M/1/16, M/8/16, L/8/64, L/32/64 [default for train and bench: M/1/16]
    #[arg(long, value_name = "NAME", value_parser = preset)]
    pub preset: Option<&'static Preset>,
    /// A size or option of the model; may be given several times, and wins over the preset
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = set)]
    pub sets: Vec<(String, String)>,
}

/// What the passes are told.
#[derive(clap::Args, Clone, Debug)]
pub struct StepFlags {
    /// The learning algorithm: bp, l-bp, lg-bp, fa, l-fa, lg-fa, dfa, fg-w, fg-a, lg-fg-w, lg-fg-a [default: lg-fg-a, or fg-a for a model without local losses]
    #[arg(long, value_name = "NAME", value_parser = algorithm)]
    pub algorithm: Option<Algorithm>,
    /// The narrower reach of the paper's published code, norms taken for the identity: as `--algorithm lg-fg-a/own`
    #[arg(long)]
    pub own: bool,
    /// Leave the Jacobian of the norm before each activity out: as `--algorithm lg-fg-a/ng`
    #[arg(long, conflicts_with = "own")]
    pub ng: bool,
    /// Weight noise drawn for every example apart, where one draw would serve the whole batch
    #[arg(long)]
    pub noise_per_example: bool,
    /// Examples in a step [default: the preset's, or 128]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = batch)]
    pub batch: Option<usize>,
    /// Tangent directions for each example; estimates are means over them [default: 1]
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = directions)]
    pub directions: Option<usize>,
    /// Perturb activities behind ReLU zeros, too
    #[arg(long)]
    pub no_prune: bool,
    #[command(flatten)]
    pub simplify: SimplifyFlags,
    #[command(flatten)]
    pub update: UpdateFlags,
}

/// What `simplify` may do.
#[derive(clap::Args, Clone, Debug)]
pub struct SimplifyFlags {
    /// Leave the step as it was derived, replicated losses written out: far slower, to see what simplify is worth
    #[arg(long)]
    pub no_simplify: bool,
    /// What rewrites must keep: `exact`, every bit; `relaxed`, the real number [default: relaxed]
    #[arg(long, value_name = "exact|relaxed", value_parser = rules, conflicts_with = "no_simplify")]
    pub rules: Option<Rules>,
    /// Leave a rewrite out; may be given several times
    #[arg(long, value_name = "RULE", value_parser = rule, conflicts_with = "no_simplify")]
    pub without: Vec<&'static str>,
}

/// A model, and the sizes that it is to have.
pub struct Chosen {
    pub model: Model,
    pub preset: Option<&'static Preset>,
    /// The preset's, then the user's.
    pub sets: Vec<(String, String)>,
}

pub const DEFAULT_MODEL: &str = "localmixer";
pub const DEFAULT_BATCH: usize = 128;

impl ModelFlags {
    /// The model that is meant. `fallback`: the preset of the built-in model where none is named.
    pub fn choose(&self, fallback: Option<&str>) -> Result<Chosen, Failure> {
        let name = self.model.as_deref().unwrap_or(DEFAULT_MODEL);
        let built_in = Model::built_in(name);
        let fallback = fallback.filter(|_| name == DEFAULT_MODEL && built_in.is_some()).and_then(presets::preset);
        let model = match built_in {
            Some(model) => model?,
            None => read(name)?,
        };
        let preset = self.preset.or(fallback);
        if let Some(preset) = preset.filter(|p| p.model != model.name()) {
            return Err(Failure::usage(format!(
                "the preset {} is one of the model `{}`, but `{name}` is given; hint: leave --preset out, and set sizes with --set",
                preset.name, preset.model
            )));
        }
        let sets = preset.iter().flat_map(|p| p.sets).map(|(n, v)| (n.to_string(), v.to_string())).chain(self.sets.iter().cloned());
        Ok(Chosen { sets: sets.collect(), model, preset })
    }
}

impl Chosen {
    /// The model's program at these settings; what its text makes one wonder is said on standard error.
    pub fn inline(&self, settings: &Settings) -> Result<Program, Failure> {
        let inlined = self.model.inline(&settings.sets, settings.batch)?;
        self.warn(inlined.warnings);
        Ok(inlined.program)
    }

    /// The same, for the settings' algorithm: refused if the model lacks what it needs, and what is biased of its estimates is said, too.
    pub fn ready(&self, settings: &Settings) -> Result<Program, Failure> {
        let program = self.inline(settings)?;
        self.model.check(&program, settings)?;
        self.warn(self.model.bias(&program, settings)?);
        Ok(program)
    }

    /// Says what one may wonder about, with its place in the model's text.
    pub fn warn(&self, diagnostics: Vec<pushforward_ir::Diagnostic>) {
        warn(Wrong { sources: self.model.sources().clone(), diagnostics });
    }
}

impl StepFlags {
    /// Settings for a model; `batch` is what holds where the flags say nothing.
    pub fn settings(&self, chosen: &Chosen, batch: Option<usize>) -> Result<Settings, Failure> {
        let mut settings = Settings::new(self.algorithm(&chosen.model)?, 1);
        settings.sets = chosen.sets.clone();
        settings.batch = self.batch.or(batch);
        settings.passes.directions = self.directions.unwrap_or(1);
        settings.passes.noise_per_example = self.noise_per_example;
        settings.passes.prune = !self.no_prune;
        settings.passes.simplify = self.simplify.settings();
        settings.passes.update = self.update.settings()?;
        Ok(settings)
    }

    /// The algorithm that is named, or the model's usual one; or its variant.
    pub fn algorithm(&self, model: &Model) -> Result<Algorithm, Failure> {
        let named = self.algorithm.unwrap_or_else(|| model.usual_algorithm());
        let (flag, neglect) = match (self.own, self.ng) {
            (true, _) => ("--own", Neglect::NormsInReach),
            (_, true) => ("--ng", Neglect::NormsInPullBack),
            (false, false) => ("", named.neglect),
        };
        let variant = named.neglecting(neglect).filter(|_| [Neglect::Nothing, neglect].contains(&named.neglect));
        let Some(algorithm) = variant else {
            let names: Vec<&str> = Algorithm::every().filter(|a| a.neglect == neglect).map(Algorithm::name).collect();
            return Err(Failure::usage(format!("{flag}: `{}` has no such variant; hint: there are {}", named.name(), names.join(", "))));
        };
        if self.noise_per_example && algorithm.signal != Signal::Weights {
            let names: Vec<&str> = Algorithm::ALL.into_iter().filter(|a| a.signal == Signal::Weights).map(Algorithm::name).collect();
            return Err(Failure::usage(format!(
                "--noise-per-example: `{}` puts no noise on weights; hint: leave it out, or choose {}",
                algorithm.name(),
                names.join(" or ")
            )));
        }
        if self.directions.is_some_and(|k| k > 1) && !algorithm.is_estimate() {
            let names: Vec<&str> = Algorithm::ALL.into_iter().filter(|a| a.is_estimate()).map(Algorithm::name).collect();
            return Err(Failure::usage(format!(
                "--directions: `{}` draws no noise, so it has none; hint: leave it out, or choose {}",
                algorithm.name(),
                names.join(" or ")
            )));
        }
        Ok(algorithm)
    }
}

impl SimplifyFlags {
    pub fn settings(&self) -> simplify::Settings {
        let usual = simplify::Settings::default();
        simplify::Settings { off: self.no_simplify, rules: self.rules.unwrap_or(usual.rules), without: self.without.clone() }
    }

    /// What is not as usual, as the flags that say it.
    pub fn spelled(settings: &simplify::Settings) -> Vec<String> {
        let mut flags = Vec::new();
        if settings.off {
            flags.push(NO_SIMPLIFY.into());
        }
        if settings.rules != simplify::Settings::default().rules {
            flags.push(format!("{RULES_FLAG}{}", settings.rules.name()));
        }
        let mut without = settings.without.clone();
        without.sort_unstable();
        without.dedup();
        flags.extend(without.iter().map(|rule| format!("{WITHOUT}{rule}")));
        flags
    }

    /// Where these flags say nothing, what [`SimplifyFlags::spelled`] wrote. Rules that are gone since then cannot be left out again.
    pub fn or_spelled(self, flags: &[String]) -> SimplifyFlags {
        if self.no_simplify || self.rules.is_some() || !self.without.is_empty() {
            return self;
        }
        SimplifyFlags {
            no_simplify: flags.iter().any(|f| f == NO_SIMPLIFY),
            rules: flags.iter().find_map(|f| rules(f.strip_prefix(RULES_FLAG)?).ok()),
            without: flags.iter().filter_map(|f| rule(f.strip_prefix(WITHOUT)?).ok()).collect(),
        }
    }
}

/// As they stand in a checkpoint's flags.
const NO_SIMPLIFY: &str = "--no-simplify";
const RULES_FLAG: &str = "--rules=";
const WITHOUT: &str = "--without=";

impl Chosen {
    /// The batch where none is named: the preset's, or the usual one; none where the text has its own.
    pub fn default_batch(&self) -> Option<usize> {
        let usual = self.preset.map_or(DEFAULT_BATCH, |p| p.batch);
        self.model.needs_batch().then_some(usual)
    }

    /// `localmixer M/1/16`
    pub fn title(&self) -> String {
        match self.preset {
            Some(preset) => format!("{} {}", self.model.name(), preset.name),
            None => self.model.name().to_string(),
        }
    }
}

/// A model's file; what is no file is likely a name.
fn read(name: &str) -> Result<Model, Failure> {
    if name == "-" {
        let mut text = String::new();
        let read = io::stdin().read_to_string(&mut text);
        read.map_err(|error| Failure::wrong(format!("cannot read standard input: {error}; hint: it must be text (UTF-8)")))?;
        return Ok(Model::parse("stdin", &text)?);
    }
    let path = Path::new(name);
    if path.exists() {
        return Ok(Model::read(path)?);
    }
    let names: Vec<&str> = MODELS.iter().map(|m| m.name).collect();
    let stem = path.file_stem().map_or(name.into(), |s| s.to_string_lossy());
    let hint = match closest(&stem, names.iter().copied()) {
        Some(near) => format!("did you mean the built-in `{near}`?"),
        None => "give the path of a `.pf` file, or one of these names".to_string(),
    };
    Err(Failure::wrong(format!(
        "there is no file `{name}`, and no built-in model of that name: there are {}; hint: {hint}",
        names.join(", ")
    )))
}

pub fn preset(text: &str) -> Result<&'static Preset, String> {
    named("preset", text, PRESETS, |p| p.name)
}

pub fn algorithm(text: &str) -> Result<Algorithm, String> {
    if let Some(algorithm) = Algorithm::parse(text) {
        return Ok(algorithm);
    }
    let names: Vec<&str> = Algorithm::every().map(Algorithm::name).collect();
    let there_are = names.join(", ");
    match text.rsplit_once('/') {
        Some((base, variant)) if Algorithm::parse(base).is_some() => {
            Err(format!("`{base}` has no variant `{variant}`: there are {there_are}"))
        }
        _ => Err(format!("no algorithm is called `{text}`: there are {there_are}{}", did_you_mean(text, &names))),
    }
}

fn rules(text: &str) -> Result<Rules, String> {
    named("set of rules", text, Rules::ALL, |r| r.name())
}

fn rule(text: &str) -> Result<&'static str, String> {
    named("rule", text, RULES, |r| r.name).map(|r| r.name)
}

/// The one of `all` that has this name, whatever the case.
pub fn named<T>(what: &str, text: &str, all: impl IntoIterator<Item = T>, name: impl Fn(&T) -> &'static str) -> Result<T, String> {
    let mut all: Vec<T> = all.into_iter().collect();
    let names: Vec<&str> = all.iter().map(name).collect();
    match names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        Some(found) => Ok(all.swap_remove(found)),
        None => Err(format!("no {what} is called `{text}`: there are {}{}", names.join(", "), did_you_mean(text, &names))),
    }
}

/// What an error adds if a name is like `text`.
pub fn did_you_mean(text: &str, names: &[&str]) -> String {
    closest(text, names.iter().copied()).map_or(String::new(), |near| format!("; did you mean `{near}`?"))
}

pub fn set(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => Ok((name.trim().into(), value.trim().into())),
        _ => Err("expected a name, `=`, and a value: `--set groups=16`".into()),
    }
}

/// Far more than memory holds, and little enough for indices of 32 bits.
const LARGEST: usize = 1 << 24;

pub fn batch(text: &str) -> Result<usize, String> {
    count(text, 1, "a batch has at least one example; hint: leave the flag out for the usual size")
}

fn directions(text: &str) -> Result<usize, String> {
    count(text, 1, "at least one direction is needed for an estimate; hint: leave the flag out for one")
}

pub fn count(text: &str, least: usize, too_small: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if n < least => Err(too_small.into()),
        Ok(n) if n <= LARGEST => Ok(n),
        Ok(_) => Err(format!("expected a whole number of at most {LARGEST}")),
        Err(_) => Err(format!("expected a whole number from {least} to {LARGEST}")),
    }
}

/// A number that a step computes with, in 32 bits.
pub fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x >= 0.0 && (x as f32).is_finite() => Ok(x),
        Ok(x) if x.is_finite() && x >= 0.0 => Err(format!("expected a number of at most {:e}", f32::MAX)),
        Ok(_) => Err("expected a number that is not negative".into()),
        Err(_) => Err("expected a number, such as 0.01".into()),
    }
}

pub fn seed(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u32::MAX))
}

/// Back ends that train.
pub fn training_backend(text: &str) -> Result<String, String> {
    match text.to_lowercase().as_str() {
        "eval" => Err("the evaluator is far too slow to train; use `cpu`".into()),
        name if name == "cpu" || name == "wgpu" || DEVICES.contains(&name) => Ok(name.into()),
        _ => Err(format!("no back end is called `{text}`: there are cpu, {}", DEVICES.join(", "))),
    }
}

/// The engine of that name.
pub fn engine(name: &str, threads: usize) -> Result<Engine, Failure> {
    match device(name, Precision::Fp32) {
        Some(device) => Ok(Engine::Device(device?)),
        None => Ok(Engine::from(&Pool::new(threads).map_err(Error::from)?)),
    }
}

/// Threads; 0 for as many as the machine runs at once.
pub fn threads(text: &str) -> Result<usize, String> {
    match count(text, 0, "")? {
        n if n <= 1024 => Ok(n),
        n => Err(format!("{n} threads are more than the 1024 that make sense")),
    }
}

/// Of products of f32 on a device.
pub fn precision(text: &str) -> Result<Precision, String> {
    match text.to_lowercase().as_str() {
        "fp32" => Ok(Precision::Fp32),
        "tf32" => Ok(Precision::Tf32),
        _ => Err(format!("no precision is called `{text}`: there are fp32, tf32")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_come_with_the_closest() {
        assert!(preset("M/1/61").unwrap_err().ends_with("did you mean `M/1/16`?"));
        assert!(algorithm("lgfg-a").unwrap_err().ends_with("did you mean `lg-fg-a`?"));
        assert_eq!(algorithm("LG-BP"), Ok(Algorithm::LG_BP));
        assert_eq!(algorithm("DFA"), Ok(Algorithm::DFA));
        assert_eq!(algorithm("LG-FG-A/own").map(Algorithm::name), Ok("lg-fg-a/own"));
        assert!(algorithm("bp/own").unwrap_err().contains("`bp` has no variant `own`"));
        assert!(algorithm("xx/own").unwrap_err().contains("no algorithm is called `xx/own`"));
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(set("groups=16"), Ok(("groups".into(), "16".into())));
        assert!(set("groups").is_err() && set("=1").is_err() && set("a=").is_err());
        assert!(batch("0").unwrap_err().contains("at least one example"));
        assert!(batch("-1").is_err() && batch("1e3").is_err() && batch("99999999999999999999").is_err());
        assert_eq!((batch("128"), threads("0")), (Ok(128), Ok(0)));
        assert!(threads("2000").is_err());
        assert!(batch("99999999999").unwrap_err().contains("at most 16777216"));
        assert_eq!((seed("4294967295"), not_negative("0")), (Ok(u32::MAX), Ok(0.0)));
        assert!(seed("4294967296").is_err() && seed("1.5").is_err() && seed("").is_err());
        assert!(not_negative("1e39").is_err() && not_negative("inf").is_err() && not_negative("-1").is_err());
    }
}
