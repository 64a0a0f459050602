//! simplify: rewrites a program into a cheaper one that computes the same. Read [`run_reported`], then [`fold`].
//!
//! It knows no loss, layer, model or algorithm by name: only the algebra of values over named axes. What a rewrite may do to the numbers is
//! decided by [`Rules`]. Budgets count nodes and iterations, never time, so the same program gives the same bytes.

pub mod chain;
pub mod cost;
pub mod emit;
#[cfg(test)]
mod equality;
pub mod extract;
pub mod fold;
pub mod order;
pub mod proof;
pub mod region;
pub mod rules;
pub mod saturate;
pub mod solve;
pub mod term;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use pushforward_ir::op::Class;
use pushforward_ir::{AxisSet, Op, Program, Value};

use crate::algorithm::Options;
use region::{Key, Region};
use solve::Solution;

pub use rules::{RULES, Rule};

/// How often the whole is done again: what one part finds out (that a value does not depend on an axis, say) is news to others.
const MOST_ROUNDS: usize = 4;

/// Another round follows on one that saved more than this part of all FLOPs.
const WORTH_A_ROUND: u64 = 100;

/// Which arithmetic rewrites must keep to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rules {
    /// Results keep their bits: NaN, infinities and signed zeros included.
    Exact,
    /// Equal in real numbers; rounding, signs of zeros, and what infinities and NaN do behind a mask, may differ.
    Relaxed,
}

impl Rules {
    pub const ALL: [Rules; 2] = [Rules::Exact, Rules::Relaxed];

    pub fn name(self) -> &'static str {
        match self {
            Rules::Exact => "exact",
            Rules::Relaxed => "relaxed",
        }
    }
}

/// What simplify is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Nothing is rewritten: what a step costs as it was derived.
    pub off: bool,
    pub rules: Rules,
    /// Names of rules that are left out.
    pub without: Vec<&'static str>,
}

impl Settings {
    /// Whether a rule may be used.
    pub fn allows(&self, rule: &Rule) -> bool {
        let arithmetic = self.rules == Rules::Relaxed || rule.arithmetic == Rules::Exact;
        arithmetic && !self.without.contains(&rule.name)
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { off: false, rules: Rules::Relaxed, without: Vec::new() }
    }
}

/// How often a rule made a part of the result, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fired {
    /// Name of the rule.
    pub rule: &'static str,
    /// Index into the program's origins: the place in the source.
    pub origin: u32,
    pub count: usize,
}

/// What simplify did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// By rule in the order of the table, then by place.
    pub fired: Vec<Fired>,
    /// E-nodes of all e-graphs together; equal regions count once.
    pub nodes: usize,
    /// Most iterations that an e-graph took.
    pub iterations: usize,
    /// Parts of the program that went through an e-graph at first, and how many of them differ.
    pub regions: usize,
    pub distinct: usize,
    /// The largest e-graph.
    pub largest: usize,
    /// A line for each cap that was hit.
    pub notes: Vec<String>,
    /// What is still computed once for every copy: origin, and why.
    pub unfused: Vec<(u32, String)>,
}

pub fn run(program: &Program, options: &Options) -> Program {
    run_reported(program, options).0
}

pub fn run_reported(program: &Program, options: &Options) -> (Program, Report) {
    run_watched(program, options, &mut |_| {})
}

