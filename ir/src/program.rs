//! The flat program: SSA values in topological order, with bound sizes. Passes map programs to programs through [`Builder`].
//!
//! Read [`Program`] first, then [`Builder::op`]. The builder shares equal ops as it goes (same op, same operands: same value), so a mask that
//! primal, tangent and update all need exists once. Nothing here knows a pass, a loss or a model.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::axis::{Axes, AxisId, AxisSet};
use crate::diag::Span;
use crate::infer::{TypeError, infer};
use crate::op::{Number, Op};
use crate::types::{DType, Type};

/// A value of one program: an index into [`Program::nodes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u32);

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// One SSA value: an op on earlier values.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    pub op: Op,
    pub args: Vec<Value>,
    pub ty: Type,
    /// Where it came from: index into [`Program::origins`].
    pub origin: u32,
}

/// A place in the text: the expression, and through `parent` the calls that led to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    pub span: Span,
    /// The call inside which the expression stands, if any.
    pub parent: Option<u32>,
    /// Scoped name of the layer: `block2.fc`, empty at the top.
    pub scope: String,
}

/// A tensor at the border: row-major in the order `order`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    pub name: String,
    pub dtype: DType,
    pub order: Vec<AxisId>,
}

impl Port {
    pub fn ty(&self) -> Type {
        Type::new(self.dtype, AxisSet::of(self.order.iter().copied()))
    }
}

/// Initial distribution of a parameter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Init {
    /// The same number everywhere.
    Constant(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
}

/// A trained tensor.
#[derive(Clone, PartialEq, Debug)]
pub struct ParamDecl {
    pub port: Port,
    pub init: Init,
    /// Takes exact gradients whatever the algorithm.
    pub exact: bool,
    /// Subject to weight decay.
    pub decay: bool,
}

/// A mark: this value is a loss. The objective is its mean over its own axes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    pub name: String,
    /// The conventional loss.
    pub value: Value,
    pub local: Option<Local>,
}

/// What makes a loss local.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Local {
    /// The value that the loss is a loss of: copies are made here, and a greedy cut comes after it.
    pub at: Value,
    /// The axes along which the loss is replicated.
    pub along: AxisSet,
    /// The replicated loss, once `replicate` has written it out: the conventional loss's axes and `along`.
    pub copies: Option<Value>,
}

/// A result of the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    pub port: Port,
    pub value: Value,
}

/// A flat program with bound sizes.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Program {
    pub name: String,
    pub axes: Axes,
    /// The axis of examples, the one whose size the caller chooses.
    pub batch: Option<AxisId>,
    pub inputs: Vec<Port>,
    pub params: Vec<ParamDecl>,
    pub nodes: Vec<Node>,
    pub losses: Vec<Loss>,
    pub outputs: Vec<Output>,
    pub origins: Vec<Origin>,
    /// Scoped names of values in the model's text (`block0.fc.pre`): for requests from outside; passes drop them.
    pub names: BTreeMap<String, Value>,
}

impl Program {
    pub fn node(&self, v: Value) -> &Node {
        &self.nodes[v.0 as usize]
    }

    pub fn op(&self, v: Value) -> &Op {
        &self.node(v).op
    }

    pub fn args(&self, v: Value) -> &[Value] {
        &self.node(v).args
    }

    pub fn ty(&self, v: Value) -> Type {
        self.node(v).ty
    }

    pub fn axes_of(&self, v: Value) -> AxisSet {
        self.node(v).ty.axes
    }

