//! Random trees and random programs for property tests, made from a list of numbers: proptest shrinks the list, and where it ends all choices
//! are the first, which never recurses. Everything that the types allow and the text can say is made, sensible or not.

#![allow(dead_code)] // each test takes what it needs

use pushforward_ir::ast::*;
use pushforward_ir::types::DType;

pub mod programs;

/// Choices still to be made.
pub struct Choices<'a> {
    numbers: std::slice::Iter<'a, u32>,
}

impl<'a> Choices<'a> {
    pub fn new(numbers: &'a [u32]) -> Choices<'a> {
        Choices { numbers: numbers.iter() }
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.numbers.next().map_or(0, |&x| x as usize % n)
    }

    pub fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    pub fn chance(&mut self) -> bool {
        self.below(2) == 1
    }

    pub fn bits(&mut self) -> u64 {
        let mut half = || self.numbers.next().copied().unwrap_or(0) as u64;
        half() << 32 | half()
    }

    pub fn list<T>(&mut self, least: usize, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = least + self.below(most - least + 1);
        (0..count).map(|_| make(self)).collect()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance().then(|| make(self))
    }
}

/// Any tree of a whole file.
pub fn module(c: &mut Choices) -> Module {
    Module { items: c.list(0, 5, item) }
}

/// Every name that could be mistaken for something else, among some that could not.
const NAMES: &str = "x y' %12 _z block0.fc.w local loss copies along like batch exact param decay normal axis repeat output match size option fn model pf \
    const f32 i32 sqrt min relu sum a.loss infinite nano e1 a_rather_long_name_that_makes_lists_break_into_lines_soon X''";

const LABELS: &[&str] = &["block0.fc", "block{i}.loss", "{i}", "a{i}b{j}", "stream3", "local"];

/// No function is called so.
const RESERVED: &[&str] = &["size", "const", "f32", "i32"];

fn words() -> Vec<&'static str> {
    NAMES.split_whitespace().collect()
}

fn name(c: &mut Choices) -> Name {
    named(c.of(&words()))
}

fn callee(c: &mut Choices) -> Name {
    let free: Vec<&str> = words().into_iter().filter(|n| !RESERVED.contains(n)).collect();
    named(c.of(&free))
}

fn label(c: &mut Choices) -> Option<Name> {
    match c.below(4) {
        0 | 1 => None,
        2 => Some(name(c)),
        // A label that begins with a brace would be no word.
        _ => Some(named(c.of(LABELS))).filter(|l| !l.text.starts_with('{')),
    }
}

fn named(text: &str) -> Name {
    Name { text: text.to_string(), at: At::default() }
}

fn names(c: &mut Choices, least: usize) -> Vec<Name> {
    c.list(least, 4, name)
}

fn item(c: &mut Choices) -> Item {
    match c.below(5) {
        0 => Item::Axes(c.list(1, 6, axis)),
        1 => Item::Sizes(c.list(1, 6, |c| (name(c), c.maybe(|c| scalar(c, 3))))),
        2 => Item::Option { name: name(c), choices: names(c, 1) },
        3 => {
            let axes = names(c, 0);
            let variadic = !axes.is_empty() && c.chance();
            Item::Fn(Function { name: callee(c), axes, variadic, params: names(c, 0), body: block(c, 2), at: At::default() })
        }
        _ => Item::Model(Model { name: name(c), inputs: c.list(0, 4, |c| (name(c), type_expr(c))), body: block(c, 3), at: At::default() }),
    }
}

fn axis(c: &mut Choices) -> Axis {
    let def = match c.below(3) {
        0 => AxisDef::Batch,
        1 => axis_is(c, 2),
        _ => AxisDef::Like(name(c)),
    };
    Axis { name: name(c), def }
}

/// What can stand behind `axis C =`.
fn axis_is(c: &mut Choices, depth: usize) -> AxisDef {
    match c.below(if depth == 0 { 3 } else { 4 }) {
        0 => AxisDef::Size(scalar(c, 3)),
        1 => AxisDef::BatchOf(scalar(c, 2)),
        2 => AxisDef::Tuple(names(c, 0)),
        _ => AxisDef::Match { option: name(c), arms: arms(c, 0, |c| axis_is(c, depth - 1)) },
    }
}

fn arms<T>(c: &mut Choices, least: usize, mut body: impl FnMut(&mut Choices) -> T) -> Vec<Arm<T>> {
    c.list(least, 3, |c| Arm { choices: c.list(1, 3, name), body: body(c) })
}

fn type_expr(c: &mut Choices) -> TypeExpr {
    TypeExpr { dtype: c.of(&DType::ALL), axes: names(c, 0), at: At::default() }
}

fn block(c: &mut Choices, depth: usize) -> Block {
    Block { stmts: c.list(0, 4, |c| stmt(c, depth)), result: c.maybe(|c| Box::new(expr(c, 3))) }
}