/// What simplify did at one go.
pub enum Stage<'a> {
    /// Normal forms: the program before, the new one with all that it went through, and each value's form.
    Forms { before: &'a Program, whole: &'a Program, forms: &'a [fold::Form] },
    /// The e-graphs: the program before, and its parts.
    Search { before: &'a Program, parts: &'a [(Region, &'a Solution)] },
}

/// [`run_reported`], shown stage by stage.
pub fn run_watched(written: &Program, options: &Options, seen: &mut dyn FnMut(Stage)) -> (Program, Report) {
    let settings = &options.simplify;
    if settings.off {
        return (written.clone(), Report::default());
    }
    let rules: Vec<&'static Rule> = RULES.iter().filter(|r| settings.allows(r) && r.is_searched()).collect();
    let laws = fold::Laws::new(settings);
    let mut report = Report::default();
    let forms = |program: &Program, laws: &fold::Laws, seen: &mut dyn FnMut(Stage)| {
        let (next, whole, forms) = fold::traced(program, laws);
        seen(Stage::Forms { before: program, whole: &whole, forms: &forms });
        next
    };
    let mut program = forms(written, &laws, seen);
    let mut searched: BTreeMap<(&'static str, u32), usize> = BTreeMap::new();
    // While losses stand, derivatives are to come: they are taken of what was written.
    if !rules.is_empty() && program.losses.is_empty() {
        let (early, late): (Vec<_>, Vec<_>) = rules.iter().partition(|r| !r.late);
        let stages = if late.is_empty() { vec![early] } else { vec![early, rules] };
        for rules in &stages {
            let mut solved: HashMap<Key, Solution> = HashMap::new();
            for _ in 0..MOST_ROUNDS {
                let found = round(&program, &laws, rules, &mut solved, &mut report, &mut searched, seen);
                let next = forms(&found, &laws, seen);
                let [before, after] = [&program, &next].map(|p| crate::cost::flops(p).total());
                program = next;
                // What is left to find is worth little then.
                if after > before - before / WORTH_A_ROUND {
                    break;
                }
            }
        }
    }
    let constructed = laws.fired().into_iter().map(|((rule, origin), count)| Fired { rule: RULES[rule].name, origin, count });
    let searched = searched.into_iter().map(|((rule, origin), count)| Fired { rule, origin, count });
    report.fired = constructed.chain(searched).collect();
    report.fired.sort_by_key(|f| (RULES.iter().position(|r| r.name == f.rule), f.origin));
    report.unfused = unfused(written, &program);
    (program, report)
}

/// Nonlinear ops of a replicated loss that are still taken for each index of an axis along which it is copied: before anything is summed over
/// that axis, so the loss is no function of such a sum.
fn unfused(written: &Program, program: &Program) -> Vec<(u32, String)> {
    let copied = copied(written);
    let telling = |p: &Program, v: Value| p.op(v).class() == Class::Slow || matches!(p.op(v), Op::Max(_));
    let live = program.live();
    let mut found = BTreeSet::new();
    for v in program.values().filter(|&v| live[v.0 as usize] && telling(program, v)) {
        let node = program.node(v);
        let (along, same) = (node.ty.axes & copied, |w: &Value| written.node(*w).origin == node.origin && telling(written, *w));
        if !along.is_empty() && written.values().any(|w| same(&w)) {
            let along = program.axes.show(along);
            let op = node.op.name();
            found.insert((node.origin, format!("`{op}` is taken at each of {along}, along which the loss is copied: the loss is no function of a sum over {along}, so this part is not shared by the copies")));
        }
    }
    found.into_iter().collect()
}

/// Axes along which `replicate` made copies: those of masks between a value and itself, held still.
fn copied(program: &Program) -> AxisSet {
    let mut axes = AxisSet::EMPTY;
    for v in program.values() {
        if let (Op::Select, &[mask, x, still]) = (program.op(v), program.args(v))
            && *program.op(still) == Op::StopGradient
            && program.args(still) == [x]
        {
            axes = axes | (program.axes_of(mask) - program.axes_of(x));
        }
    }
    axes
}

/// Every part through its e-graph once; equal parts are solved once.
fn round(
    program: &Program,
    laws: &fold::Laws,
    rules: &[&'static Rule],
    solved: &mut HashMap<Key, Solution>,
    report: &mut Report,
    searched: &mut BTreeMap<(&'static str, u32), usize>,
    seen: &mut dyn FnMut(Stage),
) -> Program {
    let regions = region::regions(program);
    for region in &regions {
        if !solved.contains_key(&region.key) {
            let rules: Vec<&'static Rule> = rules.iter().copied().filter(|r| !(r.cancels && region.key.decides)).collect();
            let solution = solve::solve(&region.key, &program.axes, &rules);
            report.nodes += solution.nodes;
            report.largest = report.largest.max(solution.nodes);
            report.iterations = report.iterations.max(solution.iterations);
            report.notes.extend(solution.capped.map(|cap| format!("the cap on {cap} ended a search")));
            solved.insert(region.key.clone(), solution);
        }
    }
    if report.regions == 0 {
        report.regions = regions.len();
        report.distinct = regions.iter().map(|r| &r.key).collect::<HashSet<_>>().len();
    }
    let parts: Vec<(Region, &Solution)> = regions
        .into_iter()
        .map(|region| {
            let solution = &solved[&region.key];
            (region, solution)
        })
        .collect();
    for (region, solution) in &parts {
        for lemma in &solution.lemmas {
            let node = solution.named.get(&lemma.class).copied().unwrap_or(region.key.outputs[0]);
            let origin = program.node(region.nodes[node]).origin;
            lemma.steps.iter().for_each(|&i| *searched.entry((solution.steps[i].rule, origin)).or_default() += 1);
        }
    }
    seen(Stage::Search { before: program, parts: &parts });
    emit::emit(program, laws, &parts)
}
