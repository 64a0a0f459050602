//! What each primitive computes: one arm each. Operations round once and are never contracted, so that add, subtract, multiply, divide and
//! square root have the evaluator's bits. Read [`Emitter::prim`].

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use pushforward_plan::kernel::{ElementType, Inst, Prim};

use super::Emitter;
use super::pack::{Pack, vector_type};

impl Emitter<'_> {
    pub(crate) fn prim(&mut self, inst: &Inst, prim: Prim, args: &[u32]) -> Pack {
        let packs: Vec<Pack> = args.iter().map(|&r| self.reg(r)).collect();
        let (x, from) = (&packs[0], self.dtypes[args[0] as usize]);
        let y = packs.get(1).unwrap_or(x);
        match prim {
            Prim::Add => self.arith(from, x, y, |e, x, y| e.b.ins().fadd(x, y), |e, x, y| e.b.ins().iadd(x, y)),
            Prim::Sub => self.arith(from, x, y, |e, x, y| e.b.ins().fsub(x, y), |e, x, y| e.b.ins().isub(x, y)),
            Prim::Mul => self.arith(from, x, y, |e, x, y| e.b.ins().fmul(x, y), |e, x, y| e.b.ins().imul(x, y)),
            Prim::Neg => self.arith(from, x, x, |e, x, _| e.b.ins().fneg(x), |e, x, _| e.b.ins().ineg(x)),
            Prim::Div => self.map2(x, y, |e, x, y| e.b.ins().fdiv(x, y)),
            Prim::Exp => self.slow(prim, from, x, Self::exp_f32),
            Prim::Log => self.slow(prim, from, x, Self::log_f32),
            Prim::Tanh => self.slow(prim, from, x, Self::tanh_f32),
            Prim::Erf => self.slow(prim, from, x, Self::erf_f32),
            Prim::Sqrt => self.map1(x, |e, x| e.b.ins().sqrt(x)),
            Prim::Rsqrt => {
                let one = self.constant(from, 1.0);
                self.map1(x, |e, x| {
                    let root = e.b.ins().sqrt(x);
                    e.b.ins().fdiv(one, root)
                })
            }
            // The bits of x where x > 0; none, which is +0, elsewhere.
            Prim::Relu => {
                let zero = self.constant(from, 0.0);
                self.map1(x, |e, x| {
                    let positive = e.b.ins().fcmp(FloatCC::GreaterThan, x, zero);
                    let ty = e.b.func.dfg.value_type(x);
                    let positive = e.bitcast(ty, positive);
                    e.b.ins().band(x, positive)
                })
            }
            Prim::Lt => self.compare(from, x, y, FloatCC::LessThan, IntCC::SignedLessThan),
            Prim::Le => self.compare(from, x, y, FloatCC::LessThanOrEqual, IntCC::SignedLessThanOrEqual),
            Prim::Gt => self.compare(from, x, y, FloatCC::GreaterThan, IntCC::SignedGreaterThan),
            Prim::Ge => self.compare(from, x, y, FloatCC::GreaterThanOrEqual, IntCC::SignedGreaterThanOrEqual),
            Prim::Eq => self.compare(from, x, y, FloatCC::Equal, IntCC::Equal),
            Prim::Ne => self.compare(from, x, y, FloatCC::NotEqual, IntCC::NotEqual),
            Prim::And => self.map2(x, y, |e, x, y| e.b.ins().band(x, y)),
            Prim::Or => self.map2(x, y, |e, x, y| e.b.ins().bor(x, y)),
            Prim::Not => self.map1(x, |e, x| e.b.ins().bnot(x)),
            Prim::Select => self.select(inst.dtype, args, &packs),
            Prim::Cast => self.cast(from, inst.dtype, x),
        }
    }

    fn map1(&mut self, x: &Pack, mut f: impl FnMut(&mut Self, Value) -> Value) -> Pack {
        match x {
            Pack::Same(x) => Pack::Same(f(self, *x)),
            Pack::Each(x) => Pack::Each(x.iter().map(|&x| f(self, x)).collect()),
        }
    }

    fn map2(&mut self, x: &Pack, y: &Pack, mut f: impl FnMut(&mut Self, Value, Value) -> Value) -> Pack {
        match (x, y) {
            (Pack::Same(x), Pack::Same(y)) => Pack::Same(f(self, *x, *y)),
            (Pack::Each(v), _) | (_, Pack::Each(v)) => Pack::Each((0..v.len()).map(|v| f(self, x.vector(v), y.vector(v))).collect()),
        }
    }

    fn arith(
        &mut self,
        dtype: ElementType,
        x: &Pack,
        y: &Pack,
        float: impl FnMut(&mut Self, Value, Value) -> Value,
        integer: impl FnMut(&mut Self, Value, Value) -> Value,
    ) -> Pack {
        match dtype {
            ElementType::F32 | ElementType::F64 => self.map2(x, y, float),
            ElementType::I32 | ElementType::Bool => self.map2(x, y, integer),
        }
    }

    /// f32 in vectors, f64 by a call for each lane.
    fn slow(&mut self, prim: Prim, dtype: ElementType, x: &Pack, f32s: fn(&mut Self, Value) -> Value) -> Pack {
        let f64s = self.libm.of(prim);
        match dtype {
            ElementType::F32 | ElementType::I32 | ElementType::Bool => self.map1(x, f32s),
            ElementType::F64 => self.by_lane(ElementType::F64, ElementType::F64, x, |e, x| {
                let call = e.b.ins().call(f64s, &[x]);
                e.b.inst_results(call)[0]
            }),
        }
    }

    fn compare(&mut self, dtype: ElementType, x: &Pack, y: &Pack, float: FloatCC, integer: IntCC) -> Pack {
        match dtype {
            ElementType::F32 => self.map2(x, y, |e, x, y| e.b.ins().fcmp(float, x, y)),
            ElementType::F64 => {
                let masks = self.map2(x, y, |e, x, y| e.b.ins().fcmp(float, x, y));
                self.narrow_masks(masks)
            }
            // Masks are 0 and -1: swapped, they order as false and true do.
            ElementType::Bool => self.map2(y, x, |e, y, x| e.b.ins().icmp(integer, y, x)),
            ElementType::I32 => self.map2(x, y, |e, x, y| e.b.ins().icmp(integer, x, y)),
        }
    }

    /// By bits, so that the branch not taken has no influence. Where a branch is the constant 0, the mask is enough.
    fn select(&mut self, dtype: ElementType, args: &[u32], packs: &[Pack]) -> Pack {
        let ty = vector_type(dtype);
        let mask = match dtype {
            ElementType::F32 | ElementType::I32 | ElementType::Bool => packs[0].clone(),
            ElementType::F64 => self.widen_masks(packs[0].clone()),
        };
        let mask = self.map1(&mask, |e, mask| e.bitcast(ty, mask));
        let (x, y) = (&packs[1], &packs[2]);
        if self.zeros[args[2] as usize] {
            return self.map2(&mask, x, |e, mask, x| e.b.ins().band(mask, x));
        }
        if self.zeros[args[1] as usize] {
            return self.map2(&mask, y, |e, mask, y| e.b.ins().band_not(y, mask));
        }
        match (&mask, x, y) {
            (Pack::Same(mask), Pack::Same(x), Pack::Same(y)) => Pack::Same(self.b.ins().bitselect(*mask, *x, *y)),
            (Pack::Each(v), _, _) | (_, Pack::Each(v), _) | (_, _, Pack::Each(v)) => {
                let each = (0..v.len()).map(|v| self.b.ins().bitselect(mask.vector(v), x.vector(v), y.vector(v)));
                Pack::Each(each.collect())
            }
        }
    }

    /// A float is cut towards zero and held inside i32, NaN gives 0; bool is true for all but zero.
    fn cast(&mut self, from: ElementType, to: ElementType, x: &Pack) -> Pack {
        use ElementType::{Bool, F32, F64, I32};
        match (from, to) {
            (F32, F32) | (F64, F64) | (I32, I32) | (Bool, Bool) => x.clone(),
            (F32, I32) => self.map1(x, |e, x| e.b.ins().fcvt_to_sint_sat(types::I32X4, x)),
            (I32, F32) => self.map1(x, |e, x| e.b.ins().fcvt_from_sint(types::F32X4, x)),
            (F32, F64) => self.by_lane(from, to, x, |e, x| e.b.ins().fpromote(types::F64, x)),
            (F64, F32) => self.by_lane(from, to, x, |e, x| e.b.ins().fdemote(types::F32, x)),
            (F64, I32) => self.by_lane(from, to, x, |e, x| e.b.ins().fcvt_to_sint_sat(types::I32, x)),
            (I32, F64) => self.by_lane(from, to, x, |e, x| e.b.ins().fcvt_from_sint(types::F64, x)),
            (F32 | F64 | I32, Bool) => {
                let zero = Pack::Same(self.constant(from, 0.0));
                self.compare(from, x, &zero, FloatCC::NotEqual, IntCC::NotEqual)
            }
            (Bool, F32 | F64 | I32) => {
                let one = self.constant(to, 1.0);
                let mask = if to == F64 { self.widen_masks(x.clone()) } else { x.clone() };
                self.map1(&mask, |e, mask| {
                    let mask = e.bitcast(vector_type(to), mask);
                    e.b.ins().band(mask, one)
                })
            }
        }
    }
}
