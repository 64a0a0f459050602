//! Vectors: what a register of the plan is in a kernel, and how its lanes reach memory. All vectors are 128 bits wide, the widest that the
//! code generator has on x64: 4 lanes of f32 or i32, 2 of f64. A bool is a mask, 4 lanes of all ones or all zeros; in memory it is a byte.
//!
//! Nothing here computes. Read [`Pack`], then [`Emitter::load`] and [`Emitter::store`].

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use pushforward_plan::kernel::{Access, ElementType, Lanes, Place};

use super::{Emitter, Index};

/// The points of a register.
#[derive(Clone)]
pub(crate) enum Pack {
    /// All points alike, in every lane of one vector. One point alone is this.
    Same(Value),
    /// Points in order, as many vectors as they fill.
    Each(Vec<Value>),
}

impl Pack {
    pub(crate) fn vector(&self, v: usize) -> Value {
        match self {
            Pack::Same(x) => *x,
            Pack::Each(x) => x[v],
        }
    }
}

/// How a place is reached from the loop of lanes.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    dtype: ElementType,
    /// Elements from lane to lane.
    stride: usize,
    flags: MemFlagsData,
}

/// Vectors that hold `points` points (one, if they are all the same).
pub(crate) fn vectors(dtype: ElementType, points: usize) -> usize {
    points.div_ceil(lane_count(dtype))
}

pub(crate) fn lane_count(dtype: ElementType) -> usize {
    match dtype {
        ElementType::F32 | ElementType::I32 | ElementType::Bool => 4,
        ElementType::F64 => 2,
    }
}

pub(crate) fn vector_type(dtype: ElementType) -> Type {
    match dtype {
        ElementType::F32 => types::F32X4,
        ElementType::F64 => types::F64X2,
        ElementType::I32 | ElementType::Bool => types::I32X4,
    }
}

/// Bytes of one kept point: masks are kept as they are.
pub(crate) fn scratch_element(dtype: ElementType) -> usize {
    match dtype {
        ElementType::F32 | ElementType::I32 | ElementType::Bool => 4,
        ElementType::F64 => 8,
    }
}

/// Byte shuffles that bring each half of what is left onto the other: combining with each in turn leaves the same in every lane.
pub(crate) fn halvings(dtype: ElementType) -> &'static [[u8; 16]] {
    const HALVES: [u8; 16] = [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7];
    const PAIRS: [u8; 16] = [4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11];
    match dtype {
        ElementType::F32 | ElementType::I32 | ElementType::Bool => &[HALVES, PAIRS],
        ElementType::F64 => &[HALVES],
    }
}

fn scalar_type(dtype: ElementType) -> Type {
    match dtype {
        ElementType::F32 => types::F32,
        ElementType::F64 => types::F64,
        ElementType::I32 | ElementType::Bool => types::I32,
    }
}

