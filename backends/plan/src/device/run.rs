//! A slow machine that runs device plans: the oracle of everything that spells them. The threads of a block go through a kernel in step; blocks
//! run one after the other. What a real machine would leave to chance is an error here, with its place: numbers read before they are written,
//! places outside of a buffer, threads that meet in memory without a barrier between them, a barrier that not all threads reach.
//!
//! It knows no language and no program. Read [`run`], then [`Block::stmt`].

use super::kernel::*;
use crate::kernel::{Access, ElementType, Prim, Reduction};
use pushforward_ir::philox;

/// What plans are run on: the numbers of each buffer of the border, by the plan's numbering; scalars in the plan's order.
pub struct Memory {
    pub scalars: Vec<f64>,
    /// Temporaries are empty here: they live in slots.
    pub buffers: Vec<Vec<f64>>,
}

/// Runs a plan once. Numbers of f32 are rounded to f32 after every operation.
pub fn run(plan: &DevicePlan, memory: &mut Memory) -> Result<(), String> {
    let mut slots: Vec<(Option<usize>, Vec<f64>)> = vec![(None, Vec::new()); plan.slots.len()];
    for (number, launch) in plan.launches.iter().enumerate() {
        let kernel = &plan.kernels[launch.kernel];
        let mut args: Vec<Tensor> = Vec::new();
        for (arg, &b) in kernel.args.iter().zip(&launch.args) {
            let buffer = &plan.buffers[b];
            let numbers = match buffer.role {
                DeviceRole::Slot(slot) => {
                    let (owner, numbers) = &mut slots[slot];
                    if *owner != Some(b) {
                        if arg.access == Access::Read && !buffer.is_empty() {
                            return Err(format!("launch {number}, `{}`: `{}` is not in its slot", kernel.name, buffer.name));
                        }
                        if buffer.bytes() > plan.slots[slot] {
                            return Err(format!("`{}` does not fit slot {slot}", buffer.name));
                        }
                        (*owner, *numbers) = (Some(b), vec![f64::NAN; buffer.len()]);
                    }
                    std::mem::take(numbers)
                }
                DeviceRole::Input(_) | DeviceRole::State(_) | DeviceRole::Output(_) => std::mem::take(&mut memory.buffers[b]),
            };
            let len = numbers.len();
            args.push(Tensor { numbers, touched: vec![Touched::default(); len], access: arg.access, name: buffer.name.clone() });
        }
        let mut result = Ok(());
        for block in 0..kernel.grid.0 as u64 * kernel.grid.1 as u64 {
            let mut block = Block::new(kernel, block, &memory.scalars, &launch.streams, &mut args);
            result = block.run().map_err(|e| format!("launch {number}, `{}`, block {}: {e}", kernel.name, block.number));
            if result.is_err() {
                break;
            }
        }
        for (tensor, &b) in args.into_iter().zip(&launch.args) {
            match plan.buffers[b].role {
                DeviceRole::Slot(slot) => slots[slot].1 = tensor.numbers,
                DeviceRole::Input(_) | DeviceRole::State(_) | DeviceRole::Output(_) => memory.buffers[b] = tensor.numbers,
            }
        }
        result?;
    }
    Ok(())
}

/// An argument during a launch.
struct Tensor {
    numbers: Vec<f64>,
    touched: Vec<Touched>,
    access: Access,
    name: String,
}

/// A thread's place in time: its block, its number there, and how often the block's threads have met.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Moment {
    block: u64,
    thread: usize,
    epoch: u64,
}

/// Who wrote an element last, who read it last, and what of it would be forgotten: whether others read it too at that time, and whether
/// threads of another block than the last did.
#[derive(Clone, Copy, Default)]
struct Touched {
    writer: Option<Moment>,
    reader: Option<Moment>,
    readers: bool,
    blocks: bool,
}

