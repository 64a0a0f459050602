//! The reference evaluator: slow, obvious, right. The oracle for passes and back ends.
//!
//! Arithmetic: each op computes in f64 and rounds its result to the value's dtype. For f32 that means one rounding after every op; a single
//! add, subtract, multiply, divide or square root then has the bits of native f32 arithmetic. Sums and contractions accumulate in f64, products
//! of several factors too, terms in row-major order of the removed axes in canonical order, and round once at the end. i32 wraps. A sum over
//! nothing is 0, a maximum over nothing is minus infinity (the smallest i32). `normal` uses [`crate::philox`]: the f32 transform for f32, the
//! f64 transform of the same bits for f64.
//!
//! It never optimises, never reuses a buffer, never looks at losses or names. It trusts the program to be verified ([`crate::verify`]) and
//! checks everything else: a caller's tensors may be wrong in any way. Read [`run`] first.

use std::collections::HashMap;
use std::rc::Rc;

use crate::axis::{Axes, AxisId, AxisSet};
use crate::op::{Affine, Noise, Op};
use crate::philox::{self, Domain};
use crate::program::{Port, Program, Value};
use crate::types::{DType, Type};

mod walk;

use walk::walk;

/// The most elements that a value may have here (32 GiB of f64).
pub const MAX_ELEMENTS: usize = 1 << 32;

/// A tensor: row-major in `order`; bool as 0 and 1, f32 as f64 numbers that f32 can hold.
#[derive(Clone, PartialEq, Debug)]
pub struct Tensor {
    pub dtype: DType,
    pub order: Vec<AxisId>,
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

/// Tensors for a program's inputs and parameters, by name.
pub type Inputs = HashMap<String, Tensor>;

/// Why a program could not be run on these tensors. Both sides are named; types are printed with their axes.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum EvalError {
    #[error("the program needs `{name}`: {wants}, and it was not given [missing]")]
    Missing { name: String, wants: String },
    #[error("`{name}` is declared as {wants}, got {} elements [dtype]", got.name())]
    DType { name: String, wants: String, got: DType },
    #[error("`{name}` is declared over [{wants}], got a tensor over [{got}] [axes]")]
    Axes { name: String, wants: String, got: String },
    #[error("`{name}` over [{axes}] has the shape {wants:?}, got {got:?} [shape]")]
    Shape { name: String, axes: String, wants: Vec<usize>, got: Vec<usize> },
    #[error("`{name}` of shape {shape:?} has {wants} elements, got {got} [len]")]
    Len { name: String, shape: Vec<usize>, wants: usize, got: usize },
    #[error("`{name}` is declared as {}, its element {at} is {got} [element]", dtype.name())]
    Element { name: String, dtype: DType, at: usize, got: f64 },
    #[error("{value:?}: `seed` stands for a tangent inside `transpose` and has no value [seed]")]
    Seed { value: Value },
    #[error("{value:?}: {ty} is too large to evaluate: more than {} elements [too-large]", MAX_ELEMENTS)]
    TooLarge { value: Value, ty: String },
    #[error("the program has {count} values, {value:?} is none of them [no-value]")]
    NoValue { value: Value, count: usize },
}

/// The results of a program, in the order of its declarations, each in its declared order of axes.
#[derive(Clone, PartialEq, Debug)]
pub struct Evaluated {
    pub outputs: Vec<(String, Tensor)>,
}

impl Evaluated {
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.outputs.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }
}

/// Runs `program` and returns every output.
pub fn run(program: &Program, inputs: &Inputs) -> Result<Evaluated, EvalError> {
    let values: Vec<Value> = program.outputs.iter().map(|o| o.value).collect();
    let tensors = run_values(program, inputs, &values)?;
    let named = program.outputs.iter().zip(tensors);
    Ok(Evaluated { outputs: named.map(|(o, t)| (o.port.name.clone(), t.in_order(&o.port.order))).collect() })
}

/// Evaluates `values`, each in the canonical order of its axes, computing only what they need. Intermediates go after their last use.
pub fn run_values(program: &Program, inputs: &Inputs, values: &[Value]) -> Result<Vec<Tensor>, EvalError> {
    run_values_by(program, inputs, values, &mut |_, _, y| y)
}