    /// All values, operands before users.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = Value> + use<> {
        (0..self.nodes.len() as u32).map(Value)
    }

    pub fn input(&self, name: &str) -> Option<u32> {
        self.inputs.iter().position(|p| p.name == name).map(|i| i as u32)
    }

    pub fn param(&self, name: &str) -> Option<u32> {
        self.params.iter().position(|p| p.port.name == name).map(|i| i as u32)
    }

    pub fn output(&self, name: &str) -> Option<&Output> {
        self.outputs.iter().find(|o| o.port.name == name)
    }

    /// The sizes of a border tensor, in its order.
    pub fn shape(&self, port: &Port) -> Vec<usize> {
        port.order.iter().map(|&a| self.axes.size(a)).collect()
    }

    /// Values that a root (output or loss mark) needs, indexed by value number.
    pub fn live(&self) -> Vec<bool> {
        let mut roots: Vec<Value> = self.outputs.iter().map(|o| o.value).collect();
        for loss in &self.losses {
            roots.push(loss.value);
            roots.extend(loss.local.iter().flat_map(|l| [Some(l.at), l.copies]).flatten());
        }
        self.reaches(roots)
    }

    /// Values on which `roots` depend, the roots among them.
    pub fn reaches(&self, roots: impl IntoIterator<Item = Value>) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        roots.into_iter().for_each(|r| live[r.0 as usize] = true);
        for v in self.values().rev() {
            if live[v.0 as usize] {
                self.args(v).iter().for_each(|a| live[a.0 as usize] = true);
            }
        }
        live
    }

    /// Values that depend on one of `sources` (themselves among them), not looking past values for which `stop` holds.
    pub fn depends(&self, sources: &[Value], stop: impl Fn(Value) -> bool) -> Vec<bool> {
        let mut reached = vec![false; self.nodes.len()];
        sources.iter().for_each(|s| reached[s.0 as usize] = true);
        for v in self.values() {
            if self.args(v).iter().any(|a| reached[a.0 as usize]) && !stop(v) {
                reached[v.0 as usize] = true;
            }
        }
        reached
    }
}

/// Appends values to a program, typing and sharing them.
pub struct Builder {
    program: Program,
    known: HashMap<(Op, Vec<Value>), Value>,
    /// The origin that new values get.
    pub origin: u32,
}

impl Builder {
    pub fn new(program: Program) -> Builder {
        let known = program.values().map(|v| ((program.op(v).clone(), program.args(v).to_vec()), v)).collect();
        Builder { program, known, origin: 0 }
    }

