//! Functions that WGSL lacks or has inaccurately: a text has those that it calls. Constants are those of `pushforward_ir::philox` and
//! `pushforward_plan::math`, formulas those of the CPU. WGSL leaves much to implementations: square roots and quotients may be 2.5 ulp off, `fma`
//! need not fuse, sums may be reordered where that is no less accurate. So what must be exact is done on integers. Read [`Piece`].

use std::collections::BTreeSet;

use pushforward_ir::philox::{COS_POLY, LN_2, LN_POLY, MULTIPLIERS, RADIANS, ROUNDS, SIN_POLY, SQRT_HALF_BITS, WEYL};
use pushforward_plan::math::{ERF_BOUND, ERF_FAR, ERF_NEAR, EXP, EXP_RANGE, TANH, TANH_BOUND};

use crate::emit::Spelled;

/// A function and what only it uses; in the order in which they stand in a text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Piece {
    /// f32 by its bits.
    Number,
    /// i32 that is no constant to the language.
    Integer,
    IsNan,
    Max,
    /// A product with few digits.
    Short,
    /// f32 to i32.
    ToInteger,
    ExpParts,
    Exp,
    Log,
    Tanh,
    Erf,
    Philox,
    Root,
    Normal,
}

/// The pieces that a text uses.
#[derive(Default)]
pub(crate) struct Library {
    used: BTreeSet<Piece>,
}

impl Library {
    pub fn call(&mut self, piece: Piece, args: &[&Spelled]) -> Spelled {
        self.need(piece);
        Spelled::call(name(piece), args)
    }

    fn need(&mut self, piece: Piece) {
        if self.used.insert(piece) {
            needs(piece).iter().for_each(|&p| self.need(p));
        }
    }

    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.used.iter().map(|&p| text(p))
    }
}

fn name(piece: Piece) -> &'static str {
    match piece {
        Piece::Number => "pf_number",
        Piece::Integer => "pf_integer",
        Piece::IsNan => "pf_is_nan",
        Piece::Max => "pf_max",
        Piece::Short => "pf_short",
        Piece::ToInteger => "pf_to_integer",
        Piece::ExpParts => "pf_exp_parts",
        Piece::Exp => "pf_exp",
        Piece::Log => "pf_log",
        Piece::Tanh => "pf_tanh",
        Piece::Erf => "pf_erf",
        Piece::Philox => "pf_philox",
        Piece::Root => "pf_root",
        Piece::Normal => "pf_normal",
    }
}

fn needs(piece: Piece) -> &'static [Piece] {
    match piece {
        Piece::Number | Piece::Integer | Piece::IsNan | Piece::Short | Piece::Philox | Piece::Root => &[],
        Piece::ExpParts => &[Piece::Short],
        Piece::Max | Piece::ToInteger => &[Piece::IsNan],
        Piece::Exp | Piece::Tanh | Piece::Erf => &[Piece::ExpParts],
        Piece::Log => &[Piece::Number, Piece::Short],
        Piece::Normal => &[Piece::Philox, Piece::Root],
    }
}

fn text(piece: Piece) -> String {
    match piece {
        Piece::Number => NUMBER.into(),
        Piece::Integer => INTEGER.into(),
        Piece::IsNan => IS_NAN.into(),
        Piece::Max => MAX.into(),
        Piece::Short => SHORT.into(),
        Piece::ToInteger => TO_INTEGER.into(),
        Piece::ExpParts => exp_parts(),
        Piece::Exp => exp(),
        Piece::Log => log(),
        Piece::Tanh => tanh(),
        Piece::Erf => erf(),
        Piece::Philox => philox(),
        Piece::Root => ROOT.into(),
        Piece::Normal => normal(),
    }
}

const NUMBER: &str = "\
fn pf_number(bits: u32) -> f32 {
    return bitcast<f32>(bits);
}
";

const INTEGER: &str = "\
fn pf_integer(x: i32) -> i32 {
    return x;
}
";

const IS_NAN: &str = "\
fn pf_is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}
";

