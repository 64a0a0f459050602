//! Tree to text, in the one layout: four blanks a level, no bracket that the grammar does not need, numbers with the fewest digits that read
//! back the same. `parse(print(m)) == m`. It checks nothing: a tree that no text has (a name with a blank in it) gives a text that does not
//! parse. Read [`print`].

use std::fmt::Write;

use crate::ast::{
    Arm, Axis, AxisArgs, AxisDef, Block, Expr, ExprKind, Function, Init, Item, Model, Module, Name, Scalar, ScalarFn, ScalarKind, ScalarOp,
    Stmt, StmtKind, TypeExpr, Unary, VERSION,
};
use crate::parse::special;
use crate::types::DType;

/// Lists are broken into lines where they would be longer than this. Expressions are not broken.
const WIDTH: usize = 140;

/// The text of a file.
pub fn print(module: &Module) -> String {
    let mut out = format!("pf {VERSION}\n");
    let mut before = None;
    for item in &module.items {
        let kind = std::mem::discriminant(item);
        if before != Some(kind) || matches!(item, Item::Fn(_) | Item::Model(_)) {
            out.push('\n');
        }
        before = Some(kind);
        print_item(&mut out, item);
    }
    out
}

/// The text of an expression.
pub fn expr(e: &Expr) -> String {
    expr_at(e, 0)
}

/// The text of arithmetic on sizes.
pub fn scalar(s: &Scalar) -> String {
    scalar_at(s, 0)
}

fn print_item(out: &mut String, item: &Item) {
    match item {
        Item::Sizes(sizes) => {
            let texts = sizes.iter().map(|(name, default)| match default {
                Some(value) => format!("{} = {}", name.text, scalar(value)),
                None => name.text.clone(),
            });
            definitions(out, 0, "size", texts.collect());
        }
        Item::Option { name, choices } => {
            let choices: Vec<&str> = choices.iter().map(|c| c.text.as_str()).collect();
            line(out, 0, &format!("option {} = {};", name.text, choices.join(" | ")));
        }
        Item::Axes(axes) => definitions(out, 0, "axis", axes.iter().map(axis_def).collect()),
        Item::Fn(f) => print_function(out, f),
        Item::Model(m) => print_model(out, m),
    }
}

fn print_function(out: &mut String, f: &Function) {
    let mut axes = names(&f.axes);
    if f.variadic {
        axes.push_str("..");
    }
    let brackets = if axes.is_empty() { String::new() } else { format!("[{axes}]") };
    line(out, 0, &format!("fn {}{brackets}({}) {{", f.name.text, names(&f.params)));
    print_block(out, 1, &f.body);
    line(out, 0, "}");
}

fn print_model(out: &mut String, m: &Model) {
    let inputs: Vec<String> = m.inputs.iter().map(|(name, ty)| format!("{}: {}", name.text, type_expr(ty))).collect();
    let short = format!("model {}({}) {{", m.name.text, inputs.join(", "));
    if short.len() <= WIDTH {
        line(out, 0, &short);
    } else {
        line(out, 0, &format!("model {}(", m.name.text));
        inputs.iter().for_each(|input| line(out, 1, &format!("{input},")));
        line(out, 0, ") {");
    }
    print_block(out, 1, &m.body);
    line(out, 0, "}");
}

fn print_block(out: &mut String, level: usize, block: &Block) {
    for stmt in &block.stmts {
        print_stmt(out, level, stmt);
    }
    if let Some(result) = &block.result {
        // Where a mark could begin, its word is read as the mark.
        let first = leftmost(result);
        let mark = match &first.kind {
            ExprKind::Name(name) => name.as_str(),
            ExprKind::Call { label: None, name, .. } => name.text.as_str(),
            ExprKind::Call { .. }
            | ExprKind::Number(..)
            | ExprKind::Size(_)
            | ExprKind::Unary(..)
            | ExprKind::Binary(..)
            | ExprKind::Match { .. } => "",
        };
        if matches!(mark, "local" | "loss" | "copies") {
            line(out, level, &format!("({})", expr(result)));
        } else {
            valued(out, level, "", result, "");
        }
    }
}