    /// An empty program with the border, axes and origins of `program`: what a pass starts from that rebuilds values.
    /// Inputs and parameters keep their indices.
    pub fn like(program: &Program) -> Builder {
        Builder::new(Program {
            nodes: Vec::new(),
            losses: Vec::new(),
            outputs: Vec::new(),
            names: BTreeMap::new(),
            name: program.name.clone(),
            axes: program.axes.clone(),
            batch: program.batch,
            inputs: program.inputs.clone(),
            params: program.params.clone(),
            origins: program.origins.clone(),
        })
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    /// For declarations only (axes, inputs, parameters, marks, outputs): values are added through [`Builder::op`].
    pub fn program_mut(&mut self) -> &mut Program {
        &mut self.program
    }

    pub fn finish(self) -> Program {
        self.program
    }

    /// Adds `op(args)`, or finds the value that already computes it.
    pub fn try_op(&mut self, op: Op, args: &[Value]) -> Result<Value, TypeError> {
        let key = (op, args.to_vec());
        if let Some(&v) = self.known.get(&key) {
            return Ok(v);
        }
        let types: Vec<Type> = args.iter().map(|&a| self.program.ty(a)).collect();
        let ty = infer(&self.program, &key.0, &types)?;
        let value = Value(self.program.nodes.len() as u32);
        self.program.nodes.push(Node { op: key.0.clone(), args: key.1.clone(), ty, origin: self.origin });
        self.known.insert(key, value);
        Ok(value)
    }

    /// [`Builder::try_op`] for passes, which know their operands to fit.
    pub fn op(&mut self, op: Op, args: &[Value]) -> Value {
        let name = op.name();
        self.try_op(op, args).unwrap_or_else(|e| panic!("a pass built an ill-typed `{name}`: {e}"))
    }

    pub fn ty(&self, v: Value) -> Type {
        self.program.ty(v)
    }

    pub fn axes_of(&self, v: Value) -> AxisSet {
        self.program.axes_of(v)
    }

    pub fn constant(&mut self, value: f64, dtype: DType) -> Value {
        self.op(Op::Const(Number::new(value, dtype)), &[])
    }

    /// `x * factor`; `x` itself for 1.
    pub fn scale(&mut self, x: Value, factor: f64) -> Value {
        if factor == 1.0 {
            return x;
        }
        let c = self.constant(factor, self.ty(x).dtype);
        self.op(Op::Mul, &[x, c])
    }

    /// Sum of `x` over all of `axes`: those on which it does not depend become a factor, their size.
    pub fn sum(&mut self, x: Value, axes: AxisSet) -> Value {
        let present = axes & self.axes_of(x);
        let factor = self.program.axes.count(axes - present);
        let y = if present.is_empty() { x } else { self.op(Op::Sum(present), &[x]) };
        self.scale(y, factor as f64)
    }

    /// Sum over `axes` of the product of `factors`, absent axes as in [`Builder::sum`]. No axes left: a plain product.
    pub fn contract(&mut self, factors: &[Value], axes: AxisSet) -> Value {
        let join = factors.iter().fold(AxisSet::EMPTY, |j, &f| j | self.axes_of(f));
        let present = axes & join;
        let absent = self.program.axes.count(axes - present);
        let y = match (factors, present.is_empty()) {
            ([one], true) => *one,
            ([one], false) => self.op(Op::Sum(present), &[*one]),
            (many, true) => {
                let (first, rest) = many.split_first().expect("a product has a factor");
                rest.iter().fold(*first, |l, &r| self.op(Op::Mul, &[l, r]))
            }
            (many, false) => self.op(Op::Contract(present), many),
        };
        self.scale(y, absent as f64)
    }

    /// `x` with its axes renamed; pairs whose source it lacks are ignored.
    pub fn rename(&mut self, x: Value, pairs: &[(AxisId, AxisId)]) -> Value {
        let axes = self.axes_of(x);
        let op = Op::rename(pairs.iter().copied().filter(|(a, _)| axes.contains(*a)));
        match &op {
            Op::Rename(pairs) if pairs.is_empty() => x,
            _ => self.op(op, &[x]),
        }
    }

    /// Copies one value of `from` with operands already mapped; keeps its origin.
    pub fn copy(&mut self, from: &Program, v: Value, args: &[Value]) -> Value {
        self.origin = from.node(v).origin;
        self.op(from.op(v).clone(), args)
    }
}

/// Rebuilds `program` value by value: `each` gets the builder, the old value and its operands' new values. Marks, outputs and names follow
/// the values that live on. Values that no root needs are dropped.
pub fn rebuild(program: &Program, mut each: impl FnMut(&mut Builder, Value, &[Value]) -> Value) -> Program {
    let mut b = Builder::like(program);
    let live = program.live();
    let mut new: Vec<Option<Value>> = vec![None; program.nodes.len()];
    for v in program.values().filter(|v| live[v.0 as usize]) {
        let args: Vec<Value> = program.args(v).iter().map(|a| new[a.0 as usize].expect("operands come first")).collect();
        b.origin = program.node(v).origin;
        new[v.0 as usize] = Some(each(&mut b, v, &args));
    }
    let at = |v: Value| new[v.0 as usize].expect("roots are live");
    let mut out = b.finish();
    out.losses = program.losses.clone();
    for loss in &mut out.losses {
        loss.value = at(loss.value);
        if let Some(local) = &mut loss.local {
            local.at = at(local.at);
            local.copies = local.copies.map(at);
        }
    }
    out.outputs = program.outputs.iter().map(|o| Output { port: o.port.clone(), value: at(o.value) }).collect();
    out.names = program.names.iter().filter_map(|(n, v)| Some((n.clone(), new[v.0 as usize]?))).collect();
    out
}
