//! Flat program to tree, so that passes' work is printed in the language that people write. Axes become numbers, parameters and inputs are
//! called by their names, every other value gets a statement `%n: type = op[axes](operands);`. The tree says all that the program says but
//! origins, names of values, and the numbers of values. It verifies nothing, and of a broken program it prints what it can.
//!
//! Names that the language does not have (a duplicate axis, a program without a name) are changed so that the text stays readable.
//! Read [`to_module`].

use crate::ast::{
    self, At, AxisArgs, AxisDef, Binary, Block, Expr, ExprKind, Item, Model, Module, Name, Scalar, ScalarKind, Stmt, StmtKind, TypeExpr,
    Unary,
};
use crate::axis::{AxisId, AxisSet};
use crate::op::{Number, Op};
use crate::print;
use crate::program::{Init, ParamDecl, Port, Program, Value};
use crate::types::{DType, Type};

/// The tree of a flat program.
pub fn to_module(program: &Program) -> Module {
    let cx = Cx::new(program);
    let mut items: Vec<Item> = program.axes.ids().map(|a| Item::Axes(vec![cx.axis_def(a)])).collect();
    let mut stmts: Vec<StmtKind> = program.params.iter().map(|p| cx.param(p)).collect();
    let computed = program.values().filter(|&v| !matches!(program.op(v), Op::Input(_) | Op::Param(_)));
    stmts.extend(computed.map(|v| StmtKind::Let {
        name: name(&cx.values[v.0 as usize]),
        ty: Some(cx.type_expr(program.ty(v))),
        value: cx.node(v),
    }));
    for loss in &program.losses {
        let label = Some(name(&loss.name));
        stmts.push(match &loss.local {
            None => StmtKind::Loss { label, value: cx.value(loss.value) },
            Some(local) => StmtKind::Local {
                label,
                at: Box::new(cx.value(local.at)),
                along: cx.axes(local.along),
                loss: Block { stmts: Vec::new(), result: Some(Box::new(cx.value(loss.value))) },
                copies: local.copies.map(|c| Box::new(cx.value(c))),
            },
        });
    }
    stmts.extend(program.outputs.iter().map(|o| StmtKind::Output {
        name: name(&o.port.name),
        ty: cx.port(&o.port),
        value: cx.value(o.value),
    }));
    items.push(Item::Model(Model {
        name: name(if program.name.is_empty() { "unnamed" } else { &program.name }),
        inputs: program.inputs.iter().map(|p| (name(&p.name), cx.port(p))).collect(),
        body: Block { stmts: stmts.into_iter().map(|kind| Stmt { kind, at: At::default() }).collect(), result: None },
        at: At::default(),
    }));
    Module { items }
}

impl Program {
    /// [`to_module`].
    pub fn to_module(&self) -> Module {
        to_module(self)
    }

    /// Name and text of every value, as they stand in the program's text; a port is its name.
    pub fn lines(&self) -> Vec<(String, String)> {
        let cx = Cx::new(self);
        let text = |v: Value| match self.op(v) {
            Op::Input(_) | Op::Param(_) => cx.values[v.0 as usize].clone(),
            _ => print::expr(&cx.node(v)),
        };
        self.values().map(|v| (cx.values[v.0 as usize].clone(), text(v))).collect()
    }

    /// The program in the text form.
    pub fn to_text(&self) -> String {
        print::print(&to_module(self))
    }
}

struct Cx<'a> {
    program: &'a Program,
    /// What each axis is called.
    axes: Vec<String>,
    /// What each value is called.
    values: Vec<String>,
}

