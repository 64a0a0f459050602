//! The numbers on which programs are compared: ordinary ones, and those where mistakes show. A tensor depends on its name, its type, the kind
//! and the seed, never on the program, so a program before a pass and one after it get the same. Read [`Kind`], then [`inputs`].

use pushforward_ir::eval::{Inputs, Tensor};
use pushforward_ir::program::Port;
use pushforward_ir::{DType, Program};

/// Kinds of floats. Integers are indices along some axis; beside ordinary numbers, now and then one too small or too large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Between -1 and 1.
    Ordinary,
    /// Between 0.5 and 1.5: what has a logarithm.
    Positive,
    /// All of them 0.
    Zeros,
    /// Zeros of both signs.
    SignedZeros,
    /// Whole tensors of zeros, and zeros among other numbers: ReLU's tie, norms of nothing.
    Ties,
    /// Of the order of 1e-310: products of two are 0.
    Denormal,
    /// Of the order of 1e6.
    Large,
    /// Of the order of 1e160: products of two are infinite.
    Huge,
    /// Some of them infinite.
    Infinite,
    /// Some of them NaN, some infinite.
    NaN,
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Ordinary,
        Kind::Positive,
        Kind::Zeros,
        Kind::SignedZeros,
        Kind::Ties,
        Kind::Denormal,
        Kind::Large,
        Kind::Huge,
        Kind::Infinite,
        Kind::NaN,
    ];

    /// Those that mostly stay finite in a program, too.
    pub const FINITE: [Kind; 7] = [Kind::Ordinary, Kind::Positive, Kind::Zeros, Kind::SignedZeros, Kind::Ties, Kind::Denormal, Kind::Large];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Ordinary => "ordinary",
            Kind::Positive => "positive",
            Kind::Zeros => "zero",
            Kind::SignedZeros => "signed zero",
            Kind::Ties => "half zero",
            Kind::Denormal => "denormal",
            Kind::Large => "large",
            Kind::Huge => "huge",
            Kind::Infinite => "partly infinite",
            Kind::NaN => "partly NaN",
        }
    }

    /// Whether all numbers are of about one size, so that a program that loses digits on them is a bad one.
    pub fn is_tame(self) -> bool {
        match self {
            Kind::Ordinary | Kind::Positive => true,
            Kind::Zeros | Kind::SignedZeros | Kind::Ties | Kind::Denormal | Kind::Large => false,
            Kind::Huge | Kind::Infinite | Kind::NaN => false,
        }
    }

    fn float(self, random: &mut Random, blank: bool) -> f64 {
        let x = random.number();
        match self {
            Kind::Ordinary => x,
            Kind::Positive => 1.0 + 0.5 * x,
            Kind::Zeros => 0.0,
            Kind::SignedZeros => 0.0f64.copysign(x),
            Kind::Ties if blank || random.below(2) == 0 => 0.0,
            Kind::Ties => x,
            Kind::Denormal => x * 1e-310,
            Kind::Large => x * 1e6,
            Kind::Huge => x * 1e160,
            Kind::Infinite if random.below(4) == 0 => f64::INFINITY.copysign(x),
            Kind::Infinite => x,
            Kind::NaN => [f64::NAN, f64::INFINITY.copysign(x), x, x, x, x, x, x][random.below(8)],
        }
    }
}

/// Tensors of a kind for the inputs and parameters of both programs.
pub fn inputs(before: &Program, after: &Program, kind: Kind, seed: u64) -> Inputs {
    let sizes: Vec<usize> = before.axes.ids().map(|a| before.axes.size(a)).filter(|n| *n > 0).collect();
    let mut all = Inputs::new();
    for program in [after, before] {
        for port in program.inputs.iter().chain(program.params.iter().map(|p| &p.port)) {
            all.insert(port.name.clone(), tensor(program, port, kind, &sizes, seed));
        }
    }
    all
}

fn tensor(program: &Program, port: &Port, kind: Kind, sizes: &[usize], seed: u64) -> Tensor {
    let mut random = Random::new(mixed(seed) ^ hash(&port.name));
    let blank = random.below(2) == 0;
    Tensor::from_fn(&program.axes, port.dtype, &port.order, |_| match port.dtype {
        DType::F32 | DType::F64 => kind.float(&mut random, blank),
        DType::I32 => index(&mut random, kind, sizes),
        DType::Bool => random.below(2) as f64,
    })
}

fn index(random: &mut Random, kind: Kind, sizes: &[usize]) -> f64 {
    let size = match sizes {
        [] => 3,
        sizes => sizes[random.below(sizes.len())],
    };
    match kind {
        Kind::Ordinary => random.below(size) as f64,
        _ if random.below(8) == 0 => [-1.0, size as f64][random.below(2)],
        _ => random.below(size) as f64,
    }
}

/// FNV-1a.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Splitmix64: the same numbers everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(mixed(seed))
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Between -1 and 1.
    pub(super) fn number(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

fn mixed(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
