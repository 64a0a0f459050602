//! Noise: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", 2011) and the normal transform on top of it.
//!
//! A normal number is a pure function of where it stands. Element `e` of a value lies in lane `e % 4` of block `e / 4`, and a block is one call of
//! the cipher:
//!
//! | word | key | counter |
//! |---|---|---|
//! | 0 | seed | block number, bits 0..32 |
//! | 1 | [`Domain`] | stream: one per perturbed value or parameter |
//! | 2 | | tangent direction << 8, or-ed with the block number's bits 32..40 |
//! | 3 | | step |
//!
//! So a value has at most 2^42 elements and 2^24 directions before numbers repeat. Lanes (0, 1) and (2, 3) are Box-Muller pairs: of bits (a, b),
//! `u1 = ((a >> 8) + 1) / 2^24` in (0, 1], `u2 = (b >> 8) / 2^24` in [0, 1), `r = sqrt(-2 ln u1)`, and the lanes get `r cos(2 pi u2)` and
//! `r sin(2 pi u2)`. The largest magnitude is 5.77.
//!
//! Every target reproduces [`box_muller_f32`]: integer operations, f32 add, multiply and square root, in the order written, no fused
//! multiply-add and no library call. A target whose compiler contracts or whose square root is not correctly rounded stays within 2 ulp of it.
//! This file holds no state and never asks for entropy. Read [`normals4`] and [`box_muller_f32`] first; [`fill_normals`] is the same, fast.

/// What the numbers are for: one seed serves all of these without overlap.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Domain {
    /// Perturbations of activities and weights.
    Noise,
    /// Initial values of parameters.
    Init,
    /// How images are augmented; examples and inputs that are drawn.
    Data,
}

impl Domain {
    /// The key's second word.
    pub fn key(self) -> u32 {
        match self {
            Domain::Noise => 0,
            Domain::Init => 1,
            Domain::Data => 2,
        }
    }
}

/// Rounds of the cipher.
pub const ROUNDS: usize = 10;
/// Multipliers of counter words 0 and 2.
pub const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What the key words grow by after each round.
pub const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// `ln(1 + f)` for `1 + f` in [sqrt(1/2), sqrt(2)) is `f - f^2 / 2 + f^3 * p(f)`; coefficients of `p` from the highest power down (Cephes `logf`).
pub const LN_POLY: [f32; 9] = [
    7.037_683_6e-2,
    -1.151_461e-1,
    1.167_699_84e-1,
    -1.242_014_1e-1,
    1.424_932_3e-1,
    -1.666_805_8e-1,
    2.000_071_4e-1,
    -2.499_999_4e-1,
    3.333_333e-1,
];
/// `ln 2` in two parts; the first has few bits, so that small integers times it are exact.
pub const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// The bits of the f32 next to sqrt(1/2).
pub const SQRT_HALF_BITS: u32 = 0x3F35_04F3;
/// `2 pi / 2^24`: radians per unit of the 24-bit angle.
pub const RADIANS: f32 = 3.745_070_3e-7;
/// `sin x` for |x| <= pi/4 is `x + x^3 * p(x^2)`; coefficients from the highest power down (Cephes `sinf`).
pub const SIN_POLY: [f32; 3] = [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1];
/// `cos x` for |x| <= pi/4 is `1 - x^2 / 2 + x^4 * p(x^2)` (Cephes `cosf`).
pub const COS_POLY: [f32; 3] = [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2];

/// The cipher: four words from a counter and a key.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..ROUNDS {
        let (hi0, lo0) = wide(MULTIPLIERS[0], c0);
        let (hi1, lo1) = wide(MULTIPLIERS[1], c2);
        (c0, c1, c2, c3) = (hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0);
        (k0, k1) = (k0.wrapping_add(WEYL[0]), k1.wrapping_add(WEYL[1]));
    }
    [c0, c1, c2, c3]
}

/// The random bits of block `quad`: those of elements `4 * quad .. 4 * quad + 4`.
pub fn normals4(seed: u32, domain: Domain, stream: u32, direction: u32, step: u32, quad: u64) -> [u32; 4] {
    philox4x32([quad as u32, stream, high_word(direction, quad), step], [seed, domain.key()])
}