impl Touched {
    fn read(&mut self, now: Moment) -> Result<(), String> {
        if let Some(writer) = self.writer.filter(|w| now.collides(w)) {
            return Err(format!("thread {} reads what thread {} writes, and nothing says which comes first", now.thread, writer.thread));
        }
        let last = self.reader.replace(now);
        self.readers = last.is_some_and(|r| r.epoch == now.epoch && (self.readers || r.thread != now.thread));
        self.blocks |= last.is_some_and(|r| r.block != now.block);
        Ok(())
    }

    fn write(&mut self, now: Moment) -> Result<(), String> {
        let last = self.reader.filter(|r| now.collides(r) || r.epoch == now.epoch && self.readers);
        if self.blocks || last.is_some() || self.writer.is_some_and(|w| now.collides(&w)) {
            return Err(format!("thread {} writes what another touches, and nothing says which comes first", now.thread));
        }
        self.writer = Some(now);
        Ok(())
    }
}

impl Moment {
    fn collides(&self, other: &Moment) -> bool {
        self.block != other.block || self.thread != other.thread && self.epoch == other.epoch
    }
}

struct Shared {
    numbers: Vec<Option<f64>>,
    touched: Vec<Touched>,
}

/// A table by the numbers of variables, which are dense.
struct ByVar<T>(Vec<Option<T>>);

impl<T> ByVar<T> {
    fn insert(&mut self, var: Var, value: T) {
        let at = var as usize;
        if self.0.len() <= at {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at] = Some(value);
    }

    fn get(&self, var: Var) -> Result<&T, String> {
        self.0.get(var as usize).and_then(Option::as_ref).ok_or_else(|| undeclared(var))
    }

    fn get_mut(&mut self, var: Var) -> Result<&mut T, String> {
        self.0.get_mut(var as usize).and_then(Option::as_mut).ok_or_else(|| undeclared(var))
    }
}

fn undeclared(var: Var) -> String {
    format!("v{var} is not declared")
}

struct Block<'a> {
    kernel: &'a DeviceKernel,
    number: u64,
    scalars: &'a [f64],
    streams: &'a [u32],
    args: &'a mut [Tensor],
    shared: Vec<Shared>,
    /// By thread.
    vars: ByVar<Vec<f64>>,
    types: ByVar<VarType>,
    arrays: ByVar<(ElementType, Vec<Vec<f64>>)>,
    active: Vec<bool>,
    /// How often all threads have met.
    epoch: u64,
}

impl<'a> Block<'a> {
    fn new(kernel: &'a DeviceKernel, number: u64, scalars: &'a [f64], streams: &'a [u32], args: &'a mut [Tensor]) -> Block<'a> {
        let shared = |s: &super::kernel::Shared| Shared { numbers: vec![None; s.len], touched: vec![Touched::default(); s.len] };
        Block {
            kernel,
            number,
            scalars,
            streams,
            args,
            shared: kernel.shared.iter().map(shared).collect(),
            vars: ByVar(Vec::new()),
            types: ByVar(Vec::new()),
            arrays: ByVar(Vec::new()),
            active: vec![true; kernel.block as usize],
            epoch: 0,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        self.body(&self.kernel.body)
    }

    fn body(&mut self, body: &[Stmt]) -> Result<(), String> {
        body.iter().try_for_each(|s| self.stmt(s))
    }

    fn threads(&self) -> Vec<usize> {
        (0..self.active.len()).filter(|&t| self.active[t]).collect()
    }