fn stmt(c: &mut Choices, depth: usize) -> Stmt {
    let kind = match c.below(if depth == 0 { 6 } else { 9 }) {
        0 => StmtKind::Let { name: name(c), ty: c.maybe(type_expr), value: expr(c, 4) },
        1 => StmtKind::Axes(c.list(1, 4, axis)),
        2 => StmtKind::Param { name: name(c), ty: type_expr(c), init: init(c), exact: c.chance(), decay: c.chance() },
        3 => StmtKind::Loss { label: label(c), value: expr(c, 3) },
        4 => StmtKind::Output { name: name(c), ty: type_expr(c), value: expr(c, 3) },
        5 => StmtKind::Warn(c.of(&["", "nothing is normalised: `a` => b; // {", "é\\n"]).to_string()),
        6 => StmtKind::Match { option: name(c), arms: arms(c, 1, |c| block(c, depth - 1)) },
        7 => StmtKind::Repeat { counter: name(c), from: scalar(c, 2), to: scalar(c, 2), body: block(c, depth - 1) },
        _ => {
            let (at, along, copies) = (Box::new(expr(c, 2)), names(c, 0), c.maybe(|c| Box::new(expr(c, 2))));
            StmtKind::Local { label: label(c), at, along, loss: block(c, depth - 1), copies }
        }
    };
    Stmt { kind, at: At::default() }
}

fn init(c: &mut Choices) -> Init {
    if c.chance() { Init::Constant(scalar(c, 2)) } else { Init::Normal(scalar(c, 2)) }
}

fn expr(c: &mut Choices, depth: usize) -> Expr {
    let inner = |c: &mut Choices| Box::new(expr(c, depth - 1));
    let kind = match c.below(if depth == 0 { 3 } else { 7 }) {
        0 => ExprKind::Name(c.of(&words()).to_string()),
        1 => ExprKind::Number(number(c), c.maybe(|c| c.of(&DType::ALL))),
        2 => ExprKind::Size(name(c)),
        3 => ExprKind::Unary(c.of(&[Unary::Neg, Unary::Not]), inner(c)),
        4 => ExprKind::Binary(c.of(&Binary::ALL).0, inner(c), inner(c)),
        5 => {
            let (label, name, axes) = (label(c), callee(c), axis_args(c));
            ExprKind::Call { label, name, axes, args: c.list(0, 3, |c| expr(c, depth - 1)) }
        }
        _ => ExprKind::Match { option: name(c), arms: arms(c, 0, |c| expr(c, depth - 1)) },
    };
    Expr { kind, at: At::default() }
}

/// Any f64, the odd ones often.
fn number(c: &mut Choices) -> f64 {
    const ODD: &str = "0 1 -1 -0 0.1 1e-5 1e300 2.2250738585072014e-308 1.7976931348623157e308 inf -inf nan 2147483647 1e15 16777217";
    if c.chance() { f64::from_bits(c.bits()) } else { c.of(&ODD.split(' ').collect::<Vec<_>>()).parse().expect("a number") }
}

fn axis_args(c: &mut Choices) -> AxisArgs {
    match c.below(4) {
        0 => AxisArgs::List(names(c, 0)),
        1 => {
            let axes = names(c, 1);
            AxisArgs::Along { along: c.below(axes.len()), axes }
        }
        2 => AxisArgs::Rename(c.list(0, 3, |c| (name(c), name(c)))),
        _ => {
            let factor = |c: &mut Choices| c.of(&[1, -1, 0, 2, -3, i64::MAX, i64::MIN]);
            AxisArgs::Window { axis: name(c), terms: c.list(0, 3, |c| (factor(c), name(c))), offset: factor(c) }
        }
    }
}

fn scalar(c: &mut Choices, depth: usize) -> Scalar {
    let inner = |c: &mut Choices| Box::new(scalar(c, depth - 1));
    let kind = match c.below(if depth == 0 { 3 } else { 6 }) {
        // A sign is an operator here, and no NaN but the usual one is a size.
        0 => ScalarKind::Number(if c.below(8) == 1 { f64::NAN } else { Some(number(c).abs()).filter(|x| !x.is_nan()).unwrap_or(8.0) }),
        1 => ScalarKind::Name(c.of(&words()).to_string()),
        2 => ScalarKind::Size(name(c)),
        3 => ScalarKind::Neg(inner(c)),
        4 => ScalarKind::Binary(c.of(&[ScalarOp::Add, ScalarOp::Sub, ScalarOp::Mul, ScalarOp::Div]), inner(c), inner(c)),
        _ if c.chance() => ScalarKind::Call(ScalarFn::Sqrt, vec![scalar(c, depth - 1)]),
        _ => ScalarKind::Call(c.of(&[ScalarFn::Min, ScalarFn::Max]), c.list(2, 3, |c| scalar(c, depth - 1))),
    };
    Scalar { kind, at: At::default() }
}