/// [`run_values`] with a hand on every value: `each` gets the value, its operands and what its op gave, and says what others see of it.
pub fn run_values_by(
    program: &Program,
    inputs: &Inputs,
    values: &[Value],
    each: &mut dyn FnMut(Value, &[Rc<Tensor>], Rc<Tensor>) -> Rc<Tensor>,
) -> Result<Vec<Tensor>, EvalError> {
    let count = program.nodes.len();
    if let Some(&value) = values.iter().find(|v| v.0 as usize >= count) {
        return Err(EvalError::NoValue { value, count });
    }
    let needed = program.reaches(values.iter().copied());
    let mut uses = vec![0usize; count];
    for v in program.values().filter(|v| needed[v.0 as usize]) {
        program.args(v).iter().for_each(|a| uses[a.0 as usize] += 1);
    }
    values.iter().for_each(|v| uses[v.0 as usize] += 1);

    let mut done: Vec<Option<Rc<Tensor>>> = vec![None; count];
    for v in program.values().filter(|v| needed[v.0 as usize]) {
        let args: Vec<Rc<Tensor>> =
            program.args(v).iter().map(|a| done[a.0 as usize].clone().expect("operands come first and live to their last use")).collect();
        let y = evaluate(program, inputs, v, &args)?;
        done[v.0 as usize] = Some(each(v, &args, y));
        for a in program.args(v) {
            uses[a.0 as usize] -= 1;
            if uses[a.0 as usize] == 0 {
                done[a.0 as usize] = None;
            }
        }
    }
    let result = |v: &Value| {
        let tensor = done[v.0 as usize].as_ref().expect("the caller's use keeps it");
        tensor.in_order(&program.axes.in_order(program.axes_of(*v)))
    };
    Ok(values.iter().map(result).collect())
}

/// One op on evaluated operands. Results may have any order of axes.
pub fn evaluate(program: &Program, inputs: &Inputs, v: Value, x: &[Rc<Tensor>]) -> Result<Rc<Tensor>, EvalError> {
    let (op, ty) = (program.op(v), program.ty(v));
    let cx = Cx { axes: &program.axes, ty };
    if elements(&program.axes, ty).is_none_or(|n| n > MAX_ELEMENTS) {
        return Err(EvalError::TooLarge { value: v, ty: ty.show(&program.axes) });
    }
    let integer = ty.dtype == DType::I32;
    let tensor = match op {
        Op::Input(i) => border(program, inputs, &program.inputs[*i as usize])?,
        Op::Param(i) => border(program, inputs, &program.params[*i as usize].port)?,
        Op::Const(number) => cx.tensor(Vec::new(), vec![number.value()]),
        Op::Iota(axis) => cx.tensor(vec![*axis], (0..program.axes.size(*axis)).map(|i| i as f64).collect()),
        Op::Delta((a, b)) => Tensor::from_fn(cx.axes, DType::Bool, &[*a, *b], |i| bit(i[0] == i[1])),
        Op::Normal(noise) => normal(&cx, noise, word(&x[0]), word(&x[1]), x.get(2).map_or(0, |row| word(row))),
        Op::Seed(_) => return Err(EvalError::Seed { value: v }),

        Op::Add if integer => cx.map2(x, |x, y| wrap(x).wrapping_add(wrap(y)) as f64),
        Op::Sub if integer => cx.map2(x, |x, y| wrap(x).wrapping_sub(wrap(y)) as f64),
        Op::Mul if integer => cx.map2(x, |x, y| wrap(x).wrapping_mul(wrap(y)) as f64),
        Op::Neg if integer => cx.map1(x, |x| wrap(x).wrapping_neg() as f64),
        Op::Add => cx.map2(x, |x, y| x + y),
        Op::Sub => cx.map2(x, |x, y| x - y),
        Op::Mul => cx.map2(x, |x, y| x * y),
        Op::Neg => cx.map1(x, |x| -x),
        Op::Div => cx.map2(x, |x, y| x / y),
        Op::Exp => cx.map1(x, f64::exp),
        Op::Log => cx.map1(x, f64::ln),
        Op::Tanh => cx.map1(x, f64::tanh),
        Op::Erf => cx.map1(x, libm::erf),
        Op::Sqrt => cx.map1(x, f64::sqrt),
        Op::Rsqrt => cx.map1(x, |x| 1.0 / x.sqrt()),
        Op::Relu => cx.map1(x, |x| if x > 0.0 { x } else { 0.0 }),

        Op::Lt => cx.map2(x, |x, y| bit(x < y)),
        Op::Le => cx.map2(x, |x, y| bit(x <= y)),
        Op::Gt => cx.map2(x, |x, y| bit(x > y)),
        Op::Ge => cx.map2(x, |x, y| bit(x >= y)),
        Op::Eq => cx.map2(x, |x, y| bit(x == y)),
        Op::Ne => cx.map2(x, |x, y| bit(x != y)),
        Op::And => cx.map2(x, |x, y| bit(x != 0.0 && y != 0.0)),
        Op::Or => cx.map2(x, |x, y| bit(x != 0.0 || y != 0.0)),
        Op::Not => cx.map1(x, |x| bit(x == 0.0)),
        Op::Select => cx.select(x),
        Op::Cast(to) => cx.map1(x, |x| convert(x, *to)),

        Op::Sum(over) if integer => cx.reduce(x, *over, 0.0, |sum, x| wrap(sum).wrapping_add(wrap(x)) as f64),
        Op::Sum(over) | Op::Contract(over) => cx.reduce(x, *over, 0.0, |sum, x| sum + x),
        Op::Max(over) => {
            let least = if integer { i32::MIN as f64 } else { f64::NEG_INFINITY };
            cx.reduce(x, *over, least, |max, x| if max.is_nan() || max >= x { max } else { x })
        }
        Op::Rename(pairs) => rename(&x[0], pairs),
        Op::Window(affine) => window(&cx, affine, &x[0]),
        Op::Gather(axis) => cx.gather(*axis, &x[0], &x[1]),

        Op::StopGradient | Op::Activity(_) => return Ok(x[0].clone()),
    };
    Ok(Rc::new(tensor))
}