    /// One statement by all active threads.
    fn stmt(&mut self, stmt: &Stmt) -> Result<(), String> {
        match stmt {
            Stmt::Let(var, ty, value) | Stmt::Var(var, ty, value) => {
                self.types.insert(*var, *ty);
                self.vars.insert(*var, vec![f64::NAN; self.active.len()]);
                self.set(*var, value)?;
            }
            Stmt::Array(var, dtype, len) => {
                let zeros = vec![vec![0.0; *len]; self.active.len()];
                self.arrays.insert(*var, (*dtype, zeros));
            }
            Stmt::Set(var, value) => self.set(*var, value)?,
            Stmt::SetElement(array, at, value) => {
                for t in self.threads() {
                    let (at, value) = (self.place(at, t)?, self.expr(value, t)?);
                    let (dtype, numbers) = self.arrays.get_mut(*array)?;
                    let dtype = *dtype;
                    *numbers[t].get_mut(at).ok_or_else(|| format!("element {at} of array v{array}"))? = round(value, dtype);
                }
            }
            Stmt::SetShared(id, at, value) => {
                for t in self.threads() {
                    let (at, value) = (self.place(at, t)?, self.expr(value, t)?);
                    let shared = &mut self.shared[*id];
                    let touched = shared.touched.get_mut(at).ok_or_else(|| format!("element {at} of shared memory {id}"))?;
                    touched.write(Moment { block: self.number, thread: t, epoch: self.epoch })?;
                    shared.numbers[at] = Some(value);
                }
            }
            Stmt::Store(arg, at, value) => {
                for t in self.threads() {
                    let (at, value) = (self.place(at, t)?, self.expr(value, t)?);
                    let now = Moment { block: self.number, thread: t, epoch: self.epoch };
                    let tensor = &mut self.args[*arg];
                    if tensor.access == Access::Read {
                        return Err(format!("`{}` is only read, and stored", tensor.name));
                    }
                    let touched = tensor.touched.get_mut(at).ok_or_else(|| format!("stores element {at} of `{}`", tensor.name))?;
                    touched.write(now).map_err(|e| format!("`{}`: {e}", tensor.name))?;
                    tensor.numbers[at] = round(value, self.kernel.args[*arg].dtype);
                }
            }
            Stmt::For { var, count, body, unroll: _ } => {
                self.types.insert(*var, VarType::Index);
                for i in 0..*count {
                    self.vars.insert(*var, vec![i as f64; self.active.len()]);
                    self.body(body)?;
                }
            }
            Stmt::If(condition, body) => {
                let before = self.active.clone();
                for t in self.threads() {
                    self.active[t] = self.expr(condition, t)? != 0.0;
                }
                self.body(body)?;
                self.active = before;
            }
            Stmt::Barrier => self.barrier()?,
            Stmt::Combine { var, dtype, reduction, width, shared: _ } => {
                self.meet("a combination")?;
                let mut numbers = self.vars.get(*var)?.clone();
                let mut distance = *width as usize / 2;
                while distance > 0 {
                    let other = |t: usize| numbers[t ^ distance];
                    numbers = (0..numbers.len()).map(|t| combine(*reduction, *dtype, numbers[t], other(t))).collect();
                    distance /= 2;
                }
                self.vars.insert(*var, numbers);
                self.epoch += 1;
            }
            Stmt::Mma { acc, a, b } => {
                self.meet("a tensor core")?;
                self.mma(*acc, *a, *b)?;
            }
        }
        Ok(())
    }

    fn meet(&self, what: &str) -> Result<(), String> {
        if self.active.iter().all(|&a| a) { Ok(()) } else { Err(format!("{what} that some threads do not reach")) }
    }

    fn barrier(&mut self) -> Result<(), String> {
        self.meet("a barrier")?;
        self.epoch += 1;
        Ok(())
    }

    fn mma(&mut self, acc: (Var, u64), a: (Var, u64), b: (Var, u64)) -> Result<(), String> {
        for warp in 0..self.active.len() / 32 {
            let (sums_before, x, y) = (&self.arrays.get(acc.0)?.1, &self.arrays.get(a.0)?.1, &self.arrays.get(b.0)?.1);
            let fetch = |from: &[Vec<f64>], first: u64, lane: usize, i: usize| from[warp * 32 + lane][first as usize + i];
            let left = |row: usize, k: usize| fetch(x, a.1, row % 8 * 4 + k % 4, row / 8 + k / 4 * 2);
            let right = |k: usize, column: usize| fetch(y, b.1, column * 4 + k % 4, k / 4);
            let mut sums = Vec::new();
            for lane in 0..32 {
                for i in 0..4 {
                    let (row, column) = (lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2);
                    let sum = (0..8).fold(fetch(sums_before, acc.1, lane, i), |s, k| s + left(row, k) * right(k, column));
                    sums.push((warp * 32 + lane, acc.1 as usize + i, round(sum, ElementType::F32)));
                }
            }
            let (_, numbers) = self.arrays.get_mut(acc.0)?;
            sums.into_iter().for_each(|(thread, at, sum)| numbers[thread][at] = sum);
        }
        Ok(())
    }

