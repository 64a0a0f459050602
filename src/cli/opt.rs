//! `opt`: passes on a model's text, for looking at what each does. Read [`run`].

use std::time::Instant;

use pushforward::{Settings, Wrong};
use pushforward_ir::{DType, Program};
use pushforward_passes::table::{self, Arithmetic, PASSES, Pass};
use pushforward_passes::validate::{self, Checked, Fault, validate};

use super::failure::{Failure, note};
use super::flags::{Chosen, ModelFlags, StepFlags, named};
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
    /// Run the evaluator before and after every pass, in f64, on ordinary numbers and on hard ones, and print for each whether it keeps to
    /// the arithmetic that it states, in place of the text. The batch is 3 unless it is given; other sizes are to be small, too
    #[arg(long, conflicts_with_all = ["print_after", "print_after_all", "time_passes"])]
    validate: bool,
}

/// The batch of programs that are validated.
const FEW: usize = 3;

pub fn run(args: Args) -> Result<(), Failure> {
    let chosen = args.model.choose(None)?;
    let batch = if args.validate { chosen.default_batch().map(|_| FEW) } else { chosen.default_batch() };
    let settings = args.step.settings(&chosen, batch)?;
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

    if args.validate {
        return validated(&chosen, &settings, passes);
    }
    let start = Instant::now();
    // Passes that someone chooses are run on anything.
    let inlined = if args.passes.is_none() { chosen.ready(&settings)? } else { chosen.inline(&settings)? };
    let mut last = Instant::now();
    let mut times = vec![row(INLINE, last - start, &inlined)];
    let mut shown = String::new();
    let mut show = |name: &str, program: &Program| {
        if args.print_after_all || args.print_after.contains(&name) {
            shown += &format!("// after {name}\n{}\n", program.to_text());
        }
    };
    show(INLINE, &inlined);
    let program = chosen.model.passes(inlined, passes, &settings.passes, &mut |name, program| {
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

/// A line for each pass on standard output, and all that is wrong on standard error.
fn validated(chosen: &Chosen, settings: &Settings, passes: &[&str]) -> Result<(), Failure> {
    let mut before = chosen.model.inline_in(DType::F64, &settings.sets, settings.batch)?.program;
    let head = ["pass", "arithmetic", "kinds", "results", "derivatives", "worst", ""].map(String::from).to_vec();
    let (mut rows, mut wrong, mut refused) = (vec![head], Vec::new(), false);
    chosen.model.passes(before.clone(), passes, &settings.passes, &mut |name, after| {
        let pass = table::find(name).expect("a pass that ran is in the table");
        if !refused {
            let outcome = validate(&before, after, pass, &settings.passes, &validate::Settings::default());
            rows.push(verdict(pass, (pass.arithmetic)(&settings.passes), &outcome));
            // Why the others cannot be validated either has been said then.
            refused = matches!(outcome, Err(Fault::Refused(_)));
            wrong.extend(outcome.err().map(|fault| fault.diagnostic().clone()));
            before = after.clone();
        }
    })?;
    out::print(&out::table(&rows, &[false, false, true, true, true, true]))?;
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(pushforward::Error::Text(Wrong { sources: chosen.model.sources().clone(), diagnostics: wrong }).into()),
    }
}

fn verdict(pass: &Pass, arithmetic: Arithmetic, outcome: &Result<Checked, Fault>) -> Vec<String> {
    let mut row = vec![pass.name.to_string(), arithmetic.name().to_string()];
    row.extend(match outcome {
        Ok(checked) => {
            let worst = if checked.worst == 0.0 { "0".into() } else { format!("{:.1e}", checked.worst) };
            let counts = [checked.kinds.len(), checked.compared, checked.derivatives].map(|n| n.to_string());
            let mut said = if checked.compared > 0 { "ok" } else { "nothing to compare" }.to_string();
            for (count, why) in [(checked.edges, "hang on rounding"), (checked.infinite, "see infinities or NaN")] {
                if count > 0 {
                    said += &format!(", {count} {why}");
                }
            }
            counts.into_iter().chain([worst, said]).collect::<Vec<String>>()
        }
        Err(fault) => {
            let said = match fault {
                Fault::Broken(broken) => format!("FAILED: {} at {} on {} numbers", broken.result, broken.at, broken.kind.name()),
                Fault::Refused(_) => "not validated".to_string(),
            };
            ["", "", "", "", &said].map(String::from).to_vec()
        }
    });
    row
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
    let names = [INLINE].into_iter().chain(PASSES.iter().map(|p| p.name));
    named("pass", text.trim(), names, |name| name)
}

#[cfg(test)]
mod tests {
    use pushforward_ir::Diagnostic;
    use pushforward_passes::validate::Broken;
    use pushforward_passes::validate::inputs::Kind;

    use super::*;

    #[test]
    fn a_pass_that_broke_its_word_has_a_line_that_says_what_is_wrong() {
        let simplify = table::find("simplify").expect("a pass");
        let row = |outcome| verdict(simplify, Arithmetic::Real, &outcome).join(" ");
        let diagnostic = Diagnostic::error("both sides").hint("what to do");
        let broken = Broken {
            result: "the output `y`".into(),
            kind: Kind::Ties,
            at: "[N 0, K 2]".into(),
            before: 0.0,
            after: 1.0,
            diagnostic: diagnostic.clone(),
        };
        let failed = row(Err(Fault::Broken(Box::new(broken))));
        assert!(failed.starts_with("simplify real"), "{failed}");
        assert!(failed.ends_with("FAILED: the output `y` at [N 0, K 2] on half zero numbers"), "{failed}");
        assert!(row(Err(Fault::Refused(diagnostic))).ends_with("not validated"));
        let checked = Checked {
            arithmetic: Arithmetic::Real,
            kinds: vec![Kind::Ordinary],
            compared: 3,
            edges: 1,
            infinite: 0,
            derivatives: 0,
            worst: 2.5e-16,
        };
        assert!(row(Ok(checked.clone())).ends_with("1 3 0 2.5e-16 ok, 1 hang on rounding"));
        assert!(row(Ok(Checked { compared: 0, edges: 0, worst: 0.0, ..checked })).ends_with("nothing to compare"));
    }
}