/// The caller's tensor for `port`, checked and rounded. Any order of the declared axes will do: the tensor names them.
fn border(program: &Program, inputs: &Inputs, port: &Port) -> Result<Tensor, EvalError> {
    let (axes, name) = (&program.axes, port.name.clone());
    let show = |order: &[AxisId]| {
        let name = |&a: &AxisId| if (a.0 as usize) < axes.len() { axes[a].name.clone() } else { format!("axis {}", a.0) };
        order.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    let wants = || format!("{}[{}]", port.dtype.name(), show(&port.order));
    let Some(given) = inputs.get(&port.name) else { return Err(EvalError::Missing { name, wants: wants() }) };
    if given.dtype != port.dtype {
        return Err(EvalError::DType { name, wants: wants(), got: given.dtype });
    }
    if given.order.len() != port.order.len() || !port.order.iter().all(|a| given.order.contains(a)) {
        return Err(EvalError::Axes { name, wants: show(&port.order), got: show(&given.order) });
    }
    let shape: Vec<usize> = given.order.iter().map(|&a| axes.size(a)).collect();
    if given.shape != shape {
        return Err(EvalError::Shape { name, axes: show(&given.order), wants: shape, got: given.shape.clone() });
    }
    let len = shape.iter().product();
    if given.data.len() != len {
        return Err(EvalError::Len { name, shape, wants: len, got: given.data.len() });
    }
    let rounded = Tensor::new(given.dtype, given.order.clone(), shape, given.data.clone());
    match port.dtype {
        DType::F32 | DType::F64 => {}
        DType::I32 | DType::Bool => {
            if let Some(at) = (0..len).find(|&i| rounded.data[i] != given.data[i]) {
                return Err(EvalError::Element { name, dtype: port.dtype, at, got: given.data[at] });
            }
        }
    }
    Ok(rounded)
}

/// Element numbers are row-major over the order without the direction's axis; the index along that one selects the sequence. The first
/// element is the first of entry `row` of the axis that is numbered first.
fn normal(cx: &Cx, noise: &Noise, seed: u32, step: u32, row: u32) -> Tensor {
    let shape: Vec<usize> = noise.order.iter().map(|&a| cx.axes.size(a)).collect();
    let at = noise.order.iter().position(|&a| Some(a) == noise.direction);
    // A tensor over [outer.., direction, inner..]; without directions, there is one.
    let directions = at.map_or(1, |i| shape[i]);
    let inner: usize = at.map_or(1, |i| shape[i + 1..].iter().product());
    let outer: usize = at.map_or(shape.iter().product(), |i| shape[..i].iter().product());
    let per_row: usize = noise.order.iter().filter(|&&a| Some(a) != noise.direction).skip(1).map(|&a| cx.axes.size(a)).product();
    let first = u64::from(row) * per_row as u64;
    let mut data = vec![0.0; outer * directions * inner];
    for direction in 0..directions {
        let numbers = one_direction(noise, seed, step, direction as u32, first, outer * inner);
        for (e, number) in numbers.into_iter().enumerate() {
            data[(e / inner * directions + direction) * inner + e % inner] = number;
        }
    }
    cx.tensor(noise.order.clone(), data)
}

fn one_direction(noise: &Noise, seed: u32, step: u32, direction: u32, first: u64, count: usize) -> Vec<f64> {
    match noise.dtype {
        DType::F32 => {
            let mut out = vec![0.0f32; count];
            philox::fill_normals(seed, Domain::Noise, noise.stream, direction, step, first, &mut out);
            out.into_iter().map(f64::from).collect()
        }
        DType::F64 | DType::I32 | DType::Bool => {
            let mut out = vec![0.0; count];
            philox::fill_normals_f64(seed, Domain::Noise, noise.stream, direction, step, first, &mut out);
            out
        }
    }
}

fn rename(x: &Tensor, pairs: &[(AxisId, AxisId)]) -> Tensor {
    let name = |a: &AxisId| pairs.iter().find(|(from, _)| from == a).map_or(*a, |(_, to)| *to);
    Tensor { order: x.order.iter().map(name).collect(), ..x.clone() }
}

fn window(cx: &Cx, affine: &Affine, x: &Tensor) -> Tensor {
    let order = cx.order();
    let (strides, along) = x.strides_but(&order, affine.axis);
    let coefficients: Vec<i128> =
        order.iter().map(|a| affine.terms.iter().find(|(_, term)| term == a).map_or(0, |(c, _)| *c as i128)).collect();
    let size = cx.axes.size(affine.axis) as i128;
    Tensor::from_fn(cx.axes, cx.ty.dtype, &order, |index| {
        let position = index.iter().zip(&coefficients).map(|(&i, c)| i as i128 * c).sum::<i128>() + affine.offset as i128;
        if !(0..size).contains(&position) {
            return 0.0;
        }
        let rest: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        x.data[rest + position as usize * along]
    })
}

/// What an op needs to know beside its operands.
struct Cx<'a> {
    axes: &'a Axes,
    ty: Type,
}

