//! `pushforward_plan::lower` and the CPU back end against the evaluator, on generated programs: maps, selects, sums, maxima, contractions of one
//! to four factors, noise, renamings, iota and delta, gather and window, casts, conditions, integers, parameters updated in place; odd sizes
//! and 1; f32 and f64.
//!
//! The tolerance follows from the program: the evaluator runs it as it stands, and with every f32 widened to f64 and every sum off by what its
//! roundings may add up to; what that does to a result, rounding may do here, too. What is left out is little, and counted: results that
//! rounding changes wholly (a comparison on the edge), and those of sums of infinities and NaN or by signs of zero, whose order is the plan's.

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::eval::{Inputs, Tensor, run_values};
use pushforward_ir::op::{Affine, Noise, Number};
use pushforward_ir::program::{Output, Port, rebuild};
use pushforward_ir::{AxisSet, Builder, DType, Op, Program, Value};

use pushforward_plan::device::{Limits, Precision, Target};

use crate::support::{Random, assert_near, evaluated, inlined, on_cpu, on_threads, tensors};

const PROGRAMS: u64 = 160;

#[test]
fn random_programs_in_f64() {
    let tally = (0..PROGRAMS).map(|seed| check(seed, &[DType::F64])).fold(Tally::default(), Tally::plus);
    tally.assert_telling();
}

#[test]
fn random_programs_in_f32() {
    let tally = (1000..1000 + PROGRAMS).map(|seed| check(seed, &[DType::F32])).fold(Tally::default(), Tally::plus);
    tally.assert_telling();
}

#[test]
fn random_programs_in_both() {
    let tally = (2000..2000 + PROGRAMS / 2).map(|seed| check(seed, &[DType::F32, DType::F64])).fold(Tally::default(), Tally::plus);
    tally.assert_telling();
}

/// Outputs `new.w` of a model's text are updates of its parameters `w`: they see the old numbers, whatever the order of kernels.
#[test]
fn updates_see_the_old_numbers() {
    let texts = [
        // Each kernel that updates one reads the other.
        "param v: f32[A] = 1; param w: f32[A] = 1;
         output new.v: f32[A] = w; output new.w: f32[A] = v;",
        "param v: f32[A] = 1; param w: f32[A] = 1;
         output new.v: f32[A] = w * 0.5; output new.w: f32[A] = v + w;",
        // A row section after the sum reads what the sum replaces.
        "param w: f32[A] = 1;
         s = sum[B](x * x);
         output y: f32[A, B] = tanh(x * s) * w; output new.w: f32[A] = s;",
        // The new numbers are computed again where another parameter's update needs them.
        "param v: f32[A] = 1; param w: f32[A, B] = 1;
         n = v * 0.5;
         output new.v: f32[A] = n; output new.w: f32[A, B] = w - x * n;",
        // Read through another order of axes.
        "param w: f32[A, C] = 1;
         output new.w: f32[A, C] = w - rename[A -> C, C -> A](w);",
    ];
    for body in texts {
        let text = format!("pf 1\naxis A = 7;\naxis B = 5;\naxis C like A;\nmodel m(x: f32[A, B]) {{\n{body}\n}}");
        let mut program = inlined(&text, &[], 1, DType::F64);
        for out in &mut program.outputs {
            if let Some(param) = out.port.name.strip_prefix("new.") {
                out.port.name = param.to_string();
            }
        }
        let inputs = tensors(&program, &mut Random::new(3));
        let expected = evaluated(&program, &inputs);
        for slices in [true, false] {
            assert_near(&text, &on_cpu(&program, &inputs, slices, 2), &expected, 1e-12, 1e-12);
        }
    }
}

/// What the programs of a test had in common.
#[derive(Default)]
pub struct Tally {
    compared: usize,
    /// Rounding changes them wholly.
    edges: usize,
    /// They depend on the order of a sum of infinities.
    infinite: usize,
    ops: std::collections::BTreeSet<&'static str>,
}

impl Tally {
    pub fn plus(mut self, other: Tally) -> Tally {
        self.ops.extend(other.ops);
        Tally {
            compared: self.compared + other.compared,
            edges: self.edges + other.edges,
            infinite: self.infinite + other.infinite,
            ops: self.ops,
        }
    }