fn print_stmt(out: &mut String, level: usize, stmt: &Stmt) {
    match &stmt.kind {
        StmtKind::Axes(axes) => definitions(out, level, "axis", axes.iter().map(axis_def).collect()),
        StmtKind::Param { name, ty, init, exact, decay } => {
            let init = match init {
                Init::Constant(value) => format!("= {}", scalar(value)),
                Init::Normal(deviation) => format!("~ normal({})", scalar(deviation)),
            };
            let (exact, decay) = (if *exact { "exact " } else { "" }, if *decay { " decay" } else { "" });
            line(out, level, &format!("{exact}param {}: {} {init}{decay};", name.text, type_expr(ty)));
        }
        StmtKind::Let { name, ty, value } => {
            let ty = ty.as_ref().map(|t| format!(": {}", type_expr(t))).unwrap_or_default();
            valued(out, level, &format!("{}{ty} = ", name.text), value, ";");
        }
        StmtKind::Local { label, at, along, loss, copies } => {
            let along = if along.is_empty() { String::new() } else { format!(" along {}", names(along)) };
            let head = format!("local {}{along}", marked(label, at));
            let tail = copies.as_ref().map(|e| format!(" copies {};", expr(e))).unwrap_or_default();
            let mut inside = String::new();
            print_block(&mut inside, 0, loss);
            let short = format!("{head} {{ {} }}{tail}", inside.trim_end());
            if loss.stmts.is_empty() && !inside.trim_end().contains('\n') && 4 * level + short.len() <= WIDTH {
                return line(out, level, if loss.result.is_some() { short } else { format!("{head} {{}}{tail}") }.as_str());
            }
            line(out, level, &format!("{head} {{"));
            print_block(out, level + 1, loss);
            line(out, level, &format!("}}{tail}"));
        }
        StmtKind::Loss { label, value } => line(out, level, &format!("loss {};", marked(label, value))),
        StmtKind::Repeat { counter, from, to, body } => {
            line(out, level, &format!("repeat {} = {} .. {} {{", counter.text, scalar(from), scalar(to)));
            print_block(out, level + 1, body);
            line(out, level, "}");
        }
        StmtKind::Match { option, arms } => {
            line(out, level, &format!("match {} {{", option.text));
            for Arm { choices, body } in arms {
                let empty = body.stmts.is_empty() && body.result.is_none();
                line(out, level + 1, &format!("{} => {{{}", alternatives(choices), if empty { "}" } else { "" }));
                if !empty {
                    print_block(out, level + 2, body);
                    line(out, level + 1, "}");
                }
            }
            line(out, level, "}");
        }
        StmtKind::Warn(text) => line(out, level, &format!("warn \"{text}\";")),
        StmtKind::Output { name, ty, value } => valued(out, level, &format!("output {}: {} = ", name.text, type_expr(ty)), value, ";"),
    }
}

/// `label: value`; without a label, a value that begins with one of its own gets brackets.
fn marked(label: &Option<Name>, value: &Expr) -> String {
    match label {
        Some(label) => format!("{}: {}", label.text, expr(value)),
        None if matches!(leftmost(value).kind, ExprKind::Call { label: Some(_), .. }) => format!("({})", expr(value)),
        None => expr(value),
    }
}

/// The expression that the text of `e` begins with.
fn leftmost(e: &Expr) -> &Expr {
    match &e.kind {
        ExprKind::Binary(op, l, _) if level_of(l) >= op.level() + op.compares() as u8 => leftmost(l),
        ExprKind::Binary(..)
        | ExprKind::Name(_)
        | ExprKind::Number(..)
        | ExprKind::Size(_)
        | ExprKind::Unary(..)
        | ExprKind::Call { .. }
        | ExprKind::Match { .. } => e,
    }
}

/// `before value after`, a long `match` with a line for each choice.
fn valued(out: &mut String, level: usize, before: &str, value: &Expr, after: &str) {
    let short = format!("{before}{}{after}", expr(value));
    match &value.kind {
        ExprKind::Match { option, arms } if 4 * level + short.len() > WIDTH => {
            line(out, level, &format!("{before}match {} {{", option.text));
            arms.iter().for_each(|arm| valued(out, level + 1, &format!("{} => ", alternatives(&arm.choices)), &arm.body, ","));
            line(out, level, &format!("}}{after}"));
        }
        ExprKind::Match { .. }
        | ExprKind::Name(_)
        | ExprKind::Number(..)
        | ExprKind::Size(_)
        | ExprKind::Unary(..)
        | ExprKind::Binary(..)
        | ExprKind::Call { .. } => line(out, level, &short),
    }
}

