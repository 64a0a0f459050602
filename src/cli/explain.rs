//! `explain`: which rewrites made a step what it is, and what they are worth. The work is done in the library's `explain.rs`. Read [`run`].

use pushforward::Settings;
use pushforward::explain::{Explanation, Figures, Memory, Rewrite};
use pushforward_passes::inline::closest;
use pushforward_passes::simplify::proof;
use serde_json::{Value, json};

use super::failure::Failure;
use super::flags::{Chosen, ModelFlags, StepFlags};
use super::opt::{after_inline, pass};
use super::out::{self, bytes, thousands};
use super::prune::{self, PruneFlags};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    step: StepFlags,
    /// Passes to run, in this order [default: those of the algorithm]
    #[arg(short, long, value_name = "PASS,PASS", value_delimiter = ',', value_parser = pass)]
    passes: Option<Vec<&'static str>>,
    #[command(flatten)]
    prune: PruneFlags,
    /// In place of the figures, the chain of equalities that led to this output of the step before `update`: `grad.<parameter>`, `<loss>`,
    /// `d.<loss>`
    #[arg(long, value_name = "VALUE", conflicts_with_all = ["dot", "json", "prune"])]
    proof: Option<String>,
    /// In place of the figures, a drawing of what the e-graphs chose, in Graphviz's language
    #[arg(long, conflicts_with_all = ["json", "prune"])]
    dot: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let chosen = args.model.choose(None)?;
    let settings = args.step.settings(&chosen, chosen.default_batch())?;
    let passes = match &args.passes {
        Some(passes) => after_inline(passes)?,
        None => settings.passes.algorithm.passes(),
    };
    // Passes that someone chooses are run on anything.
    let inlined = if args.passes.is_none() { chosen.ready(&settings)? } else { chosen.inline(&settings)? };
    let batch = inlined.batch.map_or(1, |a| inlined.axes.size(a));
    if args.proof.is_some() || args.dot {
        return rewriting(&chosen, settings, passes, args.proof.as_deref());
    }
    let explanation = chosen.model.explain(&settings, passes)?;
    let pruning = if args.prune.prune { Some(prune::report(&chosen, &settings, &args.prune)?) } else { None };
    if args.json {
        let mut document = document(&chosen, &settings, batch, &explanation);
        if let Some(pruning) = &pruning {
            document["prune"] = pruning.json();
        }
        return out::print(&document.to_string());
    }
    let pruning = pruning.map_or(String::new(), |p| format!("\n{}", p.text()));
    out::print(&(describe(&chosen, &settings, batch, &explanation) + &pruning))
}