    /// Enough was compared to mean something.
    pub fn assert_telling(&self) {
        assert!(self.compared > 200, "{} results compared", self.compared);
        let Tally { compared, edges, infinite, .. } = *self;
        assert!(edges * 20 < compared && infinite * 3 < compared, "{compared} compared, {edges} on an edge, {infinite} infinite");
        let never: Vec<&str> = Op::ALL.iter().map(|i| i.name).filter(|n| !self.ops.contains(n) && *n != "seed").collect();
        assert!(never.is_empty(), "no program had {never:?}");
    }
}

fn check(seed: u64, floats: &[DType]) -> Tally {
    let (program, inputs) = case(seed, floats);
    let sliced = on_cpu(&program, &inputs, true, 1);
    if seed.is_multiple_of(4) {
        let threads = on_cpu(&program, &inputs, true, 3);
        for (name, one) in &sliced {
            assert!(one.same_bits(&threads[name]), "program {seed}: {name} has other bits on three threads\n{}", program.to_text());
        }
    }
    let mut ways = vec![
        ("slices", sliced),
        ("no slices", on_cpu(&program, &inputs, false, 1)),
        ("CUDA's limits", on_threads(&program, &inputs, &Target::cuda(Precision::Fp32))),
    ];
    if !program.values().any(|v| program.ty(v).dtype == DType::F64) {
        ways.push(("WebGPU's limits", on_threads(&program, &inputs, &Target::webgpu(Limits::default()))));
    }
    compare(seed, &program, &inputs, &ways)
}

/// A generated program, and numbers for it.
pub fn case(seed: u64, floats: &[DType]) -> (Program, Inputs) {
    let mut random = Random::new(seed);
    let program = generated(&mut random, floats);
    let faults = pushforward_ir::verify::verify(&program);
    assert!(faults.is_empty(), "{faults:?}\n{}", program.to_text());
    let inputs = tensors(&program, &mut random);
    (program, inputs)
}

/// Whatever ran the program has the evaluator's results.
pub fn compare(seed: u64, program: &Program, inputs: &Inputs, ways: &[(&str, HashMap<String, Tensor>)]) -> Tally {
    let expected = evaluated(program, inputs);
    let exact = evaluated(&rough(program), &widened_inputs(inputs));
    let mut tally = Tally { ops: program.values().map(|v| program.op(v).name()).collect(), ..Tally::default() };
    let infinite = unordered(program, inputs);
    for out in &program.outputs {
        let (name, expected) = (&out.port.name, &expected[&out.port.name]);
        let noise = noise(expected, &exact[name]);
        if infinite[out.value.0 as usize] {
            tally.infinite += 1;
            continue;
        }
        if noise > 1e-3 * finite_max(expected) + 1e-30 {
            tally.edges += 1;
            continue;
        }
        tally.compared += 1;
        let epsilon = if expected.dtype == DType::F64 { f64::EPSILON } else { f32::EPSILON.into() };
        let (relative, absolute) = (16.0 * epsilon, 20.0 * noise + 1e-30);
        for (how, got) in ways {
            if !got.get(name).is_some_and(|t| t.close(expected, relative, absolute)) {
                let what = format!("program {seed}, {how}, noise {noise:e}\n{}", program.to_text());
                let one = |t: &Tensor| HashMap::from([(name.clone(), t.clone())]);
                assert_near(&what, got, &one(expected), relative, absolute);
            }
        }
    }
    tally
}

/// The largest difference of two tensors, infinite where one is finite and the other is not.
fn noise(x: &Tensor, y: &Tensor) -> f64 {
    let differ = |(&x, &y): (&f64, &f64)| match () {
        () if x == y || x.is_nan() && y.is_nan() => 0.0,
        () if !x.is_finite() || !y.is_finite() => f64::INFINITY,
        () => (x - y).abs(),
    };
    x.data.iter().zip(&y.data).map(differ).fold(0.0, f64::max)
}

/// Values that depend on a sum with an infinity or NaN among its terms, or on what is infinite or NaN because of a sum that is zero: that one's
/// sign is the plan's, and a division by it shows (`rsqrt(1 / 0)` is 0 or NaN).
fn unordered(program: &Program, inputs: &Inputs) -> Vec<bool> {
    let values: Vec<Value> = program.values().collect();
    let tensors = run_values(program, inputs, &values).expect("the program runs");
    let is_finite = |v: &Value| tensors[v.0 as usize].data.iter().all(|x| x.is_finite());
    let is_zero = |v: &Value| tensors[v.0 as usize].data.contains(&0.0);
    let (sums, others): (Vec<Value>, Vec<Value>) = values.into_iter().partition(|&v| matches!(program.op(v), Op::Sum(_) | Op::Contract(_)));
    let zeros: Vec<Value> = sums.iter().copied().filter(is_zero).collect();
    let signed = program.depends(&zeros, |_| false);
    let infinite = sums.into_iter().filter(|&v| !program.args(v).iter().all(is_finite));
    let divided = others.into_iter().filter(|v| signed[v.0 as usize] && !is_finite(v));
    program.depends(&infinite.chain(divided).collect::<Vec<Value>>(), |_| false)
}