impl Cx<'_> {
    fn order(&self) -> Vec<AxisId> {
        self.axes.in_order(self.ty.axes)
    }

    /// A tensor of the op's type, rounded.
    fn tensor(&self, order: Vec<AxisId>, data: Vec<f64>) -> Tensor {
        let shape = order.iter().map(|&a| self.axes.size(a)).collect();
        Tensor::new(self.ty.dtype, order, shape, data)
    }

    /// An elementwise op on operands joined by axis name: `row(at, step, out)` computes one row of the result from the operands' positions.
    fn map(&self, x: &[Rc<Tensor>], row: impl Fn(&[usize], &[usize], &mut [f64])) -> Tensor {
        let order = self.order();
        let sizes: Vec<usize> = order.iter().map(|&a| self.axes.size(a)).collect();
        let strides: Vec<Vec<usize>> = x.iter().map(|t| t.strides(&order)).collect();
        let mut out = vec![0.0; sizes.iter().product()];
        let mut rows = 0;
        walk(&sizes, &strides, |at, step, count| {
            row(at, step, &mut out[rows..rows + count]);
            rows += count;
        });
        self.tensor(order, out)
    }

    fn map1(&self, x: &[Rc<Tensor>], f: impl Fn(f64) -> f64) -> Tensor {
        let x = &x[0];
        self.tensor(x.order.clone(), x.data.iter().map(|&x| f(x)).collect())
    }

    fn map2(&self, x: &[Rc<Tensor>], f: impl Fn(f64, f64) -> f64) -> Tensor {
        let (l, r) = (&x[0].data, &x[1].data);
        self.map(x, |at, step, out| {
            let (mut i, mut j) = (at[0], at[1]);
            for out in out {
                *out = f(l[i], r[j]);
                (i, j) = (i + step[0], j + step[1]);
            }
        })
    }

    fn select(&self, x: &[Rc<Tensor>]) -> Tensor {
        self.map(x, |at, step, out| {
            for (n, out) in out.iter_mut().enumerate() {
                let taken = if x[0].data[at[0] + n * step[0]] != 0.0 { 1 } else { 2 };
                *out = x[taken].data[at[taken] + n * step[taken]];
            }
        })
    }

    fn gather(&self, axis: AxisId, table: &Rc<Tensor>, index: &Rc<Tensor>) -> Tensor {
        let (order, size) = (self.order(), self.axes.size(axis));
        let (strides, along) = table.strides_but(&order, axis);
        let sizes: Vec<usize> = order.iter().map(|&a| self.axes.size(a)).collect();
        let mut out = Vec::with_capacity(sizes.iter().product());
        walk(&sizes, &[strides, index.strides(&order)], |at, step, count| {
            for n in 0..count {
                let i = index.data[at[1] + n * step[1]];
                let inside = i >= 0.0 && i < size as f64;
                out.push(if inside { table.data[at[0] + n * step[0] + i as usize * along] } else { 0.0 });
            }
        });
        self.tensor(order, out)
    }

    /// Folds the product of `x` over the axes `over`, in their row-major order, from `init`.
    fn reduce(&self, x: &[Rc<Tensor>], over: AxisSet, init: f64, fold: impl Fn(f64, f64) -> f64) -> Tensor {
        let order = self.order();
        let mut loops = order.clone();
        let removed = self.axes.in_order(over);
        // The order in which an element's terms are added does not depend on where the element's own axes stand, so the innermost loop may run
        // along either side: along the longer one.
        let size = |a: Option<&AxisId>| a.map_or(0, |&a| self.axes.size(a));
        let last = if size(order.last()) > size(removed.last()) { loops.pop() } else { None };
        loops.extend(removed);
        loops.extend(last);

        let sizes: Vec<usize> = loops.iter().map(|&a| self.axes.size(a)).collect();
        let mut out = self.tensor(order, Vec::new());
        let mut strides = vec![out.strides(&loops)];
        strides.extend(x.iter().map(|t| t.strides(&loops)));
        let mut sums = vec![init; out.shape.iter().product()];
        match x {
            [x] => walk(&sizes, &strides, |at, step, count| {
                let (mut o, mut i) = (at[0], at[1]);
                for _ in 0..count {
                    sums[o] = fold(sums[o], x.data[i]);
                    (o, i) = (o + step[0], i + step[1]);
                }
            }),
            [x, y] => walk(&sizes, &strides, |at, step, count| {
                let (x, y) = (&x.data[..], &y.data[..]);
                let (mut o, mut i, mut j) = (at[0], at[1], at[2]);
                for _ in 0..count {
                    sums[o] = fold(sums[o], x[i] * y[j]);
                    (o, i, j) = (o + step[0], i + step[1], j + step[2]);
                }
            }),
            factors => walk(&sizes, &strides, |at, step, count| {
                for n in 0..count {
                    let mut product = 1.0;
                    for (f, x) in factors.iter().enumerate() {
                        product *= x.data[at[f + 1] + n * step[f + 1]];
                    }
                    let o = at[0] + n * step[0];
                    sums[o] = fold(sums[o], product);
                }
            }),
        }
        out.data = sums.into_iter().map(|x| round(x, self.ty.dtype)).collect();
        out
    }
}

