//! What this machine can do at best, measured: the yardstick of `bench`. It knows no plan. Read [`gemm_gflops`] and [`memory_gbytes`].

use std::time::Instant;

use crate::call;
use crate::error::CpuError;
use crate::memory::Block;
use crate::pool::Pool;

/// Rows, columns and inner size of the product that is timed: all three matrices of a thread together fit its cache.
const SIZE: usize = 256;

/// The speed in GFLOP/s at which `pool`'s threads multiply f32 matrices that stay in their caches, each its own: the best of `trials`.
/// A trial takes a few milliseconds.
pub fn gemm_gflops(pool: &Pool, trials: usize) -> Result<f64, CpuError> {
    let bytes = SIZE * SIZE * 4;
    let mut blocks = (0..3 * pool.threads()).map(|_| Block::new("the measured product", bytes)).collect::<Result<Vec<_>, _>>()?;
    let starts = call::Starts(blocks.iter_mut().map(Block::start).collect());
    let (starts, products) = (&starts, 8);
    let mut best = 0.0f64;
    for _ in 0..trials.max(1) {
        let start = Instant::now();
        // One task a thread at a time: the task's number names the matrices.
        pool.run(1, |_| pool.threads(), |_, task, _| (0..products).for_each(|_| call::square_product(starts, 3 * task, SIZE)));
        let flop = 2.0 * (SIZE * SIZE * SIZE * products * pool.threads()) as f64;
        best = best.max(flop / start.elapsed().as_secs_f64() / 1e9);
    }
    Ok(best)
}

/// Numbers that each thread copies: far more than a cache holds.
const COPIED: usize = 16 << 20;

/// The speed in GB/s, read and written bytes together, at which as many threads as `pool` has copy f32 numbers through memory: the best of
/// `trials`, each some ten milliseconds long.
pub fn memory_gbytes(pool: &Pool, trials: usize) -> f64 {
    let mut pairs: Vec<(Vec<f32>, Vec<f32>)> = (0..pool.threads()).map(|_| (vec![1.0; COPIED], vec![0.0; COPIED])).collect();
    let mut best = 0.0f64;
    for _ in 0..trials.max(1) {
        let start = Instant::now();
        std::thread::scope(|threads| {
            for (from, to) in &mut pairs {
                threads.spawn(|| to.copy_from_slice(from));
            }
        });
        let bytes = 2 * COPIED * size_of::<f32>() * pairs.len();
        best = best.max(bytes as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}
