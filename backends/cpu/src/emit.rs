//! A loop nest as Cranelift IR: `fn(args: *const *mut u8, from: i64, to: i64, scratch: *mut u8)`, where `from..to` is a range of the first
//! outer loop and is not empty.
//!
//! A kernel is written once for any number of points side by side ([`Emitter::lanes`]): a register of the plan becomes a [`Pack`], either one
//! vector whose lanes are all the same or several vectors with a lane for each point. One point at a time is the first kind throughout, so
//! the same instructions compute an element wherever a range is cut, and its bits do not depend on the cut.
//!
//! This file never looks at what a primitive computes (`emit/prim.rs`, `emit/math.rs`) or how a lane reaches memory (`emit/pack.rs`), and it
//! trusts the plan to be verified. Read [`emit`], then [`Emitter::nest`] and [`Emitter::row`].

mod math;
mod pack;
mod prim;

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, FuncRef, Function, InstBuilder, MemFlagsData, Value, types};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use pushforward_plan::kernel::{Access, Arg, ElementType, Inst, InstKind, Lanes, Loops, Place, Prim, Reduction, Section};
use pushforward_plan::merge::merged;

use pack::Pack;

/// What is compiled.
pub(crate) struct Nest<'a> {
    pub loops: &'a Loops,
    pub args: &'a [Arg],
    /// By argument: nothing that the kernel writes overlaps it, in any launch.
    pub readonly: &'a [bool],
}

/// The registered f64 functions, declared in the function being built.
pub(crate) struct Libm(pub Vec<(Prim, FuncRef)>);

impl Libm {
    fn of(&self, prim: Prim) -> FuncRef {
        self.0.iter().find(|(p, _)| *p == prim).map(|(_, f)| *f).expect("every slow primitive has a function for f64")
    }
}