const MAX: &str = "\
// NaN if either is.
fn pf_max(x: f32, y: f32) -> f32 {
    return select(y, x, (x > y) || pf_is_nan(x));
}
";

/// Compilers may make `n * (high + low)` of `n * high + n * low`, whose point is that `n * high` is exact. A mask of bits that are zero anyway keeps
/// them from it.
const SHORT: &str = "\
// A product that has few digits, kept apart from what it is added to.
fn pf_short(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) & 0xffffff00u);
}
";

const TO_INTEGER: &str = "\
// Cut towards zero, held inside i32; NaN gives 0.
fn pf_to_integer(x: f32) -> i32 {
    if (pf_is_nan(x)) {
        return 0i;
    }
    if (x >= 2147483648.0f) {
        return 2147483647i;
    }
    if (x < -2147483648.0f) {
        return i32(0x80000000u);
    }
    return i32(x);
}
";

/// exp x = 2^n * exp r, n the integer nearest to x / ln 2.
fn exp_parts() -> String {
    let [high, low] = LN_2.map(|x| number(-x));
    let log2_e = number(std::f32::consts::LOG2_E);
    let p = fused(&EXP, "r");
    format!(
        "\
struct PfExp {{
    p: f32,
    n: i32,
}}

// exp x = p * 2^n, n the integer nearest to x / ln 2; of numbers of which n fits i32.
fn pf_exp_parts(x: f32) -> PfExp {{
    let n = round(x * {log2_e});
    let r = fma(n, {low}, pf_short(n * {high}) + x);
    let p = {p};
    return PfExp(fma(p, r * r, r) + 1.0f, i32(n));
}}

// 2^n for n between -126 and 127.
fn pf_power_of_two(n: i32) -> f32 {{
    return bitcast<f32>(u32(n + 127i) << 23u);
}}
"
    )
}

fn exp() -> String {
    let [low, high] = EXP_RANGE.map(number);
    format!(
        "\
// Two factors make 2^n, so that neither overflows where the result does not.
fn pf_exp(x: f32) -> f32 {{
    let below = select(x, {high}, x > {high});
    let e = pf_exp_parts(select(below, {low}, below < {low}));
    let half = e.n >> 1u;
    return e.p * pf_power_of_two(half) * pf_power_of_two(e.n - half);
}}
"
    )
}