fn finite_max(x: &Tensor) -> f64 {
    x.data.iter().filter(|x| x.is_finite()).fold(0.0, |max: f64, x| max.max(x.abs()))
}

/// The program with f64 wherever it has f32, and every sum of n terms off by what n roundings typically come to, up or down by turns.
fn rough(program: &Program) -> Program {
    let wide = |d: DType| if d == DType::F32 { DType::F64 } else { d };
    let mut border = program.clone();
    border.inputs.iter_mut().for_each(|p| p.dtype = wide(p.dtype));
    border.params.iter_mut().for_each(|p| p.port.dtype = wide(p.port.dtype));
    let mut up = false;
    let mut out = rebuild(&border, |b, v, args| match program.op(v) {
        Op::Const(n) => b.constant(n.value(), wide(n.dtype)),
        Op::Cast(to) => b.op(Op::Cast(wide(*to)), args),
        Op::Normal(_) => {
            let y = b.op(program.op(v).clone(), args);
            if program.ty(v).dtype == DType::F64 { y } else { b.op(Op::Cast(DType::F64), &[y]) }
        }
        Op::Sum(over) | Op::Contract(over) if program.ty(v).dtype.is_float() => {
            let y = b.op(program.op(v).clone(), args);
            let magnitudes: Vec<Value> = args.iter().map(|&x| magnitude(b, x)).collect();
            let total = b.contract(&magnitudes, *over);
            let epsilon = if program.ty(v).dtype == DType::F64 { f64::EPSILON } else { f32::EPSILON.into() };
            up = !up;
            let terms = program.axes.count(*over) as f64;
            let off = b.scale(total, epsilon * terms.sqrt() * if up { 1.0 } else { -1.0 });
            b.op(Op::Add, &[y, off])
        }
        op => b.op(op.clone(), args),
    });
    out.outputs.iter_mut().for_each(|o| o.port.dtype = wide(o.port.dtype));
    out
}

fn magnitude(b: &mut Builder, x: Value) -> Value {
    let zero = b.constant(0.0, DType::F64);
    let below = b.op(Op::Lt, &[x, zero]);
    let minus = b.op(Op::Neg, &[x]);
    b.op(Op::Select, &[below, minus, x])
}

fn widened_inputs(inputs: &Inputs) -> Inputs {
    let wide = |t: &Tensor| if t.dtype == DType::F32 { Tensor { dtype: DType::F64, ..t.clone() } } else { t.clone() };
    inputs.iter().map(|(n, t)| (n.clone(), wide(t))).collect()
}

// ---- programs

const PARAMS: u32 = 3;
/// The most elements of a value, and terms of a reduction.
const MOST: usize = 60_000;