impl Tensor {
    /// A tensor of these parts, its elements rounded to `dtype`. Nothing is checked here: [`run`] checks what it is given.
    pub fn new(dtype: DType, order: Vec<AxisId>, shape: Vec<usize>, mut data: Vec<f64>) -> Tensor {
        if dtype != DType::F64 {
            data.iter_mut().for_each(|x| *x = round(*x, dtype));
        }
        Tensor { dtype, order, shape, data }
    }

    pub fn scalar(dtype: DType, x: f64) -> Tensor {
        Tensor::new(dtype, Vec::new(), Vec::new(), vec![x])
    }

    /// A tensor over `order` of elements in row-major order. Their number is not checked here.
    pub fn from_data(axes: &Axes, dtype: DType, order: &[AxisId], data: Vec<f64>) -> Tensor {
        Tensor::new(dtype, order.to_vec(), order.iter().map(|&a| axes.size(a)).collect(), data)
    }

    /// A tensor over `order` of `f(index)`, called in row-major order with the indices along `order`.
    pub fn from_fn(axes: &Axes, dtype: DType, order: &[AxisId], mut f: impl FnMut(&[usize]) -> f64) -> Tensor {
        let shape: Vec<usize> = order.iter().map(|&a| axes.size(a)).collect();
        let count: usize = shape.iter().product();
        let mut index = vec![0; order.len()];
        let mut data = Vec::with_capacity(count);
        for _ in 0..count {
            data.push(f(&index));
            walk::advance(&mut index, &shape);
        }
        Tensor::new(dtype, order.to_vec(), shape, data)
    }

