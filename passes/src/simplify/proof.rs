//! Proofs: the chain of equalities from a value as it was derived to the one that was chosen, each step by one rule of the table, for a person to
//! check. It only tells what [`super::run_watched`] did. Read [`proof`].

use std::collections::BTreeSet;
use std::fmt::Write;

use egg::Id;
use pushforward_ir::program::Node;
use pushforward_ir::{Axes, AxisSet, Op, Program, Value, infer};

use super::fold::Form;
use super::region::Region;
use super::rules::Tree;
use super::solve::Solution;
use super::term::Head;
use super::{Stage, run_watched};
use crate::algorithm::Options;

/// The text of the proof for the program's output `name`; `None` if there is no such output.
pub fn proof(program: &Program, options: &Options, name: &str) -> Option<String> {
    program.output(name)?;
    let mut text = String::new();
    let (mut formed, mut searched) = (0, 0);
    let (result, _) = run_watched(program, options, &mut |stage| match stage {
        Stage::Forms { before, whole, forms } => {
            formed += 1;
            let _ = writeln!(text, "// {formed}. normal forms: every value, and under it what it becomes where a law holds");
            text += &forms_text(before, whole, forms, name);
        }
        Stage::Search { before, parts } => {
            searched += 1;
            let _ = writeln!(
                text,
                "// search {searched}: classes are called c0, c1, ..; each line is equal to the one before by the rule that it names"
            );
            text += &search_text(before, parts, name);
        }
    });
    let _ = writeln!(text, "// chosen");
    let lines = result.lines();
    for v in cone(&result, name) {
        let (own, line) = &lines[v.0 as usize];
        if own != line {
            let _ = writeln!(text, "{own}: {} = {line}", result.ty(v).show(&result.axes));
        }
    }
    Some(text)
}

/// Values on which an output depends.
fn cone(program: &Program, name: &str) -> Vec<Value> {
    let needed = program.reaches(program.output(name).map(|o| o.value));
    program.values().filter(|v| needed[v.0 as usize]).collect()
}

fn forms_text(before: &Program, whole: &Program, forms: &[Form], name: &str) -> String {
    // Ops on new operands are none of the new program's values: they are written under it to be shown.
    let mut shown = whole.clone();
    let mut literal = Vec::new();
    for form in forms {
        let op = before.op(form.old).clone();
        let types: Vec<_> = form.operands.iter().map(|&a| whole.ty(a)).collect();
        literal.push(infer::infer(whole, &op, &types).ok().map(|ty| {
            shown.nodes.push(Node { op, args: form.operands.clone(), ty, origin: 0 });
            shown.nodes.len() - 1
        }));
    }
    let (old, new) = (before.lines(), shown.lines());
    let mut text = String::new();
    for v in cone(before, name) {
        let Some((form, literal)) = forms.iter().zip(&literal).find(|(f, _)| f.old == v) else { continue };
        let (own, line) = &old[v.0 as usize];
        if own == line {
            continue;
        }
        let _ = writeln!(text, "{own}: {} = {line}", before.ty(v).show(&before.axes));
        if !form.laws.is_empty() {
            if let Some(at) = literal {
                let _ = writeln!(text, "    is     {}", new[*at].1);
            }
            let (name, line) = &new[form.new.0 as usize];
            let is = if name == line { name.clone() } else { format!("{name} = {line}") };
            let _ = writeln!(text, "    equals {is}   by {}", form.laws.join(", "));
        }
    }
    text
}

fn search_text(before: &Program, parts: &[(Region, &Solution)], name: &str) -> String {
    let lines = before.lines();
    let needed = before.reaches(before.output(name).map(|o| o.value));
    let mut text = String::new();
    for (region, solution) in parts.iter().filter(|(r, _)| r.nodes.iter().any(|v| needed[v.0 as usize])) {
        let class = |id: Id| {
            let chosen = solution.classes.iter().position(|c| *c == id).map(|i| &solution.terms[i].head);
            match chosen {
                Some(Head::Leaf(l)) => lines[region.leaves[*l as usize].0 as usize].0.clone(),
                Some(Head::Op(Op::Const(n))) => n.value().to_string(),
                Some(_) | None => format!("c{id}"),
            }
        };
        let show = |term: &Tree| tree(&before.axes, term, &class);
        let own = |id: Id| solution.named.get(&id).map_or(String::new(), |&n| format!("   // {}", lines[region.nodes[n].0 as usize].0));
        let ty = |id: Id| solution.known.get(&id).map_or(String::new(), |k| k.ty.show(&before.axes));
        for lemma in &solution.lemmas {
            let _ = writeln!(text, "c{}: {}{}", lemma.class, ty(lemma.class), own(lemma.class));
            for (n, &s) in lemma.steps.iter().enumerate() {
                let step = &solution.steps[s];
                if n == 0 {
                    let _ = writeln!(text, "    is     {}", show(&step.left));
                }
                let _ =
                    writeln!(text, "    equals {}   by {}, as {} = {}", show(&step.right), step.rule, show(&step.left), show(&step.right));
            }
        }
        let _ = writeln!(text, "// so this is chosen:");
        for (i, chosen) in solution.terms.iter().enumerate() {
            if !matches!(chosen.head, Head::Leaf(_) | Head::Op(Op::Const(_))) {
                let args = chosen.args.iter().map(|&a| Tree::Class(solution.classes[a])).collect();
                let (id, term) = (solution.classes[i], Tree::Node(chosen.head.clone(), args));
                let _ = writeln!(text, "c{id}: {} = {}{}", ty(id), show(&term), own(id));
            }
        }
        text.push('\n');
    }
    text
}