/// Two independent standard normal numbers from two words of random bits.
#[inline(always)]
pub fn box_muller_f32(a: u32, b: u32) -> (f32, f32) {
    let r = (-2.0 * ln_unit(a)).sqrt();
    let (sin, cos) = sin_cos_turn(b);
    (r * cos, r * sin)
}

/// The definition of [`box_muller_f32`] in f64, from the same 24 bits each.
pub fn box_muller_f64(a: u32, b: u32) -> (f64, f64) {
    let scale = 1.0 / (1 << 24) as f64;
    let u1 = ((a >> 8) + 1) as f64 * scale;
    let u2 = (b >> 8) as f64 * scale;
    let r = (-2.0 * u1.ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * u2).sin_cos();
    (r * cos, r * sin)
}

/// Fills `out` with elements `first_element ..` of one value's noise in one direction: the CPU's fast path. The same bits as [`normals4`] with
/// [`box_muller_f32`], wherever a range starts and ends.
///
/// Always inlined: called from a function with `#[target_feature]` it is compiled for that feature, with the same bits.
#[inline(always)]
pub fn fill_normals(seed: u32, domain: Domain, stream: u32, direction: u32, step: u32, first_element: u64, out: &mut [f32]) {
    let key = [seed, domain.key()];
    let skip = ((4 - first_element % 4) % 4) as usize;
    let (head, rest) = out.split_at_mut(skip.min(out.len()));
    if !head.is_empty() {
        let block = block_f32(normals4(seed, domain, stream, direction, step, first_element / 4));
        head.copy_from_slice(&block[4 - skip..][..head.len()]);
    }
    let mut quad = first_element.div_ceil(4);
    let mut batches = rest.chunks_exact_mut(4 * BATCH);
    for batch in &mut batches {
        fill_batch(key, stream, direction, step, quad, batch);
        quad += BATCH as u64;
    }
    for part in batches.into_remainder().chunks_mut(4) {
        let block = block_f32(normals4(seed, domain, stream, direction, step, quad));
        part.copy_from_slice(&block[..part.len()]);
        quad += 1;
    }
}

/// [`fill_normals`] in f64, from the same bits.
pub fn fill_normals_f64(seed: u32, domain: Domain, stream: u32, direction: u32, step: u32, first_element: u64, out: &mut [f64]) {
    let mut at = first_element;
    let mut rest = out;
    while !rest.is_empty() {
        let [a, b, c, d] = normals4(seed, domain, stream, direction, step, at / 4);
        let ((n0, n1), (n2, n3)) = (box_muller_f64(a, b), box_muller_f64(c, d));
        let lanes = &[n0, n1, n2, n3][(at % 4) as usize..];
        let count = lanes.len().min(rest.len());
        let (part, tail) = rest.split_at_mut(count);
        part.copy_from_slice(&lanes[..count]);
        at += count as u64;
        rest = tail;
    }
}

/// Blocks that [`fill_normals`] computes side by side, so that the compiler keeps them in vector registers.
const BATCH: usize = 64;
/// Blocks of a batch that go through the cipher together. Fewer get unrolled into scalar code.
const ROW: usize = 16;

/// One batch of whole blocks; each loop over lanes is one vector operation or a few.
#[inline(always)]
fn fill_batch(key: [u32; 2], stream: u32, direction: u32, step: u32, quad: u64, out: &mut [f32]) {
    let mut bits = [[0u32; BATCH]; 4];
    for row in (0..BATCH).step_by(ROW) {
        let words = cipher_row(key, stream, direction, step, quad + row as u64);
        for i in 0..ROW {
            for word in 0..4 {
                bits[word][row + i] = words[word][i] as u32;
            }
        }
    }
    let mut normals = [[0.0f32; BATCH]; 4];
    for i in 0..BATCH {
        (normals[0][i], normals[1][i]) = box_muller_f32(bits[0][i], bits[1][i]);
    }
    for i in 0..BATCH {
        (normals[2][i], normals[3][i]) = box_muller_f32(bits[2][i], bits[3][i]);
    }
    // Spelled out: a closure over the four lanes keeps the compiler from vectorising this function, at half the speed.
    for (i, block) in out.chunks_exact_mut(4).enumerate().take(BATCH) {
        block.copy_from_slice(&[normals[0][i], normals[1][i], normals[2][i], normals[3][i]]);
    }
}