/// Builds the body of `func`, whose signature is that of a kernel.
pub(crate) fn emit(func: &mut Function, context: &mut FunctionBuilderContext, target: TargetFrontendConfig, nest: &Nest<'_>, libm: Libm) {
    let mut b = FunctionBuilder::new(func, context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let &[args, from, to, scratch] = b.block_params(entry) else { unreachable!("a kernel takes four arguments") };

    let (loops, scale) = merged(nest.loops);
    let nest = &Nest { loops: &loops, ..*nest };
    let loops = &loops;
    let (from, to) = (b.ins().imul_imm_u(from, scale as i64), b.ins().imul_imm_u(to, scale as i64));
    let points = points(loops);
    let streams = streams(nest, points);
    let pointer = MemFlagsData::new().with_notrap().with_aligned().with_readonly().with_can_move();
    let mut bases: Vec<Value> = Vec::new();
    for arg in 0..nest.args.len() {
        bases.push(b.ins().load(types::I64, pointer, args, (arg * 8) as i32));
    }
    let mut offset = 0;
    for slot in &loops.scratch {
        bases.push(b.ins().iadd_imm_s(scratch, offset as i64));
        offset += slot_bytes(loops, slot.dtype, points);
    }
    let ptrs = streams.iter().map(|s| bases[s.base]).collect();
    let registers = instructions(loops).map(|i| i.reg as usize + 1).max().unwrap_or(0);
    let mut emitter = Emitter {
        b,
        nest,
        libm,
        points,
        range: (from, to),
        lanes: 1,
        active: 1,
        index: vec![Index::Fixed(0); loops.outer.len() + loops.row.len()],
        streams,
        ptrs,
        regs: vec![None; registers],
        dtypes: vec![ElementType::Bool; registers],
        zeros: vec![false; registers],
    };
    emitter.nest(0);
    emitter.b.ins().return_(&[]);
    emitter.b.seal_all_blocks();
    emitter.b.finalize(target);
}

/// Bytes of scratch that a call of the kernel needs.
pub(crate) fn scratch_bytes(loops: &Loops) -> usize {
    let (loops, _) = &merged(loops);
    let points = points(loops);
    loops.scratch.iter().map(|s| slot_bytes(loops, s.dtype, points)).sum()
}

fn slot_bytes(loops: &Loops, dtype: ElementType, points: usize) -> usize {
    let row: usize = loops.row.iter().map(|l| l.size).product();
    let each = match loops.lanes {
        Lanes::Outer => points,
        Lanes::Row | Lanes::Scalar => 1,
    };
    // The last vector of a row may be a part of one, and is kept whole.
    (row * each * pack::scratch_element(dtype) + 32).next_multiple_of(64)
}

/// How many points the vector path computes side by side: a multiple of 4, or 1 where there are no lanes.
fn points(loops: &Loops) -> usize {
    let size = match loops.lanes {
        Lanes::Row => loops.row.last().map_or(1, |l| l.size),
        Lanes::Outer => loops.outer.last().map_or(1, |l| l.size),
        Lanes::Scalar => return 1,
    };
    let mut points = 4 * unroll(loops);
    while points > 4 && points > size {
        points /= 2;
    }
    points
}

/// Vectors side by side: many for short bodies, to hide latencies; one where registers would spill.
fn unroll(loops: &Loops) -> usize {
    let cost: usize = instructions(loops)
        .map(|i| match &i.kind {
            InstKind::Prim(prim, _) if prim.is_slow() => 12,
            InstKind::Prim(..) | InstKind::Reduce(..) | InstKind::Load(_) | InstKind::Draw(_) => 1,
            InstKind::Const(_) | InstKind::Index(_) | InstKind::Store(..) | InstKind::Keep(..) | InstKind::Recall(_) => 0,
        })
        .sum();
    match cost {
        0..=8 => 4,
        9..=48 => 2,
        _ => 1,
    }
}

fn instructions(loops: &Loops) -> impl Iterator<Item = &Inst> {
    loops.sections.iter().flat_map(|s| match s {
        Section::Once(insts) | Section::Row(insts) => insts,
    })
}

/// A walk through memory: a buffer or a row of scratch, and how far each loop moves in it.
struct Stream {
    /// Index of the argument, or number of arguments plus that of the scratch row.
    base: usize,
    /// In bytes, by loop.
    strides: Vec<usize>,
}

/// Every distinct walk of the kernel. Scratch rows come last, in order.
fn streams(nest: &Nest<'_>, points: usize) -> Vec<Stream> {
    let loops = nest.loops;
    let mut streams: Vec<Stream> = Vec::new();
    for inst in instructions(loops) {
        if let InstKind::Load(place) | InstKind::Store(place, _) = &inst.kind {
            let stream = stream_of(nest, place);
            if !streams.iter().any(|s| s.base == stream.base && s.strides == stream.strides) {
                streams.push(stream);
            }
        }
    }
    for (slot, scratch) in loops.scratch.iter().enumerate() {
        let mut step = pack::scratch_element(scratch.dtype) * if loops.lanes == Lanes::Outer { points } else { 1 };
        let mut strides = vec![0; loops.outer.len() + loops.row.len()];
        for (row, l) in loops.row.iter().enumerate().rev() {
            strides[loops.outer.len() + row] = step;
            step *= l.size;
        }
        streams.push(Stream { base: nest.args.len() + slot, strides });
    }
    streams
}

fn stream_of(nest: &Nest<'_>, place: &Place) -> Stream {
    let bytes = nest.args[place.arg].dtype.bytes();
    Stream { base: place.arg, strides: place.strides.iter().map(|s| s * bytes).collect() }
}

/// Where a loop stands.
#[derive(Clone, Copy)]
enum Index {
    Fixed(i64),
    Moving(Value),
}

/// Values carried around a loop; the body returns their next ones.
type Carried = Vec<Value>;

pub(crate) struct Emitter<'a> {
    b: FunctionBuilder<'a>,
    nest: &'a Nest<'a>,
    libm: Libm,
    /// Points side by side on the vector path.
    points: usize,
    /// `from` and `to`.
    range: (Value, Value),
    /// Points side by side here: 1, or a multiple of 4 up to `points`.
    lanes: usize,
    /// How many of them are points of the nest: all, but at the end of a loop whose size is no multiple of 4. What the others hold is never
    /// stored nor summed.
    active: usize,
    /// Of each loop; of the loop of lanes, the first lane's.
    index: Vec<Index>,
    streams: Vec<Stream>,
    /// Of each stream, at the indices of the loops entered so far.
    ptrs: Vec<Value>,
    regs: Vec<Option<Pack>>,
    dtypes: Vec<ElementType>,
    /// Registers that hold the constant +0.
    zeros: Vec<bool>,
}