/// A proof of one value, or the drawing of all. Local losses are among the values here.
fn rewriting(chosen: &Chosen, settings: Settings, passes: &[&str], value: Option<&str>) -> Result<(), Failure> {
    let mut settings = settings;
    settings.passes.report = true;
    let derived = chosen.model.derived(&settings, passes)?;
    let Some(name) = value else { return out::print(proof::drawing(&derived, &settings.passes).trim_end()) };
    match proof::proof(&derived, &settings.passes, name) {
        Some(text) => out::print(text.trim_end()),
        None => {
            let names: Vec<&str> = derived.outputs.iter().map(|o| o.port.name.as_str()).collect();
            let near = closest(name, names.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
            Err(Failure::usage(format!("--proof {name}: no output has that name; hint: {near}there are {}", names.join(", "))))
        }
    }
}

fn document(chosen: &Chosen, settings: &Settings, batch: usize, explained: &Explanation) -> Value {
    let Explanation { before, after, rewrites, report, seconds, notes } = explained;
    let pair = |figure: fn(&Figures) -> Option<u64>| json!({ "before": figure(before), "after": figure(after) });
    let rewrites = rewrites.iter().map(|r| json!({ "rule": r.rule, "place": r.place, "scope": r.scope, "count": r.count }));
    json!({
        "model": chosen.model.name(),
        "preset": chosen.preset.map(|p| p.name),
        "algorithm": settings.passes.algorithm.name(),
        "batch": batch,
        "rules": settings.passes.simplify.rules.name(),
        "without": settings.passes.simplify.without,
        "contraction_flops": pair(|f| Some(f.contraction_flops)),
        "flops": pair(|f| Some(f.flops)),
        "bytes": pair(|f| Some(f.memory.as_ref()?.bytes)),
        "largest_temporary_bytes": pair(|f| Some(f.memory.as_ref()?.largest_temporary_bytes)),
        "egraph": {
            "nodes": report.nodes,
            "largest": report.largest,
            "iterations": report.iterations,
            "regions": report.regions,
            "distinct": report.distinct,
            "seconds": seconds,
        },
        "rewrites": rewrites.collect::<Vec<_>>(),
        "notes": notes,
    })
}

fn describe(chosen: &Chosen, settings: &Settings, batch: usize, explained: &Explanation) -> String {
    let Explanation { before, after, rewrites, report, seconds, notes } = explained;
    let row = |cells: &[&str]| cells.iter().map(|c| c.to_string()).collect::<Vec<String>>();
    let flops = |name: &str, figure: fn(&Figures) -> u64| {
        let (b, a) = (figure(before), figure(after));
        row(&[name, &thousands(b), &thousands(a), &times(Some(b), Some(a))])
    };
    let memory = |name: &str, figure: fn(&Memory) -> u64| {
        let [b, a] = [before, after].map(|f| f.memory.as_ref().map(figure));
        let shown = |n: Option<u64>| n.map_or("not known".into(), bytes);
        row(&[name, &shown(b), &shown(a), &times(b, a)])
    };
    // The whole step, in a line.
    let simplify = &settings.passes.simplify;
    let rules = if simplify.off { "no simplify".into() } else { format!("{} rules", simplify.rules.name()) };
    let algorithm = settings.passes.algorithm.name();
    let mut text = format!(
        "{}, {algorithm}, batch {batch}, {rules}: {} FLOPs, {} without simplify\n\n",
        chosen.title(),
        thousands(after.flops),
        thousands(before.flops)
    );
    let rows = [
        row(&["", "before", "after", ""]),
        flops("FLOPs of contractions", |f| f.contraction_flops),
        flops("FLOPs", |f| f.flops),
        memory("bytes read and written", |m| m.bytes),
        memory("largest temporary", |m| m.largest_temporary_bytes),
    ];
    text += &out::table(&rows, &[false, true, true, true]);
    let named = [("before", before), ("after", after)].map(|(when, f)| Some((when, f.memory.as_ref()?.largest_temporary.as_ref()?)));
    for (when, temporary) in named.into_iter().flatten() {
        text += &format!("  largest {when}: {temporary}\n");
    }
    text += &format!(
        "\ne-graphs: {} nodes ({} in the largest), {} iterations at most, {} regions ({} distinct), {:.1} ms\n",
        thousands(report.nodes as u64),
        thousands(report.largest as u64),
        report.iterations,
        report.regions,
        report.distinct,
        seconds * 1e3
    );
    if !rewrites.is_empty() {
        let head = row(&["rule", "times", "place", "in"]);
        text += &format!("\n{}", out::table(&[vec![head], by_place(rewrites)].concat(), &[false, true]));
    }
    if !notes.is_empty() {
        text += &format!("\n{}\n", notes.iter().map(|n| format!("note: {n}")).collect::<Vec<_>>().join("\n"));
    }
    text
}

/// A row for each rule and place; blocks that share a place share a row.
fn by_place(rewrites: &[Rewrite]) -> Vec<Vec<String>> {
    let mut rows: Vec<(&Rewrite, usize, usize)> = Vec::new();
    for rewrite in rewrites {
        match rows.iter_mut().find(|(first, ..)| (first.rule, &first.place) == (rewrite.rule, &rewrite.place)) {
            Some((_, count, scopes)) => (*count, *scopes) = (*count + rewrite.count, *scopes + 1),
            None => rows.push((rewrite, rewrite.count, 1)),
        }
    }
    let shown = rows.into_iter().map(|(first, count, scopes)| {
        let scope = if scopes == 1 { first.scope.clone() } else { format!("{} and {} more", first.scope, scopes - 1) };
        vec![first.rule.to_string(), count.to_string(), first.place.clone(), scope]
    });
    shown.collect()
}

/// How many times less there is after.
fn times(before: Option<u64>, after: Option<u64>) -> String {
    match (before, after) {
        (Some(before), Some(after @ 1..)) => format!("{:.2} times", before as f64 / after as f64),
        (_, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_share_a_place_share_a_row() {
        let one = |rule, place: &str, scope: &str, count| Rewrite { rule, place: place.into(), scope: scope.into(), count };
        let rewrites = [
            one("a", "m.pf:1:2", "block0", 3),
            one("a", "m.pf:1:2", "block1", 4),
            one("a", "m.pf:9:2", "", 1),
            one("b", "m.pf:1:2", "", 1),
        ];
        let rows: Vec<String> = by_place(&rewrites).iter().map(|r| r.join(" ")).collect();
        assert_eq!(rows, ["a 7 m.pf:1:2 block0 and 1 more", "a 1 m.pf:9:2 ", "b 1 m.pf:1:2 "]);
    }
}