/// The cipher on consecutive blocks. Words stand in the low halves of u64s, where vector multipliers want them; high halves hold leftovers.
#[inline(always)]
fn cipher_row([mut k0, mut k1]: [u32; 2], stream: u32, direction: u32, step: u32, quad: u64) -> [[u64; ROW]; 4] {
    let (mut c0, mut c1, mut c2, mut c3) = ([0; ROW], [stream as u64; ROW], [0; ROW], [step as u64; ROW]);
    for i in 0..ROW {
        c0[i] = quad + i as u64;
        c2[i] = high_word(direction, c0[i]) as u64;
    }
    for _ in 0..ROUNDS {
        for i in 0..ROW {
            let p0 = (c0[i] & LOW) * MULTIPLIERS[0] as u64;
            let p1 = (c2[i] & LOW) * MULTIPLIERS[1] as u64;
            (c0[i], c1[i], c2[i], c3[i]) = ((p1 >> 32) ^ c1[i] ^ k0 as u64, p1, (p0 >> 32) ^ c3[i] ^ k1 as u64, p0);
        }
        (k0, k1) = (k0.wrapping_add(WEYL[0]), k1.wrapping_add(WEYL[1]));
    }
    [c0, c1, c2, c3]
}

/// The bits of a u64's low half.
const LOW: u64 = 0xFFFF_FFFF;

/// Counter word 2.
fn high_word(direction: u32, quad: u64) -> u32 {
    direction << 8 | (quad >> 32) as u32 & 0xFF
}

/// The high and low half of a 64-bit product.
#[inline(always)]
fn wide(x: u32, y: u32) -> (u32, u32) {
    let product = x as u64 * y as u64;
    ((product >> 32) as u32, product as u32)
}

fn block_f32([a, b, c, d]: [u32; 4]) -> [f32; 4] {
    let ((n0, n1), (n2, n3)) = (box_muller_f32(a, b), box_muller_f32(c, d));
    [n0, n1, n2, n3]
}

/// `ln(((bits >> 8) + 1) / 2^24)`.
#[inline(always)]
fn ln_unit(bits: u32) -> f32 {
    let m = ((bits >> 8) + 1) as i32 as f32; // exact: 1 to 2^24
    // m = (1 + f) * 2^e with 1 + f in [sqrt(1/2), sqrt(2)): subtracting the bits of sqrt(1/2) leaves e in the exponent field.
    let e = (m.to_bits() - SQRT_HALF_BITS) >> 23;
    let f = f32::from_bits(m.to_bits() - (e << 23)) - 1.0;
    let e = (e as i32 - 24) as f32;
    let z = f * f;
    let p = LN_POLY;
    let mut y = ((((((((p[0] * f + p[1]) * f + p[2]) * f + p[3]) * f + p[4]) * f + p[5]) * f + p[6]) * f + p[7]) * f + p[8]) * f * z;
    y += e * LN_2[1];
    y -= 0.5 * z;
    f + y + e * LN_2[0]
}