impl Emitter<'_> {
    /// The stream of a place, and how its lanes lie.
    pub(crate) fn access(&self, place: &Place) -> (usize, Reach) {
        let loops = self.nest.loops;
        let arg = &self.nest.args[place.arg];
        let wanted = super::stream_of(self.nest, place);
        let stream = self.streams.iter().position(|s| s.base == wanted.base && s.strides == wanted.strides);
        let stride = match loops.lanes {
            Lanes::Row => *place.strides.last().unwrap_or(&0),
            Lanes::Outer => loops.outer.len().checked_sub(1).map_or(0, |last| place.strides[last]),
            Lanes::Scalar => 0,
        };
        // No `aligned`: a caller's tensor is aligned to its elements only, vectors start anywhere.
        let mut flags = MemFlagsData::new().with_notrap();
        if arg.access == Access::Read && self.nest.readonly[place.arg] {
            flags = flags.with_readonly().with_can_move();
        }
        (stream.expect("every place was collected"), Reach { dtype: arg.dtype, stride, flags })
    }

    pub(crate) fn load(&mut self, reach: Reach, ptr: Value) -> Pack {
        let Reach { dtype, stride, flags } = reach;
        let ty = vector_type(dtype);
        if self.lanes == 1 || stride == 0 {
            let scalar = self.load_scalar(dtype, flags, ptr, 0);
            let value = self.b.ins().splat(ty, scalar);
            return Pack::Same(self.loaded(dtype, value));
        }
        let lanes = lane_count(dtype);
        let each = (0..vectors(dtype, self.lanes)).map(|v| {
            let value = match (stride, dtype) {
                _ if self.active < (v + 1) * lanes => self.load_lanes(reach, ptr, v, self.active.saturating_sub(v * lanes)),
                (1, ElementType::F32 | ElementType::F64 | ElementType::I32) => self.b.ins().load(ty, flags, ptr, 16 * v as i32),
                (1, ElementType::Bool) => {
                    let bytes = self.b.ins().load(types::I32, flags, ptr, 4 * v as i32);
                    let bytes = self.b.ins().scalar_to_vector(types::I32X4, bytes);
                    let bytes = self.bitcast(types::I8X16, bytes);
                    let words = self.b.ins().swiden_low(bytes);
                    self.b.ins().swiden_low(words)
                }
                (_, ElementType::F32 | ElementType::F64 | ElementType::I32 | ElementType::Bool) => self.load_lanes(reach, ptr, v, lanes),
            };
            self.loaded(dtype, value)
        });
        Pack::Each(each.collect())
    }

    pub(crate) fn store(&mut self, reach: Reach, ptr: Value, value: &Pack) {
        let Reach { dtype, stride, flags } = reach;
        let lanes = lane_count(dtype);
        for v in 0..vectors(dtype, self.lanes) {
            let vector = self.stored(dtype, value.vector(v));
            let active = self.active.saturating_sub(v * lanes).min(lanes);
            match (active == lanes, stride, dtype) {
                (true, 1, ElementType::F32 | ElementType::F64 | ElementType::I32) => {
                    self.b.ins().store(flags, vector, ptr, 16 * v as i32);
                }
                (true, 1, ElementType::Bool) => {
                    let words = self.b.ins().snarrow(vector, vector);
                    let bytes = self.b.ins().snarrow(words, words);
                    let bytes = self.bitcast(types::I32X4, bytes);
                    let bytes = self.b.ins().extractlane(bytes, 0u8);
                    self.b.ins().store(flags, bytes, ptr, 4 * v as i32);
                }
                (_, _, ElementType::F32 | ElementType::F64 | ElementType::I32 | ElementType::Bool) => {
                    for lane in 0..active {
                        self.store_lane(dtype, flags, vector, lane, ptr, (v * lanes + lane) * stride * dtype.bytes());
                    }
                }
            }
        }
    }

    /// Remembers a register for this point of the row. Lanes of a row lie side by side; so do outer points, a vector or more at each.
    pub(crate) fn keep(&mut self, slot: usize, value: &Pack) {
        let (ptr, dtype, flags) = self.scratch_row(slot);
        if self.lanes == 1 && self.nest.loops.lanes != Lanes::Outer {
            let scalar = self.b.ins().extractlane(value.vector(0), 0u8);
            self.b.ins().store(flags, scalar, ptr, 0);
            return;
        }
        for v in 0..vectors(dtype, self.lanes) {
            self.b.ins().store(flags, value.vector(v), ptr, 16 * v as i32);
        }
    }

    pub(crate) fn recall(&mut self, slot: usize) -> Pack {
        let (ptr, dtype, flags) = self.scratch_row(slot);
        let ty = vector_type(dtype);
        if self.lanes == 1 && self.nest.loops.lanes != Lanes::Outer {
            let scalar = self.b.ins().load(scalar_type(dtype), flags, ptr, 0);
            return Pack::Same(self.b.ins().splat(ty, scalar));
        }
        let each = (0..vectors(dtype, self.lanes)).map(|v| self.b.ins().load(ty, flags, ptr, 16 * v as i32)).collect::<Vec<_>>();
        if self.lanes == 1 { Pack::Same(each[0]) } else { Pack::Each(each) }
    }

    fn scratch_row(&self, slot: usize) -> (Value, ElementType, MemFlagsData) {
        let scratch = &self.nest.loops.scratch;
        (self.ptrs[self.streams.len() - scratch.len() + slot], scratch[slot].dtype, MemFlagsData::new().with_notrap())
    }

    /// A loop's index. Along the lanes each point has its own.
    pub(crate) fn index_pack(&mut self, level: usize) -> Pack {
        let loops = self.nest.loops;
        let first = match self.index[level] {
            Index::Fixed(i) => self.b.ins().iconst(types::I32, i),
            Index::Moving(i) => self.b.ins().ireduce(types::I32, i),
        };
        let first = self.b.ins().splat(types::I32X4, first);
        let lane_level = match loops.lanes {
            Lanes::Row => Some(loops.outer.len() + loops.row.len()),
            Lanes::Outer => Some(loops.outer.len()),
            Lanes::Scalar => None,
        };
        if self.lanes == 1 || lane_level != Some(level + 1) {
            return Pack::Same(first);
        }
        let each = (0..vectors(ElementType::I32, self.lanes) as i32).map(|v| {
            let offsets: Vec<u8> = (4 * v..4 * v + 4).flat_map(i32::to_le_bytes).collect();
            let offsets = self.vector_constant(types::I32X4, offsets);
            self.b.ins().iadd(first, offsets)
        });
        Pack::Each(each.collect())
    }

    /// The number in every lane; of a bool, its mask.
    pub(crate) fn constant(&mut self, dtype: ElementType, number: f64) -> Value {
        let lane = match dtype {
            ElementType::F32 => (number as f32).to_le_bytes().to_vec(),
            ElementType::F64 => number.to_le_bytes().to_vec(),
            ElementType::I32 => (number as i32).to_le_bytes().to_vec(),
            ElementType::Bool => (-i32::from(number != 0.0)).to_le_bytes().to_vec(),
        };
        self.vector_constant(vector_type(dtype), lane.repeat(16 / lane.len()))
    }

    fn vector_constant(&mut self, ty: Type, bytes: Vec<u8>) -> Value {
        let constant = self.b.func.dfg.constants.insert(bytes.into());
        self.b.ins().vconst(ty, constant)
    }

    /// `vector` with its bytes in another order.
    pub(crate) fn shuffled(&mut self, vector: Value, order: &[u8; 16]) -> Value {
        let ty = self.b.func.dfg.value_type(vector);
        let bytes = self.bitcast(types::I8X16, vector);
        let shuffled = self.shuffle(bytes, bytes, order);
        self.bitcast(ty, shuffled)
    }

    fn shuffle(&mut self, x: Value, y: Value, order: &[u8; 16]) -> Value {
        let order = self.b.func.dfg.immediates.push(order.to_vec().into());
        self.b.ins().shuffle(x, y, order)
    }

    pub(crate) fn bitcast(&mut self, ty: Type, x: Value) -> Value {
        if self.b.func.dfg.value_type(x) == ty {
            return x;
        }
        self.b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), x)
    }

    /// Masks of f64 lanes as masks of 32-bit lanes: two vectors become one.
    pub(crate) fn narrow_masks(&mut self, masks: Pack) -> Pack {
        match masks {
            Pack::Same(mask) => Pack::Same(self.bitcast(types::I32X4, mask)),
            Pack::Each(masks) => {
                let pairs = masks.chunks(2).map(|pair| {
                    let [x, y] = [pair[0], pair[1]].map(|mask| self.bitcast(types::I8X16, mask));
                    let narrow = self.shuffle(x, y, &[0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27]);
                    self.bitcast(types::I32X4, narrow)
                });
                Pack::Each(pairs.collect())
            }
        }
    }

    /// The reverse: one vector becomes two.
    pub(crate) fn widen_masks(&mut self, masks: Pack) -> Pack {
        match masks {
            Pack::Same(mask) => Pack::Same(self.bitcast(types::I64X2, mask)),
            Pack::Each(masks) => {
                let mut wide = Vec::new();
                for mask in masks {
                    wide.push(self.b.ins().swiden_low(mask));
                    wide.push(self.b.ins().swiden_high(mask));
                }
                Pack::Each(wide)
            }
        }
    }

    /// A point of its own for each lane of a computation that has no vector form.
    pub(crate) fn by_lane(&mut self, from: ElementType, to: ElementType, x: &Pack, mut f: impl FnMut(&mut Self, Value) -> Value) -> Pack {
        let one = |e: &mut Self, point: usize, f: &mut dyn FnMut(&mut Self, Value) -> Value| {
            let lanes = lane_count(from);
            let lane = e.b.ins().extractlane(x.vector(point / lanes), (point % lanes) as u8);
            f(e, lane)
        };
        let ty = vector_type(to);
        match x {
            Pack::Same(_) => {
                let y = one(self, 0, &mut f);
                Pack::Same(self.b.ins().splat(ty, y))
            }
            Pack::Each(_) => {
                let lanes = lane_count(to);
                let mut each = Vec::new();
                for v in 0..vectors(to, self.lanes) {
                    let first = one(self, v * lanes, &mut f);
                    let mut vector = self.b.ins().scalar_to_vector(ty, first);
                    for lane in 1..lanes {
                        let y = one(self, v * lanes + lane, &mut f);
                        vector = self.b.ins().insertlane(vector, y, lane as u8);
                    }
                    each.push(vector);
                }
                Pack::Each(each)
            }
        }
    }

    /// Vector `v` of a place, its first `count` lanes one by one; the others are zero.
    fn load_lanes(&mut self, reach: Reach, ptr: Value, v: usize, count: usize) -> Value {
        let Reach { dtype, stride, flags } = reach;
        let (ty, lanes) = (vector_type(dtype), lane_count(dtype));
        let mut vector = None;
        for lane in 0..count {
            let scalar = self.load_scalar(dtype, flags, ptr, (v * lanes + lane) * stride * dtype.bytes());
            vector = Some(match vector {
                None => self.b.ins().scalar_to_vector(ty, scalar),
                Some(vector) => self.b.ins().insertlane(vector, scalar, lane as u8),
            });
        }
        match vector {
            Some(vector) => vector,
            None => self.vector_constant(ty, vec![0; 16]),
        }
    }

    /// The first `count` lanes of `x`, `number` in the others.
    pub(crate) fn only_lanes(&mut self, dtype: ElementType, x: Value, count: usize, number: f64) -> Value {
        let ty = vector_type(dtype);
        let bytes = count * 16 / lane_count(dtype);
        let mask = (0..16).map(|i| if i < bytes { 0xFF } else { 0 }).collect();
        let mask = self.vector_constant(ty, mask);
        let other = self.constant(dtype, number);
        self.b.ins().bitselect(mask, x, other)
    }

    fn load_scalar(&mut self, dtype: ElementType, flags: MemFlagsData, ptr: Value, offset: usize) -> Value {
        let (ptr, offset) = self.offset(ptr, offset);
        match dtype {
            ElementType::F32 | ElementType::F64 | ElementType::I32 => {
                self.b.ins().load(scalar_type(dtype), flags.with_aligned(), ptr, offset)
            }
            ElementType::Bool => self.b.ins().uload8(types::I32, flags, ptr, offset),
        }
    }

    fn store_lane(&mut self, dtype: ElementType, flags: MemFlagsData, vector: Value, lane: usize, ptr: Value, offset: usize) {
        let (ptr, offset) = self.offset(ptr, offset);
        let scalar = self.b.ins().extractlane(vector, lane as u8);
        match dtype {
            ElementType::F32 | ElementType::F64 | ElementType::I32 => self.b.ins().store(flags.with_aligned(), scalar, ptr, offset),
            ElementType::Bool => self.b.ins().istore8(flags, scalar, ptr, offset),
        };
    }

    /// Offsets beyond 31 bits move into the pointer.
    fn offset(&mut self, ptr: Value, offset: usize) -> (Value, i32) {
        match i32::try_from(offset) {
            Ok(offset) => (ptr, offset),
            Err(_) => (self.b.ins().iadd_imm_s(ptr, offset as i64), 0),
        }
    }

    /// Bytes just loaded to masks; other types are what they were.
    fn loaded(&mut self, dtype: ElementType, value: Value) -> Value {
        match dtype {
            ElementType::F32 | ElementType::F64 | ElementType::I32 => value,
            ElementType::Bool => {
                let zero = self.constant(ElementType::I32, 0.0);
                self.b.ins().icmp(IntCC::NotEqual, value, zero)
            }
        }
    }

    /// Masks to 0 and 1.
    fn stored(&mut self, dtype: ElementType, value: Value) -> Value {
        match dtype {
            ElementType::F32 | ElementType::F64 | ElementType::I32 => value,
            ElementType::Bool => {
                let one = self.constant(ElementType::I32, 1.0);
                self.b.ins().band(value, one)
            }
        }
    }
}
