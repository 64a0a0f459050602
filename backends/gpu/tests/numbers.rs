//! What emitted texts compute, where they run: every primitive on ordinary and odd numbers, and noise, against the slow machine of
//! `pushforward_plan::device::run` and the generator itself. CUDA C++ runs under cuda-emu, WGSL through wgpu. Read [`primitives_agree`].

#[path = "support/hand.rs"]
mod hand;
mod support;

use pushforward_gpu::driver::Driver;
use pushforward_ir::philox::{Domain, fill_normals, fill_normals_f64};
use pushforward_plan::device::kernel::*;
use pushforward_plan::device::run::{self, Memory};
use pushforward_plan::kernel::ElementType::{Bool, F32, F64, I32};
use pushforward_plan::kernel::{Access, ElementType, Prim};

use hand::*;

/// Elements of a buffer of [`hand::plan`].
const LEN: usize = 64;

fn cuda_emu() -> Option<Box<dyn Driver>> {
    use pushforward_gpu::emu::{Emulator, Options};
    match Emulator::new(Options::default()) {
        Ok(driver) => Some(Box::new(driver)),
        Err(why) => {
            support::skipped(&why.to_string());
            None
        }
    }
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Option<Box<dyn Driver>> {
    match pushforward_gpu::driver::wgpu::Wgpu::open() {
        Ok(driver) => Some(Box::new(driver)),
        Err(why) => {
            support::skipped(&why.to_string());
            None
        }
    }
}

fn bytes(dtype: ElementType, numbers: &[f64]) -> Vec<u8> {
    match dtype {
        F32 => numbers.iter().flat_map(|&x| (x as f32).to_ne_bytes()).collect(),
        F64 => numbers.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        I32 => numbers.iter().flat_map(|&x| (x as i32).to_ne_bytes()).collect(),
        Bool => numbers.iter().flat_map(|&x| u32::from(x != 0.0).to_ne_bytes()).collect(),
    }
}

fn numbers(dtype: ElementType, bytes: &[u8]) -> Vec<f64> {
    let words = || bytes.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    match dtype {
        F32 => words().map(|w| f32::from_bits(w).into()).collect(),
        F64 => bytes.chunks_exact(8).map(|b| f64::from_ne_bytes(b.try_into().expect("eight bytes"))).collect(),
        I32 => words().map(|w| f64::from(w as i32)).collect(),
        Bool => words().map(f64::from).collect(),
    }
}

/// Runs a plan on a driver: `memory` as for [`run::run`].
fn on(driver: &mut dyn Driver, plan: &DevicePlan, memory: &mut Memory) {
    let loaded = driver.load(plan).unwrap_or_else(|e| panic!("{e}"));
    let mut buffers = Vec::new();
    for (buffer, numbers) in plan.buffers.iter().zip(&memory.buffers) {
        let allocated = driver.allocate(&buffer.name, buffer.bytes()).unwrap_or_else(|e| panic!("{e}"));
        driver.write(allocated, &bytes(buffer.dtype, numbers)).unwrap_or_else(|e| panic!("{e}"));
        buffers.push(allocated);
    }
    let scalars: Vec<u8> = plan.scalars.iter().zip(&memory.scalars).flat_map(|(s, &x)| bytes(s.dtype, &[x])).collect();
    driver.run(loaded, &buffers, &scalars).unwrap_or_else(|e| panic!("{e}"));
    for ((buffer, &allocated), result) in plan.buffers.iter().zip(&buffers).zip(&mut memory.buffers) {
        let mut read = vec![0; buffer.bytes()];
        driver.read(allocated, &mut read).unwrap_or_else(|e| panic!("{e}"));
        *result = numbers(buffer.dtype, &read);
        driver.free(allocated);
    }
}

/// The n-th operand: ordinary numbers of all sizes, ties, edges; no subnormal ones, which a device may flush.
fn operand(dtype: ElementType, n: usize) -> Vec<f64> {
    let odd = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 88.5, -87.0, 2147483648.0, -2147483648.0, 3e9];
    let mut random = 0x9E37_79B9u32.wrapping_mul(n as u32 + 1);
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random
    };
    let number = |i: usize, bits: u32| match dtype {
        F32 | F64 => match odd.get((i + 5 * n) % LEN) {
            Some(&x) => x,
            None => {
                let x = (bits >> 8) as f64 / (1 << 24) as f64 * 2.0 - 1.0;
                (x * 10f64.powi(i as i32 % 9 - 4)) as f32 as f64
            }
        },
        I32 => [0, 1, -1, i32::MAX, i32::MIN].get((i + n) % LEN).copied().unwrap_or(bits as i32 >> (i % 31)).into(),
        Bool => f64::from(bits & 1),
    };
    (0..LEN).map(|i| number(i, next())).collect()
}

/// How far two numbers are apart, in units of the last place of `want`. NaN is NaN, whatever its bits.
fn ulps(dtype: ElementType, got: f64, want: f64) -> f64 {
    if got == want || got.is_nan() && want.is_nan() {
        return 0.0;
    }
    if !got.is_finite() || !want.is_finite() {
        return f64::INFINITY;
    }
    let digits = match dtype {
        F32 => 23,
        F64 => 52,
        I32 | Bool => return f64::INFINITY,
    };
    let ulp = 2f64.powi(want.abs().max(f32::MIN_POSITIVE.into()).log2().floor() as i32 - digits);
    (got - want).abs() / ulp
}