impl<'a> Cx<'a> {
    fn new(program: &'a Program) -> Cx<'a> {
        let mut axes: Vec<String> = Vec::new();
        for a in program.axes.ids() {
            let mut text = program.axes[a].name.clone();
            while axes.contains(&text) {
                text.push('\''); // two axes of one name and different sizes
            }
            axes.push(text);
        }
        let mut count = 0;
        let number = |count: &mut usize| {
            *count += 1;
            format!("%{}", *count - 1)
        };
        let values = program.nodes.iter().map(|node| match node.op {
            Op::Input(i) => program.inputs.get(i as usize).map_or_else(|| format!("input.{i}"), |p| p.name.clone()),
            Op::Param(i) => program.params.get(i as usize).map_or_else(|| format!("param.{i}"), |p| p.port.name.clone()),
            _ => number(&mut count),
        });
        Cx { program, axes, values: values.collect() }
    }

    fn axis(&self, a: AxisId) -> Name {
        name(self.axes.get(a.0 as usize).map_or("_", String::as_str))
    }

    fn axes(&self, axes: AxisSet) -> Vec<Name> {
        self.program.axes.in_order(axes).into_iter().map(|a| self.axis(a)).collect()
    }

    fn axis_def(&self, a: AxisId) -> ast::Axis {
        let axis = &self.program.axes[a];
        let size = scalar(axis.size as f64);
        let def = match axis.like {
            _ if self.program.batch == Some(a) => AxisDef::BatchOf(size),
            Some(like) => AxisDef::Like(self.axis(like)),
            None => AxisDef::Size(size),
        };
        ast::Axis { name: self.axis(a), def }
    }

    fn type_expr(&self, ty: Type) -> TypeExpr {
        TypeExpr { dtype: ty.dtype, axes: self.axes(ty.axes), at: At::default() }
    }

    fn port(&self, port: &Port) -> TypeExpr {
        TypeExpr { dtype: port.dtype, axes: port.order.iter().map(|&a| self.axis(a)).collect(), at: At::default() }
    }

    fn param(&self, param: &ParamDecl) -> StmtKind {
        let init = match param.init {
            Init::Constant(value) => ast::Init::Constant(scalar(value)),
            Init::Normal(deviation) => ast::Init::Normal(scalar(deviation)),
        };
        let ParamDecl { port, exact, decay, .. } = param;
        StmtKind::Param { name: name(&port.name), ty: self.port(port), init, exact: *exact, decay: *decay }
    }

    fn value(&self, v: Value) -> Expr {
        expr(ExprKind::Name(self.values.get(v.0 as usize).cloned().unwrap_or_else(|| format!("{v:?}"))))
    }

    fn node(&self, v: Value) -> Expr {
        let node = self.program.node(v);
        let args: Vec<Expr> = node.args.iter().map(|&a| self.value(a)).collect();
        let call = |label: Option<String>, axes: AxisArgs, args: Vec<Expr>| {
            expr(ExprKind::Call { label: label.map(|l| name(&l)), name: name(node.op.name()), axes, args })
        };
        let over = |axes: AxisSet| AxisArgs::List(self.axes(axes));
        let one = |a: AxisId| AxisArgs::List(vec![self.axis(a)]);
        let plain = AxisArgs::List(Vec::new());
        match &node.op {
            Op::Add => self.infix(v, Binary::Add).unwrap_or_else(|| call(None, plain, args)),
            Op::Sub => self.infix(v, Binary::Sub).unwrap_or_else(|| call(None, plain, args)),
            Op::Mul => self.infix(v, Binary::Mul).unwrap_or_else(|| call(None, plain, args)),
            Op::Div => self.infix(v, Binary::Div).unwrap_or_else(|| call(None, plain, args)),
            Op::Lt => self.infix(v, Binary::Lt).unwrap_or_else(|| call(None, plain, args)),
            Op::Le => self.infix(v, Binary::Le).unwrap_or_else(|| call(None, plain, args)),
            Op::Gt => self.infix(v, Binary::Gt).unwrap_or_else(|| call(None, plain, args)),
            Op::Ge => self.infix(v, Binary::Ge).unwrap_or_else(|| call(None, plain, args)),
            Op::Eq => self.infix(v, Binary::Eq).unwrap_or_else(|| call(None, plain, args)),
            Op::Ne => self.infix(v, Binary::Ne).unwrap_or_else(|| call(None, plain, args)),
            Op::And => self.infix(v, Binary::And).unwrap_or_else(|| call(None, plain, args)),
            Op::Or => self.infix(v, Binary::Or).unwrap_or_else(|| call(None, plain, args)),
            Op::Neg => self.prefix(Unary::Neg, args),
            Op::Not => self.prefix(Unary::Not, args),
            Op::Const(number) => constant(*number),
            Op::Input(_) | Op::Param(_) => self.value(v),
            Op::Seed(seed) => call(None, plain, vec![expr(ExprKind::Number(seed.0 as f64, None))]),
            Op::Iota(a) | Op::Gather(a) => call(None, one(*a), args),
            Op::Delta((a, b)) => call(None, AxisArgs::List(vec![self.axis(*a), self.axis(*b)]), args),
            Op::Normal(noise) => {
                let axes: Vec<Name> = noise.order.iter().map(|&a| self.axis(a)).collect();
                let axes = match noise.order.iter().position(|&a| Some(a) == noise.direction) {
                    Some(along) => AxisArgs::Along { axes, along },
                    None => AxisArgs::List(axes),
                };
                call(Some(format!("stream{}", noise.stream)), axes, args)
            }
            Op::Sum(axes) | Op::Max(axes) | Op::Contract(axes) => call(None, over(*axes), args),
            Op::Rename(pairs) => call(None, AxisArgs::Rename(pairs.iter().map(|&(a, b)| (self.axis(a), self.axis(b))).collect()), args),
            Op::Window(affine) => {
                let terms = affine.terms.iter().map(|&(factor, a)| (factor, self.axis(a))).collect();
                call(None, AxisArgs::Window { axis: self.axis(affine.axis), terms, offset: affine.offset }, args)
            }
            Op::Cast(dtype) => call(None, AxisArgs::List(vec![name(dtype.name())]), args),
            Op::Activity(layer) => call(Some(layer.clone()), plain, args),
            Op::Exp | Op::Log | Op::Tanh | Op::Erf | Op::Sqrt | Op::Rsqrt | Op::Relu | Op::Select | Op::StopGradient => {
                call(None, plain, args)
            }
        }
    }

    /// `x + y`, but not for an outer product, of which a person who writes it so is warned: a call says that it is meant.
    fn infix(&self, v: Value, op: Binary) -> Option<Expr> {
        let [x, y] = self.program.args(v)[..] else { return None };
        let (a, b) = (self.program.axes_of(x), self.program.axes_of(y));
        let outer = !a.is_empty() && !b.is_empty() && (a & b).is_empty();
        (!outer).then(|| expr(ExprKind::Binary(op, Box::new(self.value(x)), Box::new(self.value(y)))))
    }

    fn prefix(&self, op: Unary, args: Vec<Expr>) -> Expr {
        let x = args.into_iter().next().unwrap_or_else(|| expr(ExprKind::Name("_".into())));
        expr(ExprKind::Unary(op, Box::new(x)))
    }
}

/// The number alone: its dtype is that of the statement.
fn constant(number: Number) -> Expr {
    expr(ExprKind::Number(shortest(number), None))
}

/// Of the numbers that round to this one in its dtype, the one with the fewest digits: 0.1 for the f32 nearest to it.
fn shortest(number: Number) -> f64 {
    let value = number.value();
    let short = match number.dtype {
        DType::F32 if value.is_finite() => format!("{:?}", value as f32).parse().unwrap_or(value),
        DType::F32 | DType::F64 | DType::I32 | DType::Bool => value,
    };
    if Number::new(short, number.dtype) == number { short } else { value }
}

fn scalar(value: f64) -> Scalar {
    let number = |v: f64| Scalar { kind: ScalarKind::Number(v), at: At::default() };
    let kind = match value.is_sign_negative() && !value.is_nan() {
        true => ScalarKind::Neg(Box::new(number(-value))),
        false if value.is_nan() => ScalarKind::Number(f64::NAN),
        false => ScalarKind::Number(value),
    };
    Scalar { kind, at: At::default() }
}

fn expr(kind: ExprKind) -> Expr {
    Expr { kind, at: At::default() }
}

fn name(text: &str) -> Name {
    Name { text: text.to_string(), at: At::default() }
}