    fn set(&mut self, var: Var, value: &Expr) -> Result<(), String> {
        for t in self.threads() {
            let value = self.expr(value, t)?;
            let value = match *self.types.get(var)? {
                VarType::Index => value,
                VarType::Element(dtype) => round(value, dtype),
            };
            self.vars.get_mut(var)?[t] = value;
        }
        Ok(())
    }

    fn place(&mut self, at: &Expr, t: usize) -> Result<usize, String> {
        Ok(self.expr(at, t)? as usize)
    }

    fn expr(&mut self, expr: &Expr, t: usize) -> Result<f64, String> {
        Ok(match expr {
            Expr::Int(x) => *x as f64,
            Expr::Number(x, dtype) => round(*x, *dtype),
            Expr::Var(var) => self.vars.get(*var)?[t],
            Expr::Element(array, at) => {
                let at = self.place(at, t)?;
                let numbers = &self.arrays.get(*array)?.1[t];
                *numbers.get(at).ok_or_else(|| format!("element {at} of array v{array}"))?
            }
            Expr::Shared(id, at) => {
                let at = self.place(at, t)?;
                let now = Moment { block: self.number, thread: t, epoch: self.epoch };
                let shared = &mut self.shared[*id];
                shared.touched.get_mut(at).ok_or_else(|| format!("element {at} of shared memory {id}"))?.read(now)?;
                shared.numbers[at].ok_or_else(|| format!("element {at} of shared memory {id} is read before it is written"))?
            }
            Expr::Load(arg, at) => {
                let at = self.place(at, t)?;
                let now = Moment { block: self.number, thread: t, epoch: self.epoch };
                let tensor = &mut self.args[*arg];
                let touched = tensor.touched.get_mut(at).ok_or_else(|| format!("loads element {at} of `{}`", tensor.name))?;
                touched.read(now).map_err(|e| format!("`{}`: {e}", tensor.name))?;
                tensor.numbers[at]
            }
            Expr::Scalar(scalar) => self.scalars[*scalar],
            Expr::Thread => t as f64,
            Expr::Block => self.number as f64,
            Expr::Index(op, x, y) => {
                let (x, y) = (self.expr(x, t)? as u64, self.expr(y, t)? as u64);
                let z = match op {
                    IndexOp::Add => x + y,
                    IndexOp::Mul => x * y,
                    IndexOp::Div => x / y,
                    IndexOp::Rem => x % y,
                    IndexOp::Min => x.min(y),
                };
                if !self.kernel.wide && z > u32::MAX as u64 {
                    return Err(format!("the index {z} needs more than 32 bits"));
                }
                z as f64
            }
            Expr::Compare(op, x, y) => {
                let (x, y) = (self.expr(x, t)?, self.expr(y, t)?);
                f64::from(match op {
                    Comparison::Lt => x < y,
                    Comparison::Eq => x == y,
                })
            }
            Expr::Both(x, y) => f64::from(self.expr(x, t)? != 0.0 && self.expr(y, t)? != 0.0),
            Expr::Integer(x) | Expr::Position(x) => self.expr(x, t)?,
            Expr::Prim(prim, from, to, args) => {
                let args = args.iter().map(|x| self.expr(x, t)).collect::<Result<Vec<_>, _>>()?;
                scalar(*prim, *from, *to, &args)
            }
            Expr::Fma(dtype, x, y, z) => {
                let (x, y, z) = (self.expr(x, t)?, self.expr(y, t)?, self.expr(z, t)?);
                round(x.mul_add(y, z), *dtype)
            }
            Expr::Max(dtype, x, y) => combine(Reduction::Max, *dtype, self.expr(x, t)?, self.expr(y, t)?),
            Expr::Tf32(x) => tf32(self.expr(x, t)?),
            Expr::Normal(normal) => {
                let Normal { dtype, domain, seed, step, stream, direction, element } = &**normal;
                let (seed, step) = (self.expr(seed, t)? as i64 as u32, self.expr(step, t)? as i64 as u32);
                let (direction, element) = (self.expr(direction, t)? as u32, self.expr(element, t)? as u64);
                let domain = [philox::Domain::Noise, philox::Domain::Init].into_iter().find(|d| d.key() == *domain);
                let domain = domain.ok_or("noise of an unknown domain")?;
                let bits = philox::normals4(seed, domain, self.streams[*stream], direction, step, element / 4);
                let pair = (element % 4 / 2 * 2) as usize;
                let (x, y) = match dtype {
                    ElementType::F32 => {
                        let (x, y) = philox::box_muller_f32(bits[pair], bits[pair + 1]);
                        (x as f64, y as f64)
                    }
                    ElementType::F64 => philox::box_muller_f64(bits[pair], bits[pair + 1]),
                    ElementType::I32 | ElementType::Bool => return Err("noise that is no float".into()),
                };
                if element.is_multiple_of(2) { x } else { y }
            }
        })
    }
}