/// Each primitive on each dtype that `takes` lets through; results within `close` of the slow machine's.
fn primitives_agree(driver: &mut dyn Driver, takes: fn(ElementType) -> bool, close: fn(Prim, ElementType) -> f64) {
    let plans = primitives(|i, _| Expr::Load(i, boxed(Expr::Thread)));
    for ((prim, from, to, arity), (name, mut plan)) in signatures().into_iter().zip(plans) {
        if !takes(from) || !takes(to) {
            continue;
        }
        // All of a buffer; nothing but what is read is an argument, as drivers want it.
        plan.kernels[0].block = LEN as u32;
        plan.kernels[0].grid = (1, 1);
        let mut buffers: Vec<Vec<f64>> = plan.buffers.iter().enumerate().map(|(i, b)| operand(b.dtype, i)).collect();
        buffers[4] = vec![0.0; LEN];
        let mut want = Memory { scalars: vec![0.0; 4], buffers: buffers.clone() };
        run::run(&plan, &mut want).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut got = Memory { scalars: vec![0.0; 4], buffers: buffers.clone() };
        on(driver, &plan, &mut got);
        for i in 0..LEN {
            let (got, want) = (got.buffers[4][i], want.buffers[4][i]);
            let apart = ulps(to, got, want);
            let x: Vec<f64> = buffers[..arity].iter().map(|b| b[i]).collect();
            assert!(apart <= close(prim, to), "{}: {name} of {x:?}: {got:e} for {want:e}, {apart} ulp", driver.about());
        }
    }
}

/// What is rounded once is exact; functions are as accurate as the CPU's.
#[test]
fn primitives_agree_under_cuda_emu() {
    let Some(mut driver) = cuda_emu() else { return };
    primitives_agree(&mut *driver, |_| true, |prim, _| if prim.is_slow() { 3.0 } else { 0.0 });
}

/// WGSL lets quotients and roots be 2.5 units off each.
#[cfg(feature = "wgpu")]
#[test]
fn primitives_agree_in_wgsl() {
    let Some(mut driver) = wgpu() else { return };
    let close = |prim: Prim, _| match prim {
        Prim::Div | Prim::Sqrt => 2.5,
        Prim::Rsqrt => 5.0,
        _ if prim.is_slow() => 4.0,
        _ => 0.0,
    };
    primitives_agree(&mut *driver, |dtype| dtype != F64, close);
}

/// Where noise is asked for: seed, domain, stream, direction, step, first element.
const PLACES: [(i32, Domain, u32, u32, i32, u64); 4] = [
    (0, Domain::Noise, 0, 0, 0, 0),
    (7, Domain::Noise, 3, 5, 9, 1),
    (-2, Domain::Init, u32::MAX, 0, 0, 1 << 20),
    (i32::MIN, Domain::Noise, 1, (1 << 24) - 1, -1, (1 << 32) - 4096),
];

/// Normal numbers of one place, `count` in a row, in each thread one.
fn normals(driver: &mut dyn Driver, dtype: ElementType, place: (i32, Domain, u32, u32, i32, u64), count: usize) -> Vec<f64> {
    let (seed, domain, stream, direction, step, first) = place;
    let at = Expr::Var(0);
    let normal = Normal {
        dtype,
        domain: domain.key(),
        seed: Expr::Scalar(0),
        step: Expr::Scalar(1),
        stream: 0,
        direction: Expr::Int(direction.into()),
        element: index(IndexOp::Add, at.clone(), Expr::Int(first)),
    };
    let body = vec![Stmt::Let(0, VarType::Index, hand::place()), Stmt::Store(0, at, Expr::Normal(Box::new(normal)))];
    let mut plan = plan(&[("y", dtype, Access::Write)], &[], body);
    plan.buffers[0].dims = vec![("N".into(), count)];
    plan.kernels[0].grid = ((count / 32) as u32, 1);
    plan.launches[0].streams = vec![stream];
    let mut memory = Memory { scalars: vec![seed.into(), step.into(), 0.0, 0.0], buffers: vec![vec![0.0; count]] };
    on(driver, &plan, &mut memory);
    memory.buffers.remove(0)
}

const COUNT: usize = 4096;

fn expected(place: (i32, Domain, u32, u32, i32, u64)) -> Vec<f32> {
    let (seed, domain, stream, direction, step, first) = place;
    let mut want = vec![0.0; COUNT];
    fill_normals(seed as u32, domain, stream, direction, step as u32, first, &mut want);
    want
}

#[test]
fn noise_has_the_generators_bits_under_cuda_emu() {
    let Some(mut driver) = cuda_emu() else { return };
    for place in PLACES {
        let got = normals(&mut *driver, F32, place, COUNT);
        for (i, (got, want)) in got.into_iter().zip(expected(place)).enumerate() {
            assert_eq!((got as f32).to_bits(), want.to_bits(), "{place:?}, element {i}: {got:e} for {want:e}");
        }
        let (seed, domain, stream, direction, step, first) = place;
        let mut want = vec![0.0; COUNT];
        fill_normals_f64(seed as u32, domain, stream, direction, step as u32, first, &mut want);
        for (i, (got, want)) in normals(&mut *driver, F64, place, COUNT).into_iter().zip(want).enumerate() {
            assert!((got - want).abs() <= 1e-14 * want.abs().max(1.0), "{place:?}, element {i}: {got:e} for {want:e}");
        }
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn noise_is_the_generators_in_wgsl() {
    let Some(mut driver) = wgpu() else { return };
    let mut worst = 0.0f64;
    for place in PLACES {
        let got = normals(&mut *driver, F32, place, COUNT);
        for (i, (got, want)) in got.into_iter().zip(expected(place)).enumerate() {
            let apart = ulps(F32, got, want.into());
            assert!(apart <= 2.0, "{place:?}, element {i}: {got:e} for {want:e}, {apart} ulp");
            worst = worst.max(apart);
        }
    }
    println!("{}: at most {worst} ulp from the CPU's normals", driver.about());
}
