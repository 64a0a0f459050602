//! Long sums in two steps, where one would leave most of a device idle: a product or sum that gives few numbers from many is summed over some
//! of its axes first, side by side along the others, then over those. Axes are what a sum is made of, so nothing has to be cut. It changes
//! the order of a sum, and nothing else. Read [`split`].

use pushforward_ir::axis::AxisId;
use pushforward_ir::program::rebuild;
use pushforward_ir::{AxisSet, Op, Program, Value};

/// Blocks of threads that keep a device busy.
pub const ENOUGH_BLOCKS: usize = 128;
/// Rows or columns of a block's tile.
const TILE: usize = 64;
/// Threads of a block.
const THREADS: usize = 256;
/// Terms that are left to the first step, at least.
const LEAST_TERMS: usize = 32;
/// Of a sum, the second step reads no more than this share of what the first does: 1 / 16.
const SHARE: usize = 16;

/// The program with its long sums in two steps. Contractions have two factors.
pub fn split(program: &Program) -> Program {
    rebuild(program, |b, v, args| match program.op(v) {
        Op::Contract(over) if program.ty(v).dtype.is_float() => {
            let later = later(program, *over, &of_product(program, v, *over));
            let first = b.contract(args, *over - later);
            b.sum(first, later)
        }
        Op::Sum(over) if program.ty(v).dtype.is_float() => {
            let later = later(program, *over, &of_sum(program, v));
            let first = b.sum(args[0], *over - later);
            b.sum(first, later)
        }
        _ => b.copy(program, v, args),
    })
}

/// What decides about a sum.
struct Sum {
    /// Axes that may be left to the second step.
    axes: AxisSet,
    /// Blocks that one step has.
    blocks: usize,
    /// Numbers that it gives.
    gives: usize,
    /// The most numbers that the first step may give.
    most: usize,
}

fn of_product(program: &Program, v: Value, over: AxisSet) -> Sum {
    let [x, y] = program.args(v)[..] else { unreachable!("prepared: two factors") };
    let (x, y, count) = (program.axes_of(x), program.axes_of(y), |axes: AxisSet| program.axes.count(axes));
    let tiles = count(x - y - over).div_ceil(TILE) * count(y - x - over).div_ceil(TILE);
    let blocks = tiles.saturating_mul(count((x & y) - over));
    // Written once and read once more; operands are read once for each tile.
    let most = (count(x) + count(y)) / 2;
    Sum { axes: over & x & y, blocks, gives: count(program.axes_of(v)), most }
}

fn of_sum(program: &Program, v: Value) -> Sum {
    let x = program.axes_of(program.args(v)[0]);
    let gives = program.axes.count(program.axes_of(v));
    let terms = program.axes.count(x).checked_div(gives).unwrap_or(0);
    let threads = gives.saturating_mul((terms / 4).clamp(1, THREADS));
    Sum { axes: x - program.axes_of(v), blocks: threads.div_ceil(THREADS), gives, most: program.axes.count(x) / SHARE }
}

/// The axes to sum over later: as few numbers between the steps as keep a device busy; else those that come nearest to it, if that is far
/// better than one step. None where one step does.
fn later(program: &Program, over: AxisSet, sum: &Sum) -> AxisSet {
    if sum.blocks >= ENOUGH_BLOCKS || sum.gives == 0 {
        return AxisSet::EMPTY;
    }
    let axes: Vec<AxisId> = program.axes.in_order(sum.axes);
    let subsets = (1usize..1 << axes.len().min(8)).map(|bits| {
        let chosen = axes.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, &a)| a);
        chosen.collect::<AxisSet>()
    });
    let fits = |s: &AxisSet| {
        let between = program.axes.count(*s).saturating_mul(sum.gives);
        between <= sum.most && program.axes.count(over - *s) >= LEAST_TERMS
    };
    let blocks = |s: &AxisSet| program.axes.count(*s).saturating_mul(sum.blocks);
    let best = subsets.filter(fits).min_by_key(|s| match blocks(s) {
        enough @ ENOUGH_BLOCKS.. => (0, enough),
        few => (1, usize::MAX - few),
    });
    best.filter(|s| blocks(s) >= ENOUGH_BLOCKS || blocks(s) >= 8 * sum.blocks).unwrap_or(AxisSet::EMPTY)
}
