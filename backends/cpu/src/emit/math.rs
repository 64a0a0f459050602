//! exp, log, tanh and erf of f32 vectors, as polynomials (constants: `pushforward_plan::math`). Within 2 ulp everywhere, subnormal results included; right at
//! infinities, zeros and NaN. Products and sums are fused where they help accuracy: a processor without fused multiply-add computes the same,
//! slowly. Each function is branchless. Read [`Emitter::exp_f32`].

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use pushforward_ir::philox::{LN_2, LN_POLY, SQRT_HALF_BITS};
use pushforward_plan::kernel::ElementType;
use pushforward_plan::math::{ERF_BOUND, ERF_FAR, ERF_NEAR, EXP, EXP_RANGE, TANH, TANH_BOUND};

use super::Emitter;

/// Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
const MAGIC: f32 = 12_582_912.0;

impl Emitter<'_> {
    /// exp x = 2^n * exp r, n the integer nearest to x / ln 2. Two factors make 2^n, so that neither overflows where the result does not
    /// and a subnormal result is rounded once.
    pub(crate) fn exp_f32(&mut self, x: Value) -> Value {
        let (low, high) = (self.f32(EXP_RANGE[0]), self.f32(EXP_RANGE[1]));
        let x = self.at_most(x, high);
        let below = self.b.ins().fcmp(FloatCC::LessThan, x, low);
        let x = self.choose(below, low, x);
        let (p, n) = self.exp_parts(x);
        let half = self.shifted(n, 1, true);
        let rest = self.b.ins().isub(n, half);
        let (first, second) = (self.power_of_two(half), self.power_of_two(rest));
        let y = self.b.ins().fmul(p, first);
        self.b.ins().fmul(y, second)
    }

    /// `exp r` and `n`, for x between -104 and 89 or NaN.
    fn exp_parts(&mut self, x: Value) -> (Value, Value) {
        let (magic, log2_e) = (self.f32(MAGIC), self.f32(std::f32::consts::LOG2_E));
        let t = self.b.ins().fma(x, log2_e, magic);
        let n = self.b.ins().fsub(t, magic);
        let (high, low) = (self.f32(-LN_2[0]), self.f32(-LN_2[1]));
        let r = self.b.ins().fma(n, high, x);
        let r = self.b.ins().fma(n, low, r);
        let p = self.polynomial(&EXP, r);
        let square = self.b.ins().fmul(r, r);
        let p = self.b.ins().fma(p, square, r);
        let one = self.f32(1.0);
        let p = self.b.ins().fadd(p, one);
        let bits = self.bitcast(types::I32X4, t);
        let magic = self.i32(MAGIC.to_bits() as i32);
        (p, self.b.ins().isub(bits, magic))
    }

    /// 2^n for n between -126 and 127.
    fn power_of_two(&mut self, n: Value) -> Value {
        let bias = self.i32(127);
        let biased = self.b.ins().iadd(n, bias);
        let bits = self.shifted(biased, 23, false);
        self.bitcast(types::F32X4, bits)
    }

    /// log x = e * ln 2 + log m, m between sqrt(1/2) and sqrt(2).
    pub(crate) fn log_f32(&mut self, x: Value) -> Value {
        // Subnormal numbers are brought into the normal range first.
        let (least, scale) = (self.f32(f32::MIN_POSITIVE), self.f32(8_388_608.0));
        let small = self.b.ins().fcmp(FloatCC::LessThan, x, least);
        let scaled = self.b.ins().fmul(x, scale);
        let normal = self.choose(small, scaled, x);
        let bits = self.bitcast(types::I32X4, normal);
        // Subtracting the bits of sqrt(1/2) leaves e in the exponent's place.
        let root = self.i32(SQRT_HALF_BITS as i32);
        let above = self.b.ins().isub(bits, root);
        let e = self.shifted(above, 23, true);
        let shift = self.shifted(e, 23, false);
        let m = self.b.ins().isub(bits, shift);
        let m = self.bitcast(types::F32X4, m);
        let drop = self.i32(23);
        let drop = self.b.ins().band(small, drop);
        let e = self.b.ins().isub(e, drop);
        let e = self.b.ins().fcvt_from_sint(types::F32X4, e);
        let one = self.f32(1.0);
        let f = self.b.ins().fsub(m, one);

        let square = self.b.ins().fmul(f, f);
        let p = self.polynomial(&LN_POLY, f);
        let cube = self.b.ins().fmul(square, f);
        let (high, low, minus_half) = (self.f32(LN_2[0]), self.f32(LN_2[1]), self.f32(-0.5));
        let y = self.b.ins().fmul(e, low);
        let y = self.b.ins().fma(p, cube, y);
        let y = self.b.ins().fma(minus_half, square, y);
        let y = self.b.ins().fadd(f, y);
        let y = self.b.ins().fma(e, high, y);

        // Infinity and NaN are their own logarithms; zero has minus infinity, what is below NaN.
        let (infinity, zero) = (self.f32(f32::INFINITY), self.f32(0.0));
        let (minus_infinity, nan) = (self.f32(f32::NEG_INFINITY), self.f32(f32::NAN));
        let finite = self.b.ins().fcmp(FloatCC::LessThan, x, infinity);
        let y = self.choose(finite, y, x);
        let is_zero = self.b.ins().fcmp(FloatCC::Equal, x, zero);
        let y = self.choose(is_zero, minus_infinity, y);
        let negative = self.b.ins().fcmp(FloatCC::LessThan, x, zero);
        self.choose(negative, nan, y)
    }

    /// A polynomial near 0; elsewhere 1 - 2 / (exp(2|x|) + 1) with the sign of x.
    pub(crate) fn tanh_f32(&mut self, x: Value) -> Value {
        let square = self.b.ins().fmul(x, x);
        let p = self.polynomial(&TANH, square);
        let cube = self.b.ins().fmul(square, x);
        let near = self.b.ins().fma(p, cube, x);

        let size = self.b.ins().fabs(x);
        let double = self.b.ins().fadd(size, size);
        // 1 is reached at 9.01 already.
        let most = self.f32(40.0);
        let double = self.at_most(double, most);
        let (p, n) = self.exp_parts(double);
        let scale = self.power_of_two(n);
        let one = self.f32(1.0);
        let sum = self.b.ins().fma(p, scale, one);
        let minus_two = self.f32(-2.0);
        let quotient = self.b.ins().fdiv(minus_two, sum);
        let far = self.b.ins().fadd(one, quotient);

        let bound = self.f32(TANH_BOUND);
        let is_near = self.b.ins().fcmp(FloatCC::LessThan, size, bound);
        let y = self.choose(is_near, near, far);
        // What is far has no sign yet; what is near has, but for -0.
        let sign = self.f32(-0.0);
        let sign = self.b.ins().band(x, sign);
        self.b.ins().bor(y, sign)
    }

    /// A polynomial near 0; elsewhere 1 - exp of a polynomial, with the sign of x.
    pub(crate) fn erf_f32(&mut self, x: Value) -> Value {
        let square = self.b.ins().fmul(x, x);
        let p = self.polynomial(&ERF_NEAR, square);
        let near = self.b.ins().fma(p, x, x);

        let size = self.b.ins().fabs(x);
        // 1 is reached at 3.92 already.
        let most = self.f32(4.0);
        let bounded = self.at_most(size, most);
        let p = self.polynomial(&ERF_FAR, bounded);
        let minus = self.b.ins().fneg(bounded);
        let exponent = self.b.ins().fma(p, bounded, minus);
        let (p, n) = self.exp_parts(exponent);
        let scale = self.power_of_two(n);
        let rest = self.b.ins().fmul(p, scale);
        let one = self.f32(1.0);
        let far = self.b.ins().fsub(one, rest);

        let bound = self.f32(ERF_BOUND);
        let is_near = self.b.ins().fcmp(FloatCC::LessThan, size, bound);
        let y = self.choose(is_near, near, far);
        // What is far has no sign yet; what is near has.
        let sign = self.f32(-0.0);
        let sign = self.b.ins().band(x, sign);
        self.b.ins().bor(y, sign)
    }

    /// Horner's rule, the highest power first.
    fn polynomial(&mut self, coefficients: &[f32], x: Value) -> Value {
        let (first, rest) = coefficients.split_first().expect("a polynomial has coefficients");
        let mut p = self.f32(*first);
        for &c in rest {
            let c = self.f32(c);
            p = self.b.ins().fma(p, x, c);
        }
        p
    }

    /// The smaller of the two; x if it is NaN.
    fn at_most(&mut self, x: Value, bound: Value) -> Value {
        let above = self.b.ins().fcmp(FloatCC::LessThan, bound, x);
        self.choose(above, bound, x)
    }

    /// Lanes shifted right (with their sign) or left.
    fn shifted(&mut self, x: Value, count: i64, right: bool) -> Value {
        let count = self.b.ins().iconst(types::I32, count);
        if right { self.b.ins().sshr(x, count) } else { self.b.ins().ishl(x, count) }
    }

    fn choose(&mut self, mask: Value, x: Value, y: Value) -> Value {
        let mask = self.bitcast(types::F32X4, mask);
        self.b.ins().bitselect(mask, x, y)
    }

    fn f32(&mut self, x: f32) -> Value {
        self.constant(ElementType::F32, x as f64)
    }

    fn i32(&mut self, x: i32) -> Value {
        self.constant(ElementType::I32, x as f64)
    }
}