/// A term in the notation of the language.
pub fn tree(axes: &Axes, term: &Tree, class: &dyn Fn(Id) -> String) -> String {
    let (head, args) = match term {
        Tree::Class(id) => return class(*id),
        Tree::Node(head, args) => (head, args),
    };
    let args: Vec<String> = args.iter().map(|a| tree(axes, a, class)).collect();
    let over = |over: &AxisSet| if over.is_empty() { String::new() } else { format!("[{}]", axes.show(*over)) };
    match head {
        Head::Leaf(l) => format!("leaf{l}"),
        Head::Product(o) if o.is_empty() => format!("({})", args.join(" * ")),
        Head::Product(o) => format!("sum{}({})", over(o), args.join(" * ")),
        Head::Combine(coefficients) => {
            let term = |(c, a): (f64, &String)| if c == 1.0 { a.clone() } else { format!("{c} * {a}") };
            let terms: Vec<String> = coefficients.iter().map(|c| c.0).zip(&args).map(term).collect();
            format!("({})", terms.join(" + "))
        }
        Head::Op(Op::Const(n)) => n.value().to_string(),
        Head::Op(Op::Max(o)) => format!("max{}({})", over(o), args.join(", ")),
        Head::Op(op @ Op::Rename(pairs)) => {
            let pairs: Vec<String> = pairs.iter().map(|&(a, b)| format!("{} -> {}", axes[a].name, axes[b].name)).collect();
            format!("{}[{}]({})", op.name(), pairs.join(", "), args.join(", "))
        }
        Head::Op(op) => format!("{}({})", op.name(), args.join(", ")),
    }
}

/// The e-graphs' chosen terms as a drawing in Graphviz's language: a cluster for each distinct part, written values as boxes.
pub fn drawing(program: &Program, options: &Options) -> String {
    let mut text = String::from("digraph simplify {\n    rankdir = BT;\n    node [fontname = monospace, fontsize = 10];\n");
    let mut count = 0;
    let mut drawn = Vec::new();
    run_watched(program, options, &mut |stage| {
        let Stage::Search { before, parts } = stage else { return };
        for (region, solution) in parts {
            if drawn.contains(&region.key) {
                continue;
            }
            drawn.push(region.key.clone());
            let lines = before.lines();
            let _ = writeln!(
                text,
                "    subgraph cluster_{count} {{\n        label = \"{} nodes, {} steps\";",
                solution.nodes,
                solution.steps.len()
            );
            for (i, chosen) in solution.terms.iter().enumerate() {
                let args = chosen.args.iter().map(|&a| Tree::Class(Id::from(a))).collect();
                let body = match chosen.head {
                    Head::Leaf(l) => lines[region.leaves[l as usize].0 as usize].0.clone(),
                    Head::Product(_) | Head::Combine(_) | Head::Op(_) => {
                        tree(&before.axes, &Tree::Node(chosen.head.clone(), args), &|id| format!("#{id}"))
                    }
                };
                let lemmas = solution.lemmas.iter().filter(|l| l.class == solution.classes[i]);
                let rules: BTreeSet<&str> = lemmas.flat_map(|l| l.steps.iter().map(|&s| solution.steps[s].rule)).collect();
                let rules: Vec<&str> = rules.into_iter().collect();
                let by = if rules.is_empty() { String::new() } else { format!("\\nby {}", rules.join(", ")) };
                let shape = if solution.node(i).is_some() { "box" } else { "ellipse" };
                let ty = solution.known[&solution.classes[i]].ty.show(&before.axes);
                let _ = writeln!(text, "        n{count}_{i} [shape = {shape}, label = \"#{i} {body}\\n{ty}{by}\"];");
                chosen.args.iter().for_each(|a| {
                    let _ = writeln!(text, "        n{count}_{a} -> n{count}_{i};");
                });
            }
            text += "    }\n";
            count += 1;
        }
    });
    text + "}\n"
}