pub fn generated(random: &mut Random, floats: &[DType]) -> Program {
    let mut program = Program { name: "generated".into(), ..Program::default() };
    // An axis of size 0 empties much of a program: seldom.
    let empty = if random.chance(20) { 0 } else { 1 };
    let sizes = [empty, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33];
    let batch = random.of(&[empty, 2, 3, 5, 6, 20, 67]);
    let n = program.axes.add("N", batch, None).expect("few axes");
    let mut axes = vec![n];
    for name in ["A", "B", "C"] {
        axes.push(program.axes.add(name, random.of(&sizes), None).expect("few axes"));
    }
    for of in [1, 2] {
        let axis = axes[of];
        let name = format!("{}'", program.axes[axis].name);
        axes.push(program.axes.add(name, program.axes.size(axis), Some(axis)).expect("few axes"));
    }
    program.batch = random.chance(80).then_some(n);
    for i in 0..4 {
        let dtype = if i == 3 { DType::I32 } else { random.of(floats) };
        program.inputs.push(Port { name: format!("x{i}"), dtype, order: order(random, &axes, 3) });
    }
    for i in 0..PARAMS {
        // Some are alike, so that they can be exchanged.
        let port = match program.params.last().filter(|_| random.chance(40)) {
            Some(before) => Port { name: format!("w{i}"), ..before.port.clone() },
            None => Port { name: format!("w{i}"), dtype: random.of(floats), order: order(random, &axes[1..], 2) },
        };
        let init = pushforward_ir::program::Init::Constant(0.0);
        program.params.push(pushforward_ir::program::ParamDecl { port, init, exact: false, decay: false });
    }
    let mut g = Generator { b: Builder::new(program), random, axes, floats: floats.to_vec() };
    for i in 0..4 {
        g.b.op(Op::Input(i), &[]);
    }
    for i in 0..PARAMS {
        g.b.op(Op::Param(i), &[]);
    }
    g.b.constant(3.0, DType::I32);
    let wanted = 8 + g.random.below(24);
    let mut tries = 0;
    while g.b.program().nodes.len() < 4 + PARAMS as usize + wanted && tries < 400 {
        tries += 1;
        g.grow();
    }
    let updates: Vec<Output> = (0..PARAMS).filter_map(|p| g.update(p)).collect();
    let mut program = g.b.finish();
    // What nothing uses, and some of what something does.
    let used: Vec<bool> = program.values().map(|v| program.values().any(|u| program.args(u).contains(&v))).collect();
    let roots: Vec<Value> = program.values().filter(|v| !used[v.0 as usize] || random.chance(10)).collect();
    for (i, value) in roots.into_iter().enumerate() {
        let mut order = program.axes.in_order(program.axes_of(value));
        if random.chance(30) {
            order.reverse();
        }
        program.outputs.push(Output { port: Port { name: format!("out{i}"), dtype: program.ty(value).dtype, order }, value });
    }
    program.outputs.extend(updates);
    program
}

fn order(random: &mut Random, axes: &[AxisId], most: usize) -> Vec<AxisId> {
    let mut order: Vec<AxisId> = Vec::new();
    for _ in 0..=random.below(most) {
        let axis = random.of(axes);
        if !order.contains(&axis) {
            order.push(axis);
        }
    }
    order
}

struct Generator<'a> {
    b: Builder,
    random: &'a mut Random,
    axes: Vec<AxisId>,
    floats: Vec<DType>,
}

