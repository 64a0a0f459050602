//! What `simplify` made of a step: which rewrites fired where, and what the step costs without and with them. The FLOPs are those that the
//! programs ask for (`pushforward_passes::cost`); bytes and temporaries are counted from plans. Nothing is run. Read [`Model::explain`].

use std::time::Instant;

use pushforward_ir::Program;
use pushforward_ir::program::Origin;
use pushforward_passes::{Options, cost, simplify};
use pushforward_plan::Plan;
use pushforward_plan::kernel::Role;

use crate::error::Error;
use crate::model::{Model, Settings};
use crate::report::Report;

const SIMPLIFY: &str = "simplify";

pub struct Explanation {
    pub before: Figures,
    pub after: Figures,
    pub rewrites: Vec<Rewrite>,
    /// What simplify says of itself.
    pub report: simplify::Report,
    /// That it took.
    pub seconds: f64,
    /// What a person should know of the figures and of the rewrites.
    pub notes: Vec<String>,
}

/// What a program costs.
pub struct Figures {
    pub contraction_flops: u64,
    /// Of contractions and of all else.
    pub flops: u64,
    /// None where the program has no plan.
    pub memory: Option<Memory>,
}

/// What reaches memory, as planned.
pub struct Memory {
    /// Read and written, by all launches.
    pub bytes: u64,
    pub largest_temporary_bytes: u64,
    /// Parameters, inputs, outputs, and temporaries, their memory reused.
    pub peak_bytes: u64,
    /// `t18: f32[N=128, P=64]`, if there are temporaries.
    pub largest_temporary: Option<String>,
}

/// How often a rule made a part of the result.
pub struct Rewrite {
    pub rule: &'static str,
    /// `models/a.pf:7:5`
    pub place: String,
    /// Scoped name of the layer, empty at the top.
    pub scope: String,
    pub count: usize,
}

impl Model {
    /// The step that `passes` make of the model, against what they make of it without simplify.
    pub fn explain(&self, settings: &Settings, passes: &[&str]) -> Result<Explanation, Error> {
        let run = |program: Program, names: &[&str]| self.passes(program, names, &settings.passes, &mut |_, _| {});
        let at = passes.iter().position(|&name| name == SIMPLIFY);
        let (_, rest) = passes.split_at(at.unwrap_or(passes.len()));
        let derived = self.derived(settings, passes)?;

        let (simplified, report, seconds) = match at {
            Some(_) => timed(&derived, &settings.passes),
            None => (derived.clone(), simplify::Report::default(), 0.0),
        };
        let rewrites = report.fired.iter().map(|fired| self.rewrite(&derived, fired)).collect();
        let unfused: Vec<String> =
            report.unfused.iter().map(|(origin, why)| format!("{why} ({})", self.place(&derived, *origin).0)).collect();
        let rest = rest.strip_prefix(&[SIMPLIFY]).unwrap_or(rest);
        let without: Vec<&str> = rest.iter().copied().filter(|&name| name != SIMPLIFY).collect();
        let (naive, simplified) = (run(derived, &without)?, run(simplified, rest)?);
        let mut notes = report.notes.clone();
        notes.extend(unfused);
        if at.is_none() {
            notes.push(format!("`{SIMPLIFY}` is none of the passes: nothing was rewritten"));
        }
        let before = figures(&naive, "before", &mut notes);
        let after = figures(&simplified, "after", &mut notes);
        Ok(Explanation { before, after, rewrites, report, seconds, notes })
    }

    /// What simplify is given: the program after all passes before it.
    pub fn derived(&self, settings: &Settings, passes: &[&str]) -> Result<Program, Error> {
        let program = self.inline(&settings.sets, settings.batch)?.program;
        let first = passes.iter().position(|&name| name == SIMPLIFY).unwrap_or(passes.len());
        self.passes(program, &passes[..first], &settings.passes, &mut |_, _| {})
    }

    fn rewrite(&self, program: &Program, fired: &simplify::Fired) -> Rewrite {
        let (place, scope) = self.place(program, fired.origin);
        Rewrite { rule: fired.rule, place, scope, count: fired.count }
    }

    /// Where in the source an origin stands, and in which layer.
    fn place(&self, program: &Program, origin: u32) -> (String, String) {
        let nowhere = || ("<unknown>".to_string(), String::new());
        let origin = program.origins.get(origin as usize);
        origin.map_or_else(nowhere, |Origin { span, scope, .. }| (self.sources().locate(*span), scope.clone()))
    }
}

fn timed(program: &Program, options: &Options) -> (Program, simplify::Report, f64) {
    let start = Instant::now();
    let (program, report) = simplify::run_reported(program, options);
    (program, report, start.elapsed().as_secs_f64())
}

/// A program that has no plan gets a note that says why.
pub fn figures(program: &Program, which: &str, notes: &mut Vec<String>) -> Figures {
    let flops = cost::flops(program);
    let memory = match pushforward_plan::lower(program, &pushforward_plan::Options::default()) {
        Ok(plan) => Some(Memory::of(&plan)),
        Err(error) => {
            notes.push(format!("bytes and temporaries {which} simplify are not known: {error}"));
            None
        }
    };
    Figures { contraction_flops: flops.contraction, flops: flops.total(), memory }
}

impl Memory {
    pub fn of(plan: &Plan) -> Memory {
        let report = Report::of(plan);
        // Of equals the first.
        let temporaries = plan.buffers.iter().filter(|b| matches!(b.role, Role::Temp(_)));
        let largest = temporaries.rev().max_by_key(|b| b.bytes());
        let shown = largest.map(|b| {
            let dims: Vec<String> = b.dims.iter().map(|(axis, size)| format!("{axis}={size}")).collect();
            let dtype = pushforward_ir::DType::from(b.dtype);
            format!("{}: {}[{}]", b.name, dtype.name(), dims.join(", "))
        });
        Memory {
            bytes: report.bytes_read + report.bytes_written,
            largest_temporary_bytes: largest.map_or(0, |b| b.bytes() as u64),
            peak_bytes: report.peak_bytes as u64,
            largest_temporary: shown,
        }
    }
}
