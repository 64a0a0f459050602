//! `opt`: passes on a model's text, for looking at what each does. Read [`run`].

use std::time::Instant;

use pushforward::Wrong;
use pushforward_ir::Program;
use pushforward_passes::inline::closest;
use pushforward_passes::table::{self, PASSES};

use super::failure::{Failure, note, warn};
use super::flags::{ModelFlags, StepFlags};
use super::out;

/// What turns a text into a program, before all passes of the table.
const INLINE: &str = "inline";

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    step: StepFlags,
    /// Passes to run, in this order [default: those of the algorithm]
    #[arg(short, long, value_name = "PASS,PASS", value_delimiter = ',', value_parser = pass)]
    passes: Option<Vec<&'static str>>,
    /// Print the text after this pass, in place of the last; may be given several times
    #[arg(long, value_name = "PASS", value_delimiter = ',', value_parser = pass)]
    print_after: Vec<&'static str>,
    /// Print the text after every pass
    #[arg(long)]
    print_after_all: bool,
    /// Say how long each pass took, on standard error
    #[arg(long)]
    time_passes: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let chosen = args.model.choose(None)?;
    let settings = args.step.settings(&chosen, chosen.default_batch());
    let passes = match &args.passes {
        Some(passes) => after_inline(passes)?,
        None => settings.passes.algorithm.passes(),
    };
    if let Some(missing) = args.print_after.iter().find(|p| **p != INLINE && !passes.contains(p)) {
        let ran = passes.join(", ");
        return Err(Failure::usage(format!(
            "--print-after {missing}: the passes are {INLINE}, {ran}; hint: name one of these, or add it to -p"
        )));
    }

    let start = Instant::now();
    let inlined = chosen.model.inline(&settings.sets, settings.batch)?;
    warn(Wrong { sources: chosen.model.sources().clone(), diagnostics: inlined.warnings });
    let mut last = Instant::now();
    let mut times = vec![row(INLINE, last - start, &inlined.program)];
    let mut shown = String::new();
    let mut show = |name: &str, program: &Program| {
        if args.print_after_all || args.print_after.contains(&name) {
            shown += &format!("// after {name}\n{}\n", program.to_text());
        }
    };
    show(INLINE, &inlined.program);
    let program = chosen.model.passes(inlined.program, passes, &settings.passes, &mut |name, program| {
        times.push(row(name, last.elapsed(), program));
        show(name, program);
        last = Instant::now();
    })?;
    if args.time_passes {
        let head = ["pass", "ms", "values"].map(String::from).to_vec();
        let rows: Vec<_> = [head].into_iter().chain(times).collect();
        note(out::table(&rows, &[false, true, true]).trim_end());
    }
    out::print(if shown.is_empty() { program.to_text() } else { shown }.trim_end())
}

fn row(name: &str, time: std::time::Duration, program: &Program) -> Vec<String> {
    vec![name.to_string(), format!("{:.2}", time.as_secs_f64() * 1e3), program.nodes.len().to_string()]
}

/// `inline` comes first whether it is named or not.
pub fn after_inline<'a>(passes: &'a [&'static str]) -> Result<&'a [&'static str], Failure> {
    let rest = passes.strip_prefix(&[INLINE]).unwrap_or(passes);
    match rest.contains(&INLINE) {
        true => Err(Failure::usage("-p: `inline` makes the program that the other passes need; hint: name it first, or not at all")),
        false => Ok(rest),
    }
}

pub fn pass(text: &str) -> Result<&'static str, String> {
    let name = text.trim();
    if name == INLINE {
        return Ok(INLINE);
    }
    table::find(name).map(|p| p.name).ok_or_else(|| {
        let names: Vec<&str> = [INLINE].into_iter().chain(PASSES.iter().map(|p| p.name)).collect();
        let near = closest(name, names.iter().copied()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        format!("no pass is called `{name}`: there are {}{near}", names.join(", "))
    })
}