fn log() -> String {
    let [high, low] = LN_2.map(number);
    let least = number(f32::MIN_POSITIVE);
    let p = fused(&LN_POLY, "f");
    format!(
        "\
// log x = e * ln 2 + log m, m between sqrt(1/2) and sqrt(2). Infinity and NaN are their own logarithms; zero has minus infinity, what is
// below NaN.
fn pf_log(x: f32) -> f32 {{
    let raw = bitcast<u32>(x);
    let size = raw & 0x7fffffffu;
    if (raw == 0x7f800000u || size > 0x7f800000u) {{
        return x;
    }}
    if (size == 0u) {{
        return pf_number(0xff800000u);
    }}
    if (raw != size) {{
        return pf_number(0x7fc00000u);
    }}
    // Subnormal numbers are brought into the normal range first.
    let small = x < {least};
    let bits = bitcast<u32>(select(x, x * 8388608.0f, small));
    let exponent = bitcast<i32>(bits - {SQRT_HALF_BITS:#x}u) >> 23u;
    let f = bitcast<f32>(bits - (bitcast<u32>(exponent) << 23u)) - 1.0f;
    let e = f32(select(exponent, exponent - 23i, small));
    let z = f * f;
    let p = {p};
    let y = fma(-0.5f, z, fma(p, z * f, e * {low}));
    return pf_short(e * {high}) + (f + y);
}}
"
    )
}

fn tanh() -> String {
    let bound = number(TANH_BOUND);
    let p = fused(&TANH, "z");
    format!(
        "\
// A polynomial near 0; elsewhere 1 - 2 / (exp(2|x|) + 1) with the sign of x. 1 is reached at 9.01.
fn pf_tanh(x: f32) -> f32 {{
    let z = x * x;
    let p = {p};
    let near = fma(p, z * x, x);
    let size = abs(x);
    let e = pf_exp_parts(select(size + size, 40.0f, size > 20.0f));
    let far = 1.0f - 2.0f / fma(e.p, pf_power_of_two(e.n), 1.0f);
    let y = select(far, near, size < {bound});
    return bitcast<f32>(bitcast<u32>(y) | (bitcast<u32>(x) & 0x80000000u));
}}
"
    )
}

fn erf() -> String {
    let bound = number(ERF_BOUND);
    let near = fused(&ERF_NEAR, "z");
    let far = fused(&ERF_FAR, "size");
    format!(
        "\
// A polynomial near 0; elsewhere 1 - exp of a polynomial, with the sign of x. 1 is reached at 3.92.
fn pf_erf(x: f32) -> f32 {{
    let z = x * x;
    let p = {near};
    let near = fma(p, x, x);
    let size = select(abs(x), 4.0f, abs(x) > 4.0f);
    let q = {far};
    let e = pf_exp_parts(fma(q, size, -size));
    let far = 1.0f - e.p * pf_power_of_two(e.n);
    let y = select(far, near, size < {bound});
    return bitcast<f32>(bitcast<u32>(y) | (bitcast<u32>(x) & 0x80000000u));
}}
"
    )
}

fn philox() -> String {
    let [m0, m1] = MULTIPLIERS.map(|m| format!("{m:#x}u"));
    let [w0, w1] = WEYL.map(|w| format!("{w:#x}u"));
    format!(
        "\
// The high half of a product.
fn pf_mulhi(x: u32, y: u32) -> u32 {{
    let low = (x & 0xffffu) * (y & 0xffffu);
    let cross = (x & 0xffffu) * (y >> 16u);
    let other = (x >> 16u) * (y & 0xffffu);
    let middle = (low >> 16u) + (cross & 0xffffu) + (other & 0xffffu);
    return (x >> 16u) * (y >> 16u) + (cross >> 16u) + (other >> 16u) + (middle >> 16u);
}}

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011); key words are seed and domain.
fn pf_philox(counter: vec4<u32>, words: vec2<u32>) -> vec4<u32> {{
    var c = counter;
    var key = words;
    for (var i = 0u; i < {ROUNDS}u; i += 1u) {{
        c = vec4<u32>(pf_mulhi({m1}, c.z) ^ c.y ^ key.x, {m1} * c.z, pf_mulhi({m0}, c.x) ^ c.w ^ key.y, {m0} * c.x);
        key = vec2<u32>(key.x + {w0}, key.y + {w1});
    }}
    return c;
}}
"
    )
}

/// `x = m * 2^(e - 150)`. An even exponent is taken out so that the root has 24 bits before the point, then the built-in root is put right, a
/// unit at a time, by the exact residue: it is so small that 32 bits tell it.
const ROOT: &str = "\
// The square root of zero or a normal number, correctly rounded: the residue of a candidate is exact on integers.
fn pf_root(x: f32) -> f32 {
    if (x == 0.0f) {
        return x;
    }
    let bits = bitcast<u32>(x);
    let e = bits >> 23u;
    let shift = 24u - (e & 1u);
    let scale = bitcast<i32>(150u + shift - e) / 2i;
    var s = u32(sqrt(x) * bitcast<f32>(u32(scale + 127i) << 23u));
    var residue = bitcast<i32>((((bits & 0x7fffffu) | 0x800000u) << shift) - s * s);
    for (var i = 0u; i < 8u; i += 1u) {
        if (residue > i32(s)) {
            residue -= i32(2u * s + 1u);
            s += 1u;
        } else if (residue <= -i32(s)) {
            residue += i32(2u * s - 1u);
            s -= 1u;
        }
    }
    return f32(s) * bitcast<f32>(u32(127i - scale) << 23u);
}
";

/// The bits are the CPU's only if every product is rounded before it is added to something, and nothing is multiplied out. No word of WGSL says so;
/// an exclusive or with a zero that no compiler knows to be one does.
fn normal() -> String {
    let ln = rounded(&LN_POLY, "f");
    let (sin, cos) = (rounded(&SIN_POLY, "z"), rounded(&COS_POLY, "z"));
    let [high, low] = LN_2.map(number);
    let radians = number(RADIANS);
    format!(
        "\
// Zero: 3 divides (k - 1) k (k + 1). To a compiler it is a number like any other.
fn pf_zero(seed: u32) -> u32 {{
    let k = seed & 0xffu;
    return (k * k * k - k) % 3u;
}}

// x, for a `zero` of zero: a product that is rounded for itself.
fn pf_rounded(x: f32, zero: u32) -> f32 {{
    return bitcast<f32>(bitcast<u32>(x) ^ zero);
}}

// ln(((bits >> 8) + 1) / 2^24)
fn pf_ln_unit(bits: u32, zero: u32) -> f32 {{
    let m = bitcast<u32>(f32((bits >> 8u) + 1u));
    let shift = (m - {SQRT_HALF_BITS:#x}u) >> 23u;
    let f = bitcast<f32>(m - (shift << 23u)) - 1.0f;
    let e = f32(i32(shift) - 24i);
    let z = pf_rounded(f * f, zero);
{ln}    var y = pf_rounded(pf_rounded(p * f, zero) * z, zero);
    y = y + pf_rounded(e * {low}, zero);
    y = y - pf_rounded(0.5f * z, zero);
    return pf_rounded(f + y, zero) + pf_rounded(e * {high}, zero);
}}

// The sine of 2 pi u, u = (bits >> 8) / 2^24, `turns` quarter turns on.
fn pf_sin_turn(bits: u32, turns: u32, zero: u32) -> f32 {{
    let k = bits >> 8u;
    let nearest = (k + 0x200000u) >> 22u;
    let quarter = nearest + turns;
    let x = pf_rounded(f32(i32(k) - i32(nearest << 22u)) * {radians}, zero);
    let z = pf_rounded(x * x, zero);
    var y = 0.0f;
    if ((quarter & 1u) == 0u) {{
{sin}        y = pf_rounded(pf_rounded(p * z, zero) * x, zero) + x;
    }} else {{
{cos}        y = pf_rounded(pf_rounded(p * z, zero) * z, zero) - pf_rounded(0.5f * z, zero);
        y = pf_rounded(y, zero) + 1.0f;
    }}
    return bitcast<f32>(bitcast<u32>(y) ^ ((quarter & 2u) << 30u));
}}

// A standard normal number: a function of where it stands. Even elements of a pair are cosines.
fn pf_normal(seed: u32, domain: u32, stream: u32, direction: u32, step: u32, element: u32) -> f32 {{
    let bits = pf_philox(vec4<u32>(element >> 2u, stream, direction << 8u, step), vec2<u32>(seed, domain));
    let pair = select(bits.xy, bits.zw, vec2<bool>((element & 2u) != 0u));
    let zero = pf_zero(seed);
    let r = pf_root(-2.0f * pf_ln_unit(pair.x, zero));
    return pf_rounded(r * pf_sin_turn(pair.y, (element & 1u) ^ 1u, zero), zero);
}}
",
        sin = indented(&sin),
        cos = indented(&cos),
    )
}

fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("    {line}\n")).collect()
}

/// Horner's rule, the highest power first.
fn fused(coefficients: &[f32], x: &str) -> String {
    let (first, rest) = coefficients.split_first().expect("a polynomial has coefficients");
    rest.iter().fold(number(*first), |p, &c| format!("fma({p}, {x}, {})", number(c)))
}

/// The same with a rounding after each step, as lines that leave it in `p`.
fn rounded(coefficients: &[f32], x: &str) -> String {
    let (first, rest) = coefficients.split_first().expect("a polynomial has coefficients");
    let steps = rest.iter().map(|&c| format!("    p = pf_rounded(p * {x}, zero) + {};\n", number(c)));
    format!("    var p = {};\n", number(*first)) + &steps.collect::<String>()
}

fn number(x: f32) -> String {
    format!("{x:?}f")
}
