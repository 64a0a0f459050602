//! How far an array may be from its reference, and how far it is. Read [`tolerance`].

use pushforward_ir::DType;

use super::file::{Entry, Fixture};

/// The largest departure that an element of the array `name` may have.
pub fn tolerance(float: DType, entry: &Entry, fixture: &Fixture, name: &str, expected: &[f64]) -> f64 {
    let largest = max_abs(expected);
    match float {
        DType::F32 => {
            // Ten times what the reference itself departs; an array of exact zeros is measured by its algorithm's other gradients.
            let near = match algorithm_of(name) {
                Some(algorithm) => {
                    let same = fixture.outputs.iter().filter(|(n, _)| algorithm_of(n) == Some(algorithm));
                    same.filter_map(|(_, a)| a.as_ref().ok()).map(|a| max_abs(&a.data)).fold(0.0, f64::max)
                }
                None => largest,
            };
            10.0 * entry.f32_worst().max(1e-6) * largest + 1e-6 * near
        }
        DType::F64 | DType::I32 | DType::Bool => 1e-9 * largest + 1e-12,
    }
}

/// The same where products round their factors to TF32, on a case whose longest product sums `inner` terms.
pub fn tolerance_tf32(exact: f64, inner: usize, expected: &[f64]) -> f64 {
    exact.max(TF32 * (inner as f64).sqrt() * max_abs(expected))
}

/// TF32 keeps ten bits of a fraction.
const TF32: f64 = 1.0 / 1024.0;

/// The algorithm of a gradient's name, with what stands before: `LG-BP` of `grad.LG-BP.block0.fc.w`, `cos.grad.LG-BP` of a contrastive one.
fn algorithm_of(name: &str) -> Option<&str> {
    let start = if name.starts_with("grad.") { "grad.".len() } else { name.find(".grad.")? + ".grad.".len() };
    let end = name[start..].find('.')?;
    Some(&name[..start + end])
}

fn max_abs(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |max, x| x.abs().max(max))
}

/// Where an array is farthest from its reference.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Worst {
    pub error: f64,
    /// Position in row-major order.
    pub at: usize,
    pub got: f64,
    pub expected: f64,
}

/// The worst element; one that is no number is worse than all others. `None` for arrays without elements.
pub fn worst(got: &[f64], expected: &[f64]) -> Option<Worst> {
    let departure = |(at, (&got, &expected)): (usize, (&f64, &f64))| {
        let error = (got - expected).abs();
        Worst { error: if error.is_nan() { f64::INFINITY } else { error }, at, got, expected }
    };
    got.iter().zip(expected).enumerate().map(departure).reduce(|worst, next| if next.error > worst.error { next } else { worst })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_know_their_algorithm() {
        assert_eq!(algorithm_of("grad.LG-FG-A/NG.block0.fc.w"), Some("grad.LG-FG-A/NG"));
        assert_eq!(algorithm_of("cos.grad.LG-BP.block0.fc.w"), Some("cos.grad.LG-BP"));
        assert_eq!(algorithm_of("LG-FG-A.block0.dloss"), None);
        assert_eq!(algorithm_of("gx"), None);
    }

    #[test]
    fn the_worst_element_is_found_and_nothing_is_hidden_by_nan() {
        let found = worst(&[1.0, 2.5, 3.0], &[1.0, 2.0, 3.25]).unwrap();
        assert_eq!((found.at, found.error, found.got, found.expected), (1, 0.5, 2.5, 2.0));
        let found = worst(&[1.0, f64::NAN, 30.0], &[1.0, 2.0, 3.0]).unwrap();
        assert_eq!((found.at, found.error), (1, f64::INFINITY));
        assert_eq!(worst(&[], &[]), None);
    }
}