/// Sine and cosine of `2 pi u`, `u = (bits >> 8) / 2^24`. The reduction to the nearest quarter turn is in integers, hence exact.
#[inline(always)]
fn sin_cos_turn(bits: u32) -> (f32, f32) {
    let k = bits >> 8;
    let quarter = (k + (1 << 21)) >> 22;
    let x = (k as i32 - (quarter << 22) as i32) as f32 * RADIANS;
    let z = x * x;
    let s = ((SIN_POLY[0] * z + SIN_POLY[1]) * z + SIN_POLY[2]) * z * x + x;
    let c = ((COS_POLY[0] * z + COS_POLY[1]) * z + COS_POLY[2]) * z * z - 0.5 * z + 1.0;
    let odd = quarter & 1 == 1;
    let (sin, cos) = if odd { (c, s) } else { (s, c) };
    let flip = |x: f32, quarters: u32| f32::from_bits(x.to_bits() ^ (quarters & 2) << 30);
    (flip(sin, quarter), flip(cos, quarter + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the Random123 distribution (`kat_vectors`, philox4x32 10).
    #[test]
    fn known_answers() {
        let ones = u32::MAX;
        let pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
        for (counter, key, answer) in [
            ([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
            ([ones; 4], [ones; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
            (pi, [0xa4093822, 0x299f31d0], [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]),
        ] {
            assert_eq!(philox4x32(counter, key), answer, "counter {counter:08x?}, key {key:08x?}");
        }
    }

    #[test]
    fn every_part_of_the_address_counts() {
        let base = normals4(1, Domain::Noise, 2, 3, 4, 5);
        assert_eq!(base, philox4x32([5, 2, 3 << 8, 4], [1, 0]));
        assert_eq!(normals4(1, Domain::Init, 2, 3, 4, 5 | 7 << 32), philox4x32([5, 2, 3 << 8 | 7, 4], [1, 1]));
        for other in [
            normals4(0, Domain::Noise, 2, 3, 4, 5),
            normals4(1, Domain::Data, 2, 3, 4, 5),
            normals4(1, Domain::Noise, 0, 3, 4, 5),
            normals4(1, Domain::Noise, 2, 0, 4, 5),
            normals4(1, Domain::Noise, 2, 3, 0, 5),
            normals4(1, Domain::Noise, 2, 3, 4, 0),
        ] {
            assert_ne!(base, other);
        }
    }

    /// All 2^24 radii and all 2^24 angles against f64.
    #[test]
    fn logarithm_sine_and_cosine_are_accurate_everywhere() {
        let (mut ln_error, mut angle_error) = (0.0f64, 0.0f64);
        for k in 0..1u32 << 24 {
            let bits = k << 8 | 0xA5; // the low bits must not count
            let ln = ((k + 1) as f64 / (1 << 24) as f64).ln();
            let got = ln_unit(bits) as f64;
            ln_error = ln_error.max(if ln == 0.0 { got.abs() } else { (got / ln - 1.0).abs() });
            let (sin, cos) = (std::f64::consts::TAU * k as f64 / (1 << 24) as f64).sin_cos();
            let (got_sin, got_cos) = sin_cos_turn(bits);
            angle_error = angle_error.max((got_sin as f64 - sin).abs()).max((got_cos as f64 - cos).abs());
        }
        println!("ln: {ln_error:e} relative, sine and cosine: {angle_error:e} absolute");
        assert!(ln_error < 1.3e-7, "{ln_error:e}"); // about 1 ulp
        assert!(angle_error < 1.0e-7, "{angle_error:e}");
    }

    #[test]
    fn normals_are_accurate() {
        let mut worst = 0.0f64;
        for quad in 0..500_000 {
            let [a, b, ..] = normals4(9, Domain::Noise, 0, 0, 0, quad);
            let ((x0, x1), (y0, y1)) = (box_muller_f32(a, b), box_muller_f64(a, b));
            for (x, y) in [(x0, y0), (x1, y1)] {
                worst = worst.max((x as f64 - y).abs() / y.abs().max(1.0));
            }
        }
        println!("normals: {worst:e}");
        assert!(worst < 3e-7, "{worst:e}");
    }

    #[test]
    fn extreme_bits_give_finite_numbers() {
        let largest = (2.0 * 24.0 * std::f32::consts::LN_2).sqrt();
        for a in [0, 0xFF, 0x100, u32::MAX - 0x100, u32::MAX] {
            for b in [0, 1 << 29, 1 << 30, 1 << 31, 3 << 30, u32::MAX] {
                let (x, y) = box_muller_f32(a, b);
                assert!(x.abs() <= largest && y.abs() <= largest, "{a:x} {b:x}: {x} {y}");
            }
        }
        assert_eq!(box_muller_f32(0, 0).0, largest);
        assert_eq!(box_muller_f32(u32::MAX, 0).0, 0.0);
    }

    /// One element, written as the definition reads.
    fn element(seed: u32, stream: u32, direction: u32, step: u32, element: u64) -> (f32, f64) {
        let bits = normals4(seed, Domain::Noise, stream, direction, step, element / 4);
        let pair = (element % 4 / 2 * 2) as usize;
        let (x, y) = (box_muller_f32(bits[pair], bits[pair + 1]), box_muller_f64(bits[pair], bits[pair + 1]));
        if element.is_multiple_of(2) { (x.0, y.0) } else { (x.1, y.1) }
    }

    #[test]
    fn filling_gives_the_definitions_bits_from_any_offset() {
        // Offsets and lengths around blocks and batches, and across the block number's 32nd bit.
        let mut random = (0..).flat_map(|quad| normals4(7, Domain::Data, 0, 0, 0, quad));
        let mut below = |n: u32| random.next().expect("endless") % n;
        for round in 0..400 {
            let first = match round % 4 {
                0 => below(70) as u64,
                1 => below(u32::MAX) as u64,
                2 => (1u64 << 34) - below(200) as u64,
                _ => (below(1 << 10) as u64) << 32 | below(u32::MAX) as u64,
            };
            let (seed, stream, direction, step) = (below(u32::MAX), below(9), below(1 << 24), below(u32::MAX));
            let length = if round % 3 == 0 { below(9) } else { below(300) } as usize;
            let mut out = vec![f32::NAN; length];
            fill_normals(seed, Domain::Noise, stream, direction, step, first, &mut out);
            let mut wide = vec![f64::NAN; length];
            fill_normals_f64(seed, Domain::Noise, stream, direction, step, first, &mut wide);
            for (i, (x, y)) in out.iter().zip(&wide).enumerate() {
                let (wants, wants_wide) = element(seed, stream, direction, step, first + i as u64);
                assert_eq!(x.to_bits(), wants.to_bits(), "element {i} of {length} from {first}");
                assert_eq!(y.to_bits(), wants_wide.to_bits(), "f64 element {i} of {length} from {first}");
            }
        }
    }

    /// A million numbers each. Standard errors at n = 10^6: mean 1 / sqrt(n) = 0.001, variance sqrt(2 / n) = 0.0014, third moment
    /// sqrt(15 / n) = 0.0039, kurtosis about its own mean sqrt(24 / n) = 0.0049, correlation 0.001. The bounds are five of them, a chance of
    /// one in a million each; the draws are fixed, so the test cannot flake. Cutting the tail at 5.77 moves the kurtosis by less than 1e-4.
    #[test]
    fn moments_are_those_of_independent_standard_normals() {
        const N: usize = 1_000_000;
        let draw = |seed: u32, stream: u32, direction: u32, step: u32| {
            let mut out = vec![0.0; N];
            fill_normals(seed, Domain::Noise, stream, direction, step, 0, &mut out);
            out.into_iter().map(f64::from).collect::<Vec<f64>>()
        };
        let mean = |f: &dyn Fn(usize) -> f64, n: usize| (0..n).map(f).sum::<f64>() / n as f64;
        let x = draw(0, 0, 0, 0);
        let m1 = mean(&|i| x[i], N);
        let m2 = mean(&|i| x[i].powi(2), N);
        let m3 = mean(&|i| x[i].powi(3), N);
        let m4 = mean(&|i| x[i].powi(4), N);
        assert!(m1.abs() < 0.005, "mean {m1}");
        assert!((m2 - 1.0).abs() < 0.007, "variance {m2}");
        assert!(m3.abs() < 0.02, "skewness {m3}");
        assert!((m4 / (m2 * m2) - 3.0).abs() < 0.025, "kurtosis {}", m4 / (m2 * m2));
        for (name, y) in
            [("seed", draw(1, 0, 0, 0)), ("stream", draw(0, 1, 0, 0)), ("direction", draw(0, 0, 1, 0)), ("step", draw(0, 0, 0, 1))]
        {
            let r = mean(&|i| x[i] * y[i], N);
            assert!(r.abs() < 0.005, "correlation with the next {name}: {r}");
        }
        // Within blocks and between neighbours: of n / 4 blocks, so twice the standard error. Squares too (variance 2): a Box-Muller pair shares
        // its radius and must still be independent.
        for (l, r) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (0, 4), (3, 4)] {
            let blocks = N / 4 - 1;
            let plain = mean(&|i| x[4 * i + l] * x[4 * i + r], blocks);
            let squares = mean(&|i| (x[4 * i + l].powi(2) - 1.0) * (x[4 * i + r].powi(2) - 1.0), blocks);
            assert!(plain.abs() < 0.01, "correlation of lanes {l} and {r}: {plain}");
            assert!(squares.abs() < 0.02, "correlation of the squares of lanes {l} and {r}: {squares}");
        }
    }
}