fn definitions(out: &mut String, level: usize, word: &str, texts: Vec<String>) {
    let short = format!("{word} {};", texts.join(", "));
    if 4 * level + short.len() <= WIDTH {
        return line(out, level, &short);
    }
    line(out, level, word);
    for (i, text) in texts.iter().enumerate() {
        let end = if i + 1 == texts.len() { ";" } else { "," };
        line(out, level + 1, &format!("{text}{end}"));
    }
}

fn line(out: &mut String, level: usize, text: &str) {
    let _ = writeln!(out, "{:1$}{text}", "", 4 * level); // writing to a string cannot fail
}

fn axis_def(axis: &Axis) -> String {
    let name = &axis.name.text;
    match &axis.def {
        AxisDef::Batch => name.clone(),
        AxisDef::Like(other) => format!("{name} like {}", other.text),
        AxisDef::BatchOf(_) | AxisDef::Size(_) | AxisDef::Tuple(_) | AxisDef::Match { .. } => format!("{name} = {}", axis_is(&axis.def)),
    }
}

/// What stands behind `axis C =`.
fn axis_is(def: &AxisDef) -> String {
    match def {
        AxisDef::BatchOf(size) => match scalar(size) {
            negative if negative.starts_with('-') => format!("batch ({negative})"),
            size => format!("batch {size}"),
        },
        AxisDef::Size(size) => scalar(size),
        AxisDef::Tuple(parts) => match &parts[..] {
            [one] => format!("({},)", one.text),
            _ => format!("({})", names(parts)),
        },
        AxisDef::Match { option, arms } => {
            let arms: Vec<String> = arms.iter().map(|arm| format!("{} => {}", alternatives(&arm.choices), axis_is(&arm.body))).collect();
            format!("match {} {{ {} }}", option.text, arms.join(", "))
        }
        // No text has these two here.
        AxisDef::Batch | AxisDef::Like(_) => String::new(),
    }
}

/// `local | ln`
fn alternatives(choices: &[Name]) -> String {
    choices.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join(" | ")
}

fn type_expr(ty: &TypeExpr) -> String {
    format!("{}[{}]", ty.dtype.name(), names(&ty.axes))
}

fn names(names: &[Name]) -> String {
    names.iter().map(|n| n.text.as_str()).collect::<Vec<_>>().join(", ")
}

/// Above every binary operator.
const UNARY: u8 = 5;
const PRIMARY: u8 = 6;

fn level_of(e: &Expr) -> u8 {
    match &e.kind {
        ExprKind::Binary(op, ..) => op.level(),
        ExprKind::Unary(..) => UNARY,
        ExprKind::Name(_) | ExprKind::Number(..) | ExprKind::Size(_) | ExprKind::Call { .. } | ExprKind::Match { .. } => PRIMARY,
    }
}

/// The text of `e` where operators below level `least` need brackets.
fn expr_at(e: &Expr, least: u8) -> String {
    let text = match &e.kind {
        ExprKind::Name(name) => name.clone(),
        ExprKind::Number(value, dtype) => number(*value, *dtype),
        ExprKind::Size(axis) => format!("size({})", axis.text),
        ExprKind::Unary(Unary::Neg, x) => format!("-{}", expr_at(x, UNARY)),
        ExprKind::Unary(Unary::Not, x) => format!("!{}", expr_at(x, UNARY)),
        ExprKind::Binary(op, l, r) => {
            let spelling = crate::ast::Binary::ALL.iter().find(|(o, _)| o == op).map_or("", |(_, text)| text);
            let left = expr_at(l, op.level() + op.compares() as u8);
            format!("{left} {spelling} {}", expr_at(r, op.level() + 1))
        }
        ExprKind::Call { label, name, axes, args } => {
            let label = label.as_ref().map(|l| format!("{}: ", l.text)).unwrap_or_default();
            let args: Vec<String> = args.iter().map(expr).collect();
            format!("{label}{}{}({})", name.text, axis_args(axes), args.join(", "))
        }
        ExprKind::Match { option, arms } => {
            let arms: Vec<String> = arms.iter().map(|arm| format!("{} => {}", alternatives(&arm.choices), expr(&arm.body))).collect();
            format!("match {} {{ {} }}", option.text, arms.join(", "))
        }
    };
    if level_of(e) < least { format!("({text})") } else { text }
}

