//! What gets worse without each rule: the table of `docs/rules.md`, measured. That results stay right is for `rules.rs`. Read [`WORSE`]. `UPDATE_DOCS=1 cargo test --test passes without` writes the file anew.

use std::path::Path;

use pushforward_ir::{DType, Program};
use pushforward_passes::alone::Mode;
use pushforward_passes::cost;
use pushforward_passes::simplify::{RULES, Rule, Rules, Settings, run_reported};
use pushforward_passes::{Algorithm, Options};

use crate::flops::largest;
use crate::fusion::{CROSS_ENTROPY, INFONCE, SPELLED, WORST, derived};
use crate::support::{LOCALMIXER, inlined, passed};

/// On what a rule is tried.
enum Text {
    /// A loss of `tests/fusion`, or a model of that name, at its own sizes and 128 examples.
    Loss(&'static str, Mode),
    /// The step of LocalMixer M/8/16 with two blocks and this norm, at 128 examples.
    Step(&'static str, Algorithm),
    /// A model of its own.
    Small(Rules, &'static str),
}

enum Figure {
    Contractions,
    Flops,
    Largest,
}

/// Without a rule, a figure is at least so many times what it is with it.
struct Worse {
    rule: &'static str,
    text: Text,
    figure: Figure,
    times: f64,
}

const fn worse(rule: &'static str, text: Text, figure: Figure, times: f64) -> Worse {
    Worse { rule, text, figure, times }
}

use Figure::{Contractions, Flops, Largest};
use Mode::{Forward, Reverse};
use Text::{Loss, Small, Step};

const WORSE: &[Worse] = &[
    worse("drop-mark", Loss("cross_entropy", Forward), Contractions, 100.0),
    worse("select-same", Small(Rules::Exact, "output z: f32[N, C] = x * select(x < y, b, b);"), Flops, 1.5),
    worse("select-nested", Step("local", Algorithm::LG_FG_A), Flops, 1.0003),
    worse("max-absent", Small(Rules::Exact, "output z: f32[N] = max[C](select(x < y, sum[C](x), sum[C](x)));"), Flops, 3.0),
    worse("rename-push", Loss("cross_entropy", Reverse), Flops, 6.0),
    worse("rename-join", Loss("infonce_residual", Forward), Contractions, 15.0),
    worse("bound-name", Loss("worst_patch", Forward), Contractions, 1.4),
    worse("commute", Small(Rules::Exact, "output z: f32[N, C] = exp(x * y) + exp(y * x);"), Flops, 1.6),
    worse(
        "eq-delta",
        Small(Rules::Exact, "output z: f32[N, C] = sum[C'](select(iota[C]() == iota[C'](), rename[C -> C'](x), 0));"),
        Flops,
        8.0,
    ),
    worse("mask-factor", Loss("infonce_masks", Forward), Contractions, 500.0),
    worse("mask-cases", Loss("xent_masks", Reverse), Contractions, 1000.0),
    worse("mask-out", Loss("cross_entropy", Forward), Largest, 1000.0),
    worse("delta-sum", Loss("infonce_residual", Forward), Contractions, 15.0),
    worse("mask-complement", Loss("xent_head_first", Reverse), Flops, 1.3),
    worse("unit", Small(Rules::Relaxed, "output z: f32[N] = contract[K](const(0.5), sum[C](x * w));"), Contractions, 1.5),
    worse("scale-out", Loss("cross_entropy", Reverse), Contractions, 300.0),
    worse("flatten", Loss("infonce", Forward), Contractions, 70.0),
    worse("merge", Loss("infonce_residual", Reverse), Contractions, 70.0),
    worse("coefficient", Loss("infonce", Forward), Flops, 1.0001),
    worse("distribute", Loss("infonce cos", Forward), Contractions, 15.0),
    worse("affine", Small(Rules::Relaxed, "output z: f32[N, K] = sum[C]((x - mean[C](x)) * w);"), Flops, 1.05),
    worse("factor", Loss("cross_entropy", Reverse), Contractions, 20.0),
    worse("mask-product", Loss("cross_entropy", Reverse), Contractions, 300.0),
    worse("order", Loss("infonce", Reverse), Contractions, 200.0),
];

impl Text {
    fn program(&self) -> Program {
        match *self {
            Loss(name, mode) => {
                let (text, sets) = loss(name);
                derived(text, sets, 128, DType::F32, mode)
            }
            Step(norm, algorithm) => {
                let program = inlined(LOCALMIXER, &[("blocks", "2"), ("norm", norm)], 128, DType::F32);
                let before = algorithm.passes().split(|p| *p == "simplify").next().expect("passes come before it");
                passed(program, before, &Options::new(algorithm))
            }
            Small(_, body) => {
                let text = format!(
                    "pf 1\naxis N, C = 8, K = 2;\naxis C' like C;\nmodel small(x: f32[N, C], y: f32[N, C], b: f32[C], w: f32[C, K]) {{\n{body}\n}}"
                );
                inlined(&text, &[], 16, DType::F32)
            }
        }
    }

    fn rules(&self) -> Rules {
        match self {
            Loss(..) | Step(..) => Rules::Relaxed,
            Small(rules, _) => *rules,
        }
    }

    fn show(&self) -> String {
        match self {
            Loss(name, mode) => format!("`{name}`, {}", mode.name()),
            Step(norm, algorithm) => format!("M/8/16 with 2 blocks, norm {norm}, {}", algorithm.name()),
            Small(Rules::Exact, body) => format!("`{body}`, exact"),
            Small(Rules::Relaxed, body) => format!("`{body}`"),
        }
    }
}

fn loss(name: &str) -> (&'static str, &'static [(&'static str, &'static str)]) {
    match name {
        "cross_entropy" => (CROSS_ENTROPY, &[]),
        "infonce" => (INFONCE, &[("similarity", "dot")]),
        "infonce cos" => (INFONCE, &[("similarity", "cos")]),
        _ => {
            let spelled = SPELLED.iter().find(|s| s.file == name).map(|s| (s.text, s.sets));
            spelled.unwrap_or_else(|| (WORST.iter().find(|w| w.0 == name).expect("a text has this name").1, &[]))
        }
    }
}

impl Figure {
    fn of(&self, program: &Program) -> f64 {
        match self {
            Contractions => cost::flops(program).contraction as f64,
            Flops => cost::flops(program).total() as f64,
            Largest => largest(program) as f64,
        }
    }

    fn show(&self) -> &'static str {
        match self {
            Contractions => "FLOPs of contractions",
            Flops => "FLOPs",
            Largest => "largest value",
        }
    }
}

#[test]
fn without_a_rule_something_gets_worse() {
    for Worse { rule, text, figure, times } in WORSE {
        let program = text.program();
        let figure = |without: Vec<&'static str>| {
            let simplify = Settings { rules: text.rules(), without, ..Settings::default() };
            let options = Options { simplify, ..Options::new(Algorithm::LG_BP) };
            figure.of(&passed(run_reported(&program, &options).0, &["dce"], &options))
        };
        let (with, without) = (figure(Vec::new()), figure(vec![rule]));
        assert!(without >= times * with, "{rule} on {}: {without} without, {with} with", text.show());
    }
}

/// Every rule has a row of what gets worse: one that is for nothing goes. The file is what is written here.
#[test]
fn the_docs_say_what_each_rule_is_for() {
    let mut rows = String::new();
    for rule in RULES {
        let measured = WORSE.iter().filter(|w| w.rule == rule.name);
        let measured: Vec<String> =
            measured.map(|w| format!("{} at least {} times: {}", w.figure.show(), w.times, w.text.show().replace('|', "\\|"))).collect();
        assert!(!measured.is_empty(), "nothing is known to get worse without `{}`", rule.name);
        rows += &row(rule, measured.join("; "));
    }
    let known = |name: &str| RULES.iter().any(|r| r.name == name);
    assert!(WORSE.iter().map(|w| w.rule).all(known), "a row is for a rule that is gone");
    let text = format!("{HEAD}{rows}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).expect("docs can be written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "docs/rules.md is not what the tables say: UPDATE_DOCS=1 cargo test --test passes without");
}

fn row(rule: &Rule, worse: String) -> String {
    let condition = if rule.condition.is_empty() { String::new() } else { format!(", if {}", rule.condition) };
    let by = if rule.is_searched() { "the e-graph" } else { "construction" };
    let Rule { name, family, left, right, why, .. } = rule;
    format!("| `{name}` | {family} | `{left}` = `{right}`{condition} | {} | {by} | {why} | {worse} |\n", rule.arithmetic.name())
}

const HEAD: &str = "# The rules of simplify

What rewrites a program, and what each rule is worth. Rules by construction hold wherever they apply; in the e-graph, both sides are kept and the cheaper
is chosen. *exact* keeps every bit, *relaxed* is algebra of real numbers. The last column is what gets worse if the rule alone is left out
(`--without RULE`), as `tests/passes/without.rs` measures it; losses are those of `models/` and `tests/fusion/`, replicated, with their derivatives
of that mode, at 128 examples, 64 patches, 512 channels in 16 groups. The file is made from the table of rules and from that test, which keeps it so.

| rule | family | says | arithmetic | by | why | without it |
|---|---|---|---|---|---|---|
";