    /// The same tensor with its axes in another order. `order` must name the tensor's own axes, and the tensor must be one: as many sizes as
    /// axes, as many elements as they make.
    pub fn reorder(&self, order: &[AxisId]) -> Result<Tensor, EvalError> {
        let same_axes =
            order.len() == self.order.len() && order.iter().all(|a| self.order.contains(a)) && self.order.iter().all(|a| order.contains(a));
        let count = self.shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
        if !same_axes || self.shape.len() != self.order.len() {
            let show = |order: &[AxisId]| order.iter().map(|a| format!("axis {}", a.0)).collect::<Vec<_>>().join(", ");
            return Err(EvalError::Axes { name: "reorder".into(), wants: show(order), got: show(&self.order) });
        }
        if count != Some(self.data.len()) {
            let wants = count.unwrap_or(usize::MAX);
            return Err(EvalError::Len { name: "reorder".into(), shape: self.shape.clone(), wants, got: self.data.len() });
        }
        Ok(self.in_order(order))
    }

    pub fn to_f32_vec(&self) -> Vec<f32> {
        self.data.iter().map(|&x| x as f32).collect()
    }

    /// The one element of a tensor that has one.
    pub fn item(&self) -> Option<f64> {
        match self.data[..] {
            [x] => Some(x),
            _ => None,
        }
    }

    /// The largest magnitude, NaN if any element is, 0 if there is none.
    pub fn max_abs(&self) -> f64 {
        self.data.iter().fold(0.0, |max: f64, x| if x.is_nan() || x.abs() > max { x.abs() } else { max })
    }

    /// Equal dtype, axes, shape and bits, whatever the order of axes; any NaN equals any other.
    pub fn same_bits(&self, other: &Tensor) -> bool {
        let same = |(x, y): (&f64, &f64)| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
        self.dtype == other.dtype
            && other.reorder(&self.order).is_ok_and(|other| self.shape == other.shape && self.data.iter().zip(&other.data).all(same))
    }