fn axis_args(axes: &AxisArgs) -> String {
    match axes {
        AxisArgs::List(axes) if axes.is_empty() => String::new(),
        AxisArgs::List(axes) => format!("[{}]", names(axes)),
        AxisArgs::Along { axes, along } => {
            let mark = |i| if i == *along { "along " } else { "" };
            let axes: Vec<String> = axes.iter().enumerate().map(|(i, a)| format!("{}{}", mark(i), a.text)).collect();
            format!("[{}]", axes.join(", "))
        }
        AxisArgs::Rename(pairs) if pairs.is_empty() => "[->]".to_string(),
        AxisArgs::Rename(pairs) => {
            let pairs: Vec<String> = pairs.iter().map(|(from, to)| format!("{} -> {}", from.text, to.text)).collect();
            format!("[{}]", pairs.join(", "))
        }
        AxisArgs::Window { axis, terms, offset } => {
            let terms = terms.iter().map(|(factor, a)| match factor.unsigned_abs() {
                1 => (*factor < 0, a.text.clone()),
                times => (*factor < 0, format!("{times} * {}", a.text)),
            });
            let mut parts: Vec<(bool, String)> = terms.collect();
            if *offset != 0 || parts.is_empty() {
                parts.push((*offset < 0, offset.unsigned_abs().to_string()));
            }
            let mut text = format!("[{} = ", axis.text);
            for (i, (negative, part)) in parts.iter().enumerate() {
                text.push_str(match (i, negative) {
                    (0, false) => "",
                    (0, true) => "-",
                    (_, false) => " + ",
                    (_, true) => " - ",
                });
                text.push_str(part);
            }
            text + "]"
        }
    }
}

/// A constant: as a number where it has digits and no sign, in `const(..)` otherwise.
fn number(value: f64, dtype: Option<DType>) -> String {
    let name = dtype.map_or("", DType::name);
    let spelled = match dtype {
        None | Some(DType::F64) => true,
        Some(DType::F32) => value.is_infinite() || value.is_nan() || (value as f32).is_finite(),
        Some(DType::I32) => value.fract() == 0.0 && (i32::MIN as f64..=i32::MAX as f64).contains(&value),
        Some(DType::Bool) => value.to_bits() == 0 || value == 1.0,
    };
    let word = if value.is_nan() { "nan" } else { "inf" };
    let suffix = |joint: &str| if name.is_empty() { String::new() } else { format!("{joint}{name}") };
    let text = if value.is_finite() { digits(value.abs()) + name } else { format!("{word}{}", suffix("_")) };
    let plain = special(word).map(|(v, _)| v.to_bits()).filter(|_| !value.is_finite());
    match plain {
        _ if !spelled => format!("const(0x{:016x}{})", value.to_bits(), suffix("_")),
        Some(bits) if value.to_bits() == bits => text,
        Some(bits) if (-value).to_bits() == bits => format!("const(-{text})"),
        Some(_) => format!("const(0x{:016x}{})", value.to_bits(), suffix("_")),
        None if value.is_sign_negative() => format!("const(-{text})"),
        None => text,
    }
}

/// The fewest digits that read back as the same f64; whole numbers of moderate size without a point.
pub(crate) fn digits(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value}") } else { format!("{value:?}") }
}

fn scalar_at(s: &Scalar, least: u8) -> String {
    let (level, text) = match &s.kind {
        ScalarKind::Number(value) if value.is_nan() => (2, "nan".to_string()),
        ScalarKind::Number(value) => (2, digits(*value)),
        ScalarKind::Name(name) => (2, name.clone()),
        ScalarKind::Size(axis) => (2, format!("size({})", axis.text)),
        ScalarKind::Neg(x) => (2, format!("-{}", scalar_at(x, 2))),
        ScalarKind::Binary(op, l, r) => {
            let (level, spelling) = match op {
                ScalarOp::Add => (0, "+"),
                ScalarOp::Sub => (0, "-"),
                ScalarOp::Mul => (1, "*"),
                ScalarOp::Div => (1, "/"),
            };
            (level, format!("{} {spelling} {}", scalar_at(l, level), scalar_at(r, level + 1)))
        }
        ScalarKind::Call(f, args) => {
            let name = match f {
                ScalarFn::Sqrt => "sqrt",
                ScalarFn::Min => "min",
                ScalarFn::Max => "max",
            };
            (2, format!("{name}({})", args.iter().map(scalar).collect::<Vec<_>>().join(", ")))
        }
    };
    if level < least { format!("({text})") } else { text }
}
