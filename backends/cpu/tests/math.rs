//! How accurate exp, log, tanh and erf of f32 are: sweeps over the whole range against f64, and what happens at its ends.

mod support;

use pushforward_plan::kernel::ElementType::F32;
use pushforward_plan::kernel::*;
use support::*;

fn apply(prim: Prim, x: &[f32]) -> Vec<f32> {
    let mut b = Build::new("math");
    let (from, to) = (b.input(F32, x.len()), b.output(F32, x.len()));
    let insts = vec![
        inst(0, F32, InstKind::Load(place(0, &[1]))),
        inst(1, F32, InstKind::Prim(prim, vec![0])),
        inst(0, F32, InstKind::Store(place(1, &[1]), 1)),
    ];
    let kernel =
        b.kernel(&[(F32, Access::Read), (F32, Access::Write)], loops(&[x.len()], &[], Lanes::Outer, &[], vec![Section::Once(insts)]));
    b.launch(kernel, &[from, to], 0);
    let x = x.iter().map(|&x| x as f64).collect();
    run(&b.plan, &[x], &mut [], 1)[0].iter().map(|&y| y as f32).collect()
}

/// Distance from the exact result in units of the last place of the f32 next to it.
fn ulps(y: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    if y == nearest || y.is_nan() && nearest.is_nan() {
        return 0.0;
    }
    if !y.is_finite() || !nearest.is_finite() {
        return f64::INFINITY;
    }
    let size = nearest.abs().max(f32::MIN_POSITIVE);
    let ulp = (f32::from_bits(size.to_bits() + 1) - size) as f64;
    (y as f64 - exact).abs() / ulp
}

fn worst(prim: Prim, exact: fn(f64) -> f64, x: &[f32]) -> f64 {
    let y = apply(prim, x);
    let each = x.iter().zip(&y).map(|(&x, &y)| (ulps(y, exact(x as f64)), x));
    let (worst, at) = each.fold((0.0, 0.0), |w, e| if e.0 > w.0 { e } else { w });
    println!("{prim:?}: {worst:.3} ulp at {at:e}");
    worst
}

/// Every 997th f32, all signs, infinities and NaNs among them.
fn all_sizes() -> Vec<f32> {
    (0..u32::MAX / 997).map(|i| f32::from_bits(i * 997)).collect()
}

/// Evenly between two numbers.
fn between(from: f32, to: f32) -> Vec<f32> {
    (0..2_000_000).map(|i| from + (to - from) * (i as f32 / 2e6)).collect()
}

#[test]
fn exp_is_accurate() {
    assert!(worst(Prim::Exp, f64::exp, &all_sizes()) < 1.5);
    assert!(worst(Prim::Exp, f64::exp, &between(-105.0, 90.0)) < 1.5);
    assert!(worst(Prim::Exp, f64::exp, &between(-1.0, 1.0)) < 1.5);
}

#[test]
fn log_is_accurate() {
    assert!(worst(Prim::Log, f64::ln, &all_sizes()) < 1.5);
    assert!(worst(Prim::Log, f64::ln, &between(0.5, 2.0)) < 1.5);
}

#[test]
fn tanh_is_accurate() {
    assert!(worst(Prim::Tanh, f64::tanh, &all_sizes()) < 2.0);
    assert!(worst(Prim::Tanh, f64::tanh, &between(-10.0, 10.0)) < 2.0);
    assert!(worst(Prim::Tanh, f64::tanh, &between(-1.0, 1.0)) < 2.0);
}

#[test]
fn erf_is_accurate() {
    assert!(worst(Prim::Erf, libm::erf, &all_sizes()) < 2.0);
    assert!(worst(Prim::Erf, libm::erf, &between(-4.5, 4.5)) < 2.0);
    assert!(worst(Prim::Erf, libm::erf, &between(-1.0, 1.0)) < 2.0);
}

#[test]
fn the_ends_are_right() {
    let (inf, nan, tiny) = (f32::INFINITY, f32::NAN, f32::from_bits(1));
    let bits = |y: Vec<f32>| y.iter().map(|y| if y.is_nan() { nan.to_bits() } else { y.to_bits() }).collect::<Vec<_>>();
    let x = [inf, -inf, nan, 0.0, -0.0, 88.73, 88.72, -103.98, -103.9, tiny, -200.0, 1e30];
    let y = apply(Prim::Exp, &x);
    assert_eq!(bits(y[..6].to_vec()), bits(vec![inf, 0.0, nan, 1.0, 1.0, inf]));
    assert!(y[6].is_finite() && y[6] > 3.3e38);
    assert_eq!(bits(y[7..].to_vec()), bits(vec![0.0, tiny, 1.0, 0.0, inf]));

    let x = [inf, -inf, nan, 0.0, -0.0, -1.0, -tiny, 1.0, tiny];
    assert_eq!(bits(apply(Prim::Log, &x)), bits(vec![inf, nan, nan, -inf, -inf, nan, nan, 0.0, (tiny as f64).ln() as f32]));

    let x = [inf, -inf, nan, 0.0, -0.0, tiny, -tiny, 50.0, -50.0, 1e38];
    let wants = vec![1.0, -1.0, nan, 0.0, -0.0, tiny, -tiny, 1.0, -1.0, 1.0];
    assert_eq!(bits(apply(Prim::Tanh, &x)), bits(wants.clone()));
    // Its slope at 0 is 1.128: the least number stays where it is.
    assert_eq!(bits(apply(Prim::Erf, &x)), bits(wants));
}