/// As PTX's `cvt.rna.tf32.f32`.
fn tf32(x: f64) -> f64 {
    let bits = (x as f32).to_bits();
    f64::from(if x.is_finite() { f32::from_bits((bits + 0x1000) & !0x1fff) } else { x as f32 })
}

fn combine(reduction: Reduction, dtype: ElementType, x: f64, y: f64) -> f64 {
    match reduction {
        Reduction::Sum => scalar(Prim::Add, dtype, dtype, &[x, y]),
        Reduction::Max if x.is_nan() || y.is_nan() => f64::NAN,
        Reduction::Max => x.max(y),
    }
}

/// As a register of the dtype holds it.
pub fn round(x: f64, dtype: ElementType) -> f64 {
    match dtype {
        ElementType::F32 => f64::from(x as f32),
        ElementType::F64 => x,
        ElementType::I32 => f64::from(x as i32),
        ElementType::Bool => f64::from(x != 0.0),
    }
}

/// One primitive on operands of the dtype `from` (of a select, the last one's); one rounding, two for `rsqrt`.
pub fn scalar(prim: Prim, from: ElementType, to: ElementType, x: &[f64]) -> f64 {
    let (a, b) = (x[0], x.get(1).copied().unwrap_or(0.0));
    let (i, j) = (a as i32, b as i32);
    let number = |float: f64, integer: i32| match from {
        ElementType::I32 => f64::from(integer),
        ElementType::F32 | ElementType::F64 | ElementType::Bool => float,
    };
    let y = match prim {
        Prim::Add => number(a + b, i.wrapping_add(j)),
        Prim::Sub => number(a - b, i.wrapping_sub(j)),
        Prim::Mul => number(a * b, i.wrapping_mul(j)),
        Prim::Neg => number(-a, i.wrapping_neg()),
        Prim::Div => a / b,
        Prim::Exp => a.exp(),
        Prim::Log => a.ln(),
        Prim::Tanh => a.tanh(),
        Prim::Erf => libm::erf(a),
        Prim::Sqrt => a.sqrt(),
        Prim::Rsqrt => 1.0 / round(a.sqrt(), to),
        Prim::Relu => {
            if a > 0.0 {
                a
            } else {
                0.0
            }
        }
        Prim::Lt => f64::from(a < b),
        Prim::Le => f64::from(a <= b),
        Prim::Gt => f64::from(a > b),
        Prim::Ge => f64::from(a >= b),
        Prim::Eq => f64::from(a == b),
        Prim::Ne => f64::from(a != b),
        Prim::And => f64::from(a != 0.0 && b != 0.0),
        Prim::Or => f64::from(a != 0.0 || b != 0.0),
        Prim::Not => f64::from(a == 0.0),
        Prim::Select => {
            if a != 0.0 {
                b
            } else {
                x[2]
            }
        }
        Prim::Cast => a,
    };
    round(y, to)
}