impl Generator<'_> {
    /// Adds one value, if what was drawn fits.
    fn grow(&mut self) {
        let float = self.random.of(&self.floats.clone());
        match self.random.below(31) {
            0..6 => {
                let op = self.random.of(&[Op::Add, Op::Sub, Op::Mul, Op::Mul, Op::Div]);
                let dtype = if self.random.chance(10) && op != Op::Div { DType::I32 } else { float };
                self.op(op, &[dtype, dtype]);
            }
            6..10 => {
                let op = self.random.of(&[Op::Neg, Op::Exp, Op::Log, Op::Tanh, Op::Erf, Op::Sqrt, Op::Rsqrt, Op::Relu]);
                self.op(op, &[float]);
            }
            10 => {
                let op = self.random.of(&[Op::Lt, Op::Le, Op::Gt, Op::Ge, Op::Eq, Op::Ne]);
                let dtype = if self.random.chance(40) { DType::I32 } else { float };
                self.op(op, &[dtype, dtype]);
            }
            11 => {
                let op = self.random.of(&[Op::And, Op::Or]);
                self.op(op, &[DType::Bool, DType::Bool]);
            }
            12 => self.op(Op::Not, &[DType::Bool]),
            13..16 => {
                let dtype = self.random.of(&[float, float, float, DType::I32, DType::Bool]);
                self.op(Op::Select, &[DType::Bool, dtype, dtype]);
            }
            16 => {
                let to = self.random.of(&[float, float, DType::I32, DType::Bool]);
                let from = self.random.of(&DType::ALL);
                self.op(Op::Cast(to), &[from]);
            }
            17..20 => self.reduction(float),
            20..24 => self.contraction(float),
            24 => {
                let Some(x) = self.value(float) else { return };
                let (from, to) = (self.random.of(&self.axes.clone()), self.random.of(&self.axes.clone()));
                let _ = self.b.try_op(Op::rename([(from, to)]), &[x]);
            }
            25 => {
                let axis = self.random.of(&self.axes.clone());
                self.op(Op::Iota(axis), &[]);
            }
            26 => {
                let pair = self.random.of(&[(self.axes[1], self.axes[4]), (self.axes[2], self.axes[5])]);
                self.op(Op::Delta(pair), &[]);
            }
            27 => {
                let value: f64 = self.random.of(&[0.0, 1.0, -0.5, 2.0, 3.0]);
                let dtype = self.random.of(&[float, DType::I32]);
                self.op(Op::Const(Number::new(if dtype == DType::I32 { value.trunc() } else { value }, dtype)), &[]);
            }
            28 => {
                let axis = self.random.of(&self.axes.clone());
                let dtype = self.random.of(&[float, DType::I32]);
                self.op(Op::Gather(axis), &[dtype, DType::I32]);
            }
            29 => {
                let order = order(self.random, &self.axes, 3);
                let direction = order.first().copied().filter(|_| self.random.chance(40));
                let stream = self.random.below(3) as u32;
                self.op(Op::Normal(Box::new(Noise { stream, order, direction, dtype: float })), &[DType::I32, DType::I32]);
            }
            _ => {
                let axis = self.random.of(&self.axes.clone());
                let mut terms = Vec::new();
                for _ in 0..self.random.below(3) {
                    terms.push((self.random.of(&[1, 2, -1, 3]), self.random.of(&self.axes.clone())));
                }
                let offset = self.random.of(&[0, 1, -1, 2]);
                let op = self.random.of(&[
                    Op::Window(Box::new(Affine { axis, terms, offset })),
                    Op::StopGradient,
                    Op::Activity(format!("a{}", self.b.program().nodes.len())),
                ]);
                self.op(op, &[float]);
            }
        }
    }

    fn reduction(&mut self, float: DType) {
        let dtype = if self.random.chance(15) { DType::I32 } else { float };
        let Some(x) = self.value(dtype) else { return };
        let over = self.some(self.b.axes_of(x));
        let op = if self.random.chance(30) { Op::Max(over) } else { Op::Sum(over) };
        let _ = self.b.try_op(op, &[x]);
    }

    fn contraction(&mut self, float: DType) {
        let count = self.random.of(&[1, 2, 2, 2, 2, 3, 4]);
        let Some(factors) = (0..count).map(|_| self.value(float)).collect::<Option<Vec<Value>>>() else { return };
        let join = factors.iter().fold(AxisSet::EMPTY, |s, &f| s | self.b.axes_of(f));
        if self.b.program().axes.count(join) <= MOST {
            let over = self.some(join);
            let _ = self.b.try_op(Op::Contract(over), &factors);
        }
    }

    /// A new value for a parameter: any value, another parameter more likely, summed to its axes; perhaps together with the old one.
    fn update(&mut self, param: u32) -> Option<Output> {
        if self.random.chance(40) {
            return None;
        }
        let port = self.b.program().params[param as usize].port.clone();
        let (old, axes) = (self.b.op(Op::Param(param), &[]), AxisSet::of(port.order.iter().copied()));
        let x = match self.random.chance(30) {
            true => {
                let other = self.random.below(PARAMS as usize) as u32;
                Some(self.b.op(Op::Param(other), &[])).filter(|&x| self.b.ty(x).dtype == port.dtype)?
            }
            false => self.value(port.dtype)?,
        };
        let x = self.b.sum(x, self.b.axes_of(x) - axes);
        let value = match self.b.axes_of(x) == axes && self.random.chance(60) {
            true => x,
            false => self.b.op(Op::Add, &[x, old]),
        };
        Some(Output { port, value })
    }

    fn op(&mut self, op: Op, dtypes: &[DType]) {
        let Some(args) = dtypes.iter().map(|&d| self.value(d)).collect::<Option<Vec<Value>>>() else { return };
        let mut join = args.iter().fold(AxisSet::EMPTY, |s, &a| s | self.b.axes_of(a));
        if let Op::Window(affine) = &op {
            join = join | affine.terms.iter().map(|t| t.1).collect();
        }
        if self.b.program().axes.count(join) <= MOST {
            let _ = self.b.try_op(op, &args);
        }
    }

    /// A value of a dtype, a late one more likely.
    fn value(&mut self, dtype: DType) -> Option<Value> {
        let all: Vec<Value> = self.b.program().values().filter(|&v| self.b.ty(v).dtype == dtype).collect();
        let late = &all[all.len().saturating_sub(4)..];
        match all.is_empty() {
            true => None,
            false if self.random.chance(60) => Some(self.random.of(late)),
            false => Some(self.random.of(&all)),
        }
    }

    /// Some of `axes`, seldom none.
    fn some(&mut self, axes: AxisSet) -> AxisSet {
        let all: Vec<AxisId> = axes.iter().collect();
        if all.is_empty() || self.random.chance(5) {
            return AxisSet::EMPTY;
        }
        let first = self.random.of(&all);
        all.into_iter().filter(|&a| a == first || self.random.chance(35)).collect()
    }
}