    /// The worst departure from `expected`, by `|x - y| / (relative * max|y| + absolute)`, max over all of `expected`: at most 1 is within the
    /// tolerance. Equal infinities agree, and so do NaNs; otherwise they depart infinitely. `None` if axes or shapes differ.
    pub fn worst(&self, expected: &Tensor, relative: f64, absolute: f64) -> Option<Departure> {
        let ours = self.reorder(&expected.order).ok().filter(|t| t.shape == expected.shape && t.data.len() == expected.data.len())?;
        let scale = expected.data.iter().filter(|y| y.is_finite()).fold(0.0, |max: f64, y| max.max(y.abs()));
        let tolerance = relative * scale + absolute;
        let mut worst = Departure { at: 0, got: f64::NAN, expected: f64::NAN, ratio: 0.0 };
        for (at, (&got, &expected)) in ours.data.iter().zip(&expected.data).enumerate() {
            let ratio = match () {
                () if got == expected || got.is_nan() && expected.is_nan() => 0.0,
                () if !got.is_finite() || !expected.is_finite() => f64::INFINITY,
                () => (got - expected).abs() / tolerance,
            };
            if at == 0 || ratio > worst.ratio {
                worst = Departure { at, got, expected, ratio };
            }
        }
        Some(worst)
    }

    /// Whether [`Tensor::worst`] is within the tolerance.
    pub fn close(&self, expected: &Tensor, relative: f64, absolute: f64) -> bool {
        self.worst(expected, relative, absolute).is_some_and(|d| d.ratio <= 1.0)
    }

    /// [`Tensor::reorder`] to an order of the same axes.
    fn in_order(&self, order: &[AxisId]) -> Tensor {
        if order == self.order {
            return self.clone();
        }
        let shape: Vec<usize> = order.iter().map(|a| self.order.iter().position(|o| o == a).map_or(1, |i| self.shape[i])).collect();
        let mut data = Vec::with_capacity(self.data.len());
        walk(&shape, &[self.strides(order)], |at, step, count| data.extend((0..count).map(|n| self.data[at[0] + n * step[0]])));
        Tensor { dtype: self.dtype, order: order.to_vec(), shape, data }
    }

    /// The distance in `data` of neighbours along each of `along`; 0 for axes that the tensor does not depend on.
    fn strides(&self, along: &[AxisId]) -> Vec<usize> {
        let stride = |i: usize| self.shape[i + 1..].iter().product();
        along.iter().map(|a| self.order.iter().position(|o| o == a).map_or(0, stride)).collect()
    }

    /// For ops that read at a computed position along `axis`: the strides along the others of `order`, and the one along `axis`. The result may
    /// range over `axis` again (`window[B = 2 - B]`), but its index there is not a position in this tensor: that stride is 0.
    fn strides_but(&self, order: &[AxisId], axis: AxisId) -> (Vec<usize>, usize) {
        let mut strides = self.strides(order);
        if let Some(i) = order.iter().position(|&a| a == axis) {
            strides[i] = 0;
        }
        (strides, self.strides(&[axis])[0])
    }
}

/// Where two tensors differ most.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Departure {
    /// Position in `expected.data`.
    pub at: usize,
    pub got: f64,
    pub expected: f64,
    /// Departure over tolerance.
    pub ratio: f64,
}

/// The nearest number that `dtype` holds; numbers already of the dtype are unchanged.
fn round(x: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => x as f32 as f64,
        DType::F64 => x,
        DType::I32 | DType::Bool => convert(x, dtype),
    }
}

/// `cast`: a float is cut towards zero and held inside i32 (NaN gives 0); bool is true for all but zero.
fn convert(x: f64, to: DType) -> f64 {
    match to {
        DType::F32 => x as f32 as f64,
        DType::F64 => x,
        DType::I32 => x as i32 as f64,
        DType::Bool => bit(x != 0.0),
    }
}

fn bit(x: bool) -> f64 {
    f64::from(u8::from(x))
}

/// An element of an i32 tensor as i32.
fn wrap(x: f64) -> i32 {
    x as i32
}

/// An i32 scalar's bits.
fn word(x: &Tensor) -> u32 {
    x.data.first().map_or(0, |&x| wrap(x) as u32)
}

/// The number of elements of a value, unless it overflows.
fn elements(axes: &Axes, ty: Type) -> Option<usize> {
    ty.axes.iter().try_fold(1usize, |count, a| count.checked_mul(axes.size(a)))
}

#[cfg(test)]
mod tests;
