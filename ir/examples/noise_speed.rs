//! Measures the CPU's noise: `cargo run --release -p pushforward-ir --example noise_speed`. It checks nothing.

use std::hint::black_box;
use std::time::Instant;

use pushforward_ir::philox::{Domain, fill_normals};

fn main() {
    let mut out = vec![0.0f32; 1 << 14];
    let mut best = f64::INFINITY;
    for trial in 0..40 {
        let start = Instant::now();
        for step in 0..100 {
            fill_normals(1, Domain::Noise, 0, trial, step, 0, black_box(&mut out));
        }
        best = best.min(start.elapsed().as_nanos() as f64 / (100.0 * out.len() as f64));
    }
    println!("{best:.3} ns per normal, {:.3} normals per ns", 1.0 / best);
}