impl Emitter<'_> {
    /// The outer loops from `level` on.
    fn nest(&mut self, level: usize) {
        let outer = &self.nest.loops.outer;
        if level == outer.len() {
            return self.point();
        }
        if level + 1 == outer.len() && self.nest.loops.lanes == Lanes::Outer {
            self.run_of_lanes(level, Vec::new(), &mut |e, _| {
                e.point();
                Vec::new()
            });
            return;
        }
        let (from, to) = self.bounds(level);
        self.count(level, from, to, 1, Vec::new(), &mut |e, _| {
            e.nest(level + 1);
            Vec::new()
        });
    }

    /// One point of `outer`, or `lanes` of them.
    fn point(&mut self) {
        let loops = self.nest.loops;
        for section in &loops.sections {
            match section {
                Section::Once(insts) => insts.iter().for_each(|i| self.inst(i)),
                Section::Row(insts) => self.row(insts),
            }
        }
        // What was defined here is no longer valid outside of the loops' blocks.
        self.regs.iter_mut().for_each(|r| *r = None);
    }

    /// A row section: what does not change along the row first, then the loops of the row around the rest, then the reductions' results.
    fn row(&mut self, insts: &[Inst]) {
        let fixed = self.fixed_along_row(insts);
        let (before, body): (Vec<_>, Vec<_>) = insts.iter().zip(fixed).partition(|(_, fixed)| *fixed);
        before.iter().for_each(|(i, _)| self.inst(i));
        let body: Vec<&Inst> = body.into_iter().map(|(i, _)| i).collect();

        let reductions: Vec<&Inst> = body.iter().copied().filter(|i| matches!(i.kind, InstKind::Reduce(..))).collect();
        let mut sums: Vec<Sums> = reductions.iter().map(|i| self.start(i)).collect();
        let shape: Vec<usize> = sums.iter().map(|s| s.vectors.len()).collect();
        let outside = self.regs.clone();
        let carried = self.row_loops(self.nest.loops.outer.len(), Sums::pack(sums), &mut |e, carried| {
            e.regs.clone_from(&outside);
            let mut sums = Sums::unpack(&shape, &carried);
            let mut next = 0;
            for inst in &body {
                if let InstKind::Reduce(reduction, reg) = inst.kind {
                    e.add(&mut sums[next], reduction, inst.dtype, reg);
                    next += 1;
                } else {
                    e.inst(inst);
                }
            }
            Sums::pack(sums)
        });
        self.regs = outside;
        sums = Sums::unpack(&shape, &carried);
        for (inst, sums) in reductions.iter().zip(sums) {
            if let InstKind::Reduce(reduction, _) = inst.kind {
                let result = self.finish(reduction, inst.dtype, sums);
                self.define(inst, result);
            }
        }
    }

    fn row_loops(&mut self, level: usize, carried: Carried, body: &mut dyn FnMut(&mut Self, Carried) -> Carried) -> Carried {
        let loops = self.nest.loops;
        let last = loops.outer.len() + loops.row.len();
        if level == last {
            return body(self, carried);
        }
        if level + 1 == last && loops.lanes == Lanes::Row {
            return self.run_of_lanes(level, carried, body);
        }
        let (from, to) = self.bounds(level);
        self.count(level, from, to, 1, carried, &mut |e, carried| e.row_loops(level + 1, carried, body))
    }

    /// Which instructions of a row section give the same at every point of the row, so that they may be computed before it.
    fn fixed_along_row(&self, insts: &[Inst]) -> Vec<bool> {
        let outer = self.nest.loops.outer.len();
        let mut moving = vec![false; self.regs.len()];
        let mut fixed = Vec::new();
        for inst in insts {
            let is_fixed = match &inst.kind {
                InstKind::Const(_) => true,
                InstKind::Index(l) => *l < outer,
                InstKind::Load(place) => {
                    let arg = &self.nest.args[place.arg];
                    let unwritten = match arg.access {
                        Access::Read => self.nest.readonly[place.arg],
                        Access::Write | Access::ReadWrite => false,
                    };
                    unwritten && place.strides[outer..].iter().all(|&s| s == 0)
                }
                InstKind::Prim(_, args) => args.iter().all(|&r| !moving[r as usize]),
                InstKind::Draw(_) | InstKind::Reduce(..) | InstKind::Store(..) | InstKind::Keep(..) | InstKind::Recall(_) => false,
            };
            // Stores and keeps define nothing, whatever their register says.
            if !is_fixed && !matches!(inst.kind, InstKind::Store(..) | InstKind::Keep(..)) {
                moving[inst.reg as usize] = true;
            }
            fixed.push(is_fixed);
        }
        fixed
    }

    /// A loop's range: known sizes but for the first outer loop's.
    fn bounds(&self, level: usize) -> (Index, Index) {
        let loops = self.nest.loops;
        match loops.outer.get(level) {
            Some(_) if level == 0 => (Index::Moving(self.range.0), Index::Moving(self.range.1)),
            Some(l) => (Index::Fixed(0), Index::Fixed(l.size as i64)),
            None => (Index::Fixed(0), Index::Fixed(loops.row[level - loops.outer.len()].size as i64)),
        }
    }

    /// The loop of lanes: as many points as fit side by side; then, where the size is known, the most vectors that fit and the lanes of one
    /// vector that are left; where it is not, one by one.
    fn run_of_lanes(&mut self, level: usize, carried: Carried, body: &mut dyn FnMut(&mut Self, Carried) -> Carried) -> Carried {
        let points = self.points as i64;
        match self.bounds(level) {
            (Index::Fixed(from), Index::Fixed(to)) => {
                let whole = from + (to - from) / points * points;
                let vectors = whole + (to - whole) / 4 * 4;
                let mut carried = carried;
                for (from, to, step) in [(from, whole, points), (whole, vectors, vectors - whole), (vectors, to, to - vectors)] {
                    if from < to {
                        carried =
                            self.with_lanes(step as usize, |e| e.count(level, Index::Fixed(from), Index::Fixed(to), step, carried, body));
                    }
                }
                carried
            }
            (from, to) => {
                let (from, to) = (self.index_value(from), self.index_value(to));
                let size = self.b.ins().isub(to, from);
                let whole = self.b.ins().band_imm_s(size, -points);
                let whole = self.b.ins().iadd(from, whole);
                let (middle, end) = (Index::Moving(whole), Index::Moving(to));
                let carried = self.with_lanes(self.points, |e| e.count(level, Index::Moving(from), middle, points, carried, body));
                self.count(level, middle, end, 1, carried, body)
            }
        }
    }

    /// `f` on `active` points side by side.
    fn with_lanes<T>(&mut self, active: usize, f: impl FnOnce(&mut Self) -> T) -> T {
        let outside = (self.lanes, self.active);
        (self.lanes, self.active) = (active.next_multiple_of(4), active);
        let result = f(self);
        (self.lanes, self.active) = outside;
        result
    }

    /// `for index in (from..to).step_by(step)`; `step` divides the size. Known sizes of 0 and 1 make no loop.
    fn count(
        &mut self,
        level: usize,
        from: Index,
        to: Index,
        step: i64,
        carried: Carried,
        body: &mut dyn FnMut(&mut Self, Carried) -> Carried,
    ) -> Carried {
        if let (Index::Fixed(from), Index::Fixed(to)) = (from, to) {
            if from == to {
                return carried;
            }
            if from + step == to {
                return self.at(level, Index::Fixed(from), carried, body);
            }
        }
        let known = matches!((from, to), (Index::Fixed(_), Index::Fixed(_)));
        let (from, to) = (self.index_value(from), self.index_value(to));
        let (head, exit) = (self.b.create_block(), self.b.create_block());
        let index = self.b.append_block_param(head, types::I64);
        let (mut inside, mut after) = (Vec::new(), Vec::new());
        for &v in &carried {
            let ty = self.b.func.dfg.value_type(v);
            inside.push(self.b.append_block_param(head, ty));
            after.push(self.b.append_block_param(exit, ty));
        }
        let enter: Vec<BlockArg> = [from].iter().chain(&carried).map(|&v| v.into()).collect();
        if known {
            self.b.ins().jump(head, &enter);
        } else {
            let some = self.b.ins().icmp(IntCC::SignedLessThan, from, to);
            self.b.ins().brif(some, head, &enter, exit, &enter[1..]);
        }
        self.b.switch_to_block(head);
        let carried = self.at(level, Index::Moving(index), inside, body);
        let next = self.b.ins().iadd_imm_s(index, step);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, to);
        let again: Vec<BlockArg> = [next].iter().chain(&carried).map(|&v| v.into()).collect();
        self.b.ins().brif(more, head, &again, exit, &again[1..]);
        self.b.switch_to_block(exit);
        after
    }

    /// The body of a loop at one index: every stream moves there, and back afterwards.
    fn at(&mut self, level: usize, index: Index, carried: Carried, body: &mut dyn FnMut(&mut Self, Carried) -> Carried) -> Carried {
        let (outside, outside_index) = (self.ptrs.clone(), self.index[level]);
        self.index[level] = index;
        let mut moved: HashMap<(Value, usize), Value> = HashMap::new();
        for s in 0..self.streams.len() {
            let (ptr, stride) = (self.ptrs[s], self.streams[s].strides[level]);
            if stride == 0 {
                continue;
            }
            self.ptrs[s] = match moved.get(&(ptr, stride)) {
                Some(&ptr) => ptr,
                None => {
                    let new = match index {
                        Index::Fixed(0) => ptr,
                        Index::Fixed(i) => self.b.ins().iadd_imm_s(ptr, i * stride as i64),
                        Index::Moving(i) => {
                            let bytes = if stride.is_power_of_two() {
                                self.b.ins().ishl_imm_u(i, stride.trailing_zeros() as i64)
                            } else {
                                self.b.ins().imul_imm_u(i, stride as i64)
                            };
                            self.b.ins().iadd(ptr, bytes)
                        }
                    };
                    moved.insert((ptr, stride), new);
                    new
                }
            };
        }
        let carried = body(self, carried);
        self.ptrs = outside;
        self.index[level] = outside_index;
        carried
    }

    fn index_value(&mut self, index: Index) -> Value {
        match index {
            Index::Fixed(i) => self.b.ins().iconst(types::I64, i),
            Index::Moving(v) => v,
        }
    }

    fn inst(&mut self, inst: &Inst) {
        match &inst.kind {
            InstKind::Const(number) => {
                let value = self.constant(inst.dtype, *number);
                self.define(inst, Pack::Same(value));
                self.zeros[inst.reg as usize] = number.to_bits() == 0;
            }
            InstKind::Index(level) => {
                let value = self.index_pack(*level);
                self.define(inst, value);
            }
            InstKind::Load(place) => {
                let (stream, access) = self.access(place);
                let value = self.load(access, self.ptrs[stream]);
                self.define(inst, value);
            }
            InstKind::Prim(prim, args) => {
                let value = self.prim(inst, *prim, args);
                self.define(inst, value);
            }
            InstKind::Store(place, reg) => {
                let (stream, access) = self.access(place);
                let value = self.reg(*reg);
                self.store(access, self.ptrs[stream], &value);
            }
            InstKind::Keep(slot, reg) => {
                let value = self.reg(*reg);
                self.keep(*slot, &value);
            }
            InstKind::Recall(slot) => {
                let value = self.recall(*slot);
                self.define(inst, value);
            }
            InstKind::Reduce(..) => unreachable!("row sections take reductions apart"),
            InstKind::Draw(_) => unreachable!("verified: noise has kernels of its own"),
        }
    }

    fn define(&mut self, inst: &Inst, value: Pack) {
        self.regs[inst.reg as usize] = Some(value);
        self.dtypes[inst.reg as usize] = inst.dtype;
        self.zeros[inst.reg as usize] = false;
    }

    fn reg(&self, reg: u32) -> Pack {
        self.regs[reg as usize].clone().expect("verified: a register is defined before it is used")
    }

    fn start(&mut self, inst: &Inst) -> Sums {
        let InstKind::Reduce(reduction, _) = inst.kind else { unreachable!("only reductions have sums") };
        let first = self.constant(inst.dtype, neutral(reduction, inst.dtype));
        // Lanes of a row have sums of their own.
        let count = match self.nest.loops.lanes {
            Lanes::Row => pack::vectors(inst.dtype, self.points),
            Lanes::Outer | Lanes::Scalar => pack::vectors(inst.dtype, self.lanes),
        };
        Sums { vectors: vec![first; count] }
    }

    fn add(&mut self, sums: &mut Sums, reduction: Reduction, dtype: ElementType, reg: u32) {
        let value = self.reg(reg);
        let lanes = pack::lane_count(dtype);
        for v in 0..pack::vectors(dtype, self.active) {
            let mut x = value.vector(v);
            if self.lanes > 1 && self.active < (v + 1) * lanes {
                x = self.only_lanes(dtype, x, self.active - v * lanes, neutral(reduction, dtype));
            }
            sums.vectors[v] = self.combine(reduction, dtype, sums.vectors[v], x);
        }
    }

    /// The result: neighbouring vectors pairwise, then halves of the vector.
    fn finish(&mut self, reduction: Reduction, dtype: ElementType, sums: Sums) -> Pack {
        let mut vectors = sums.vectors;
        match self.nest.loops.lanes {
            Lanes::Outer if self.lanes > 1 => return Pack::Each(vectors),
            Lanes::Outer | Lanes::Scalar => return Pack::Same(vectors[0]),
            Lanes::Row => {}
        }
        while vectors.len() > 1 {
            let pairs = vectors.chunks(2).map(|pair| match *pair {
                [x, y] => self.combine(reduction, dtype, x, y),
                _ => pair[0],
            });
            vectors = pairs.collect();
        }
        let mut sum = vectors[0];
        for half in pack::halvings(dtype) {
            let other = self.shuffled(sum, half);
            sum = self.combine(reduction, dtype, sum, other);
        }
        Pack::Same(sum)
    }

    fn combine(&mut self, reduction: Reduction, dtype: ElementType, x: Value, y: Value) -> Value {
        match (reduction, dtype) {
            (Reduction::Sum, ElementType::F32 | ElementType::F64) => self.b.ins().fadd(x, y),
            (Reduction::Sum, ElementType::I32) => self.b.ins().iadd(x, y),
            (Reduction::Max, ElementType::F32 | ElementType::F64) => self.b.ins().fmax(x, y),
            (Reduction::Max, ElementType::I32) => self.b.ins().smax(x, y),
            (Reduction::Sum | Reduction::Max, ElementType::Bool) => self.b.ins().bor(x, y),
        }
    }
}

/// What a reduction starts from.
fn neutral(reduction: Reduction, dtype: ElementType) -> f64 {
    match (reduction, dtype) {
        (Reduction::Sum, _) => 0.0,
        (Reduction::Max, ElementType::F32 | ElementType::F64) => f64::NEG_INFINITY,
        (Reduction::Max, ElementType::I32) => i32::MIN as f64,
        (Reduction::Max, ElementType::Bool) => 0.0,
    }
}

/// The running values of one reduction.
struct Sums {
    vectors: Vec<Value>,
}

impl Sums {
    fn pack(sums: Vec<Sums>) -> Carried {
        sums.into_iter().flat_map(|s| s.vectors).collect()
    }

    fn unpack(shape: &[usize], mut carried: &[Value]) -> Vec<Sums> {
        let mut sums = Vec::new();
        for &count in shape {
            let (vectors, rest) = carried.split_at(count);
            sums.push(Sums { vectors: vectors.to_vec() });
            carried = rest;
        }
        sums
    }
}
