//! A contraction of two factors as a batched matrix product, found from the names: axes that both factors and the result have are the batch,
//! axes of one factor and the result its rows or columns, summed axes the inner dimension. Axes that run on in memory are one dimension.
//!
//! It chooses no layout and moves no data. Read [`gemm`] first.

use pushforward_ir::axis::AxisId;
use pushforward_ir::{Axes, AxisSet};

use super::place::Located;
use crate::kernel::{Cut, ElementType, Gemm, GemmDim, GemmLoop};

/// One operand of a matrix product.
#[derive(Clone, Debug)]
pub struct Operand {
    pub axes: AxisSet,
    pub at: Located,
}

/// The product, whose arguments are 0, 1, 2: the left factor (rows), the right factor (columns), the result. `swapped`: the left factor is the
/// second operand. `cut` is the axis along which the caller would like to cut it; otherwise it is cut where most is to be shared out.
pub fn gemm(
    axes: &Axes,
    dtype: ElementType,
    x: &Operand,
    y: &Operand,
    result: &Operand,
    over: AxisSet,
    batch: Option<AxisId>,
) -> (Gemm, bool) {
    // Columns are what the result has last: rows of it are then contiguous.
    let last = result.axes.iter().min_by_key(|&a| (result.at.stride(a), a)).expect("a product has result axes");
    let swapped = x.axes.contains(last) && !y.axes.contains(last);
    let (a, b) = if swapped { (y, x) } else { (x, y) };
    let c = result;

    let shared = a.axes & b.axes;
    let mut m = runs(axes, c.axes - b.axes, &[&c.at, &a.at]);
    let mut n = runs(axes, c.axes - a.axes, &[&c.at, &b.at]);
    let mut k = runs(axes, over, &[&a.at, &b.at]);
    let mut loops = runs(axes, shared - over, &[&c.at, &a.at, &b.at]);
    // Of several runs, the largest is the dimension; of equals the innermost. The others are loops.
    let (m, rest_m) = largest(&mut m);
    let (n, rest_n) = largest(&mut n);
    let (k, more_k) = largest(&mut k);
    loops.extend(rest_m);
    loops.extend(rest_n);
    // Examples outermost, then as the result lies.
    loops.sort_by_key(|run| (!batch.is_some_and(|n| run.axes.contains(&n)), std::cmp::Reverse(c.at.stride(run.inner()))));

    let dim = |run: &Run| GemmDim {
        axes: run.name(axes),
        size: run.size,
        a: a.at.stride(run.inner()),
        b: b.at.stride(run.inner()),
        c: c.at.stride(run.inner()),
    };
    let each = |run: &Run| GemmLoop {
        axis: run.name(axes),
        size: run.size,
        a: a.at.stride(run.inner()),
        b: b.at.stride(run.inner()),
        c: c.at.stride(run.inner()),
    };
    let cut = cut(axes, &m, &n, &loops, batch);
    let gemm = Gemm {
        dtype,
        a: 0,
        b: 1,
        c: 2,
        batch: loops.iter().map(each).collect(),
        m: dim(&m),
        n: dim(&n),
        k: dim(&k),
        more_k: more_k.iter().map(each).collect(),
        cut,
    };
    (gemm, swapped)
}

/// Axes that run on, one after the other, in all operands that have them: a dimension.
struct Run {
    /// Slowest first.
    axes: Vec<AxisId>,
    size: usize,
}

impl Run {
    fn inner(&self) -> AxisId {
        *self.axes.last().expect("a run has axes")
    }

    fn name(&self, axes: &Axes) -> String {
        self.axes.iter().map(|&a| axes[a].name.as_str()).collect::<Vec<_>>().join("*")
    }
}

/// `set` in as few runs as the strides of all of `at` allow, in the order of the first's memory.
fn runs(axes: &Axes, set: AxisSet, at: &[&Located]) -> Vec<Run> {
    let mut order: Vec<AxisId> = set.iter().collect();
    order.sort_by_key(|&a| (std::cmp::Reverse(at[0].stride(a)), a));
    let mut runs: Vec<Run> = Vec::new();
    for a in order {
        let size = axes.size(a);
        let runs_on = |outer: AxisId| at.iter().all(|l| l.stride(outer) == l.stride(a) * size && l.batch != Some(a));
        match runs.last_mut() {
            Some(run) if runs_on(run.inner()) => {
                run.axes.push(a);
                run.size *= size;
            }
            _ => runs.push(Run { axes: vec![a], size }),
        }
    }
    runs
}

/// Takes the largest run out; the innermost of equals.
fn largest(runs: &mut Vec<Run>) -> (Run, Vec<Run>) {
    let (at, _) = runs.iter().enumerate().max_by_key(|(i, r)| (r.size, *i)).expect("a product has rows, columns and a sum");
    let run = runs.remove(at);
    (run, std::mem::take(runs))
}

/// Along the examples if the result has them; else along the largest loop, or the longer side of the result in blocks.
fn cut(axes: &Axes, m: &Run, n: &Run, loops: &[Run], batch: Option<AxisId>) -> Cut {
    if let Some(batch) = batch {
        // Of no examples, each would be nothing.
        let each = |run: &Run| run.size.checked_div(axes.size(batch)).unwrap_or(1);
        // Examples that run on with others into one dimension are its slowest axis: `runs` starts a new one at each batch axis.
        if let Some(i) = loops.iter().position(|l| l.axes == [batch]) {
            return Cut::Batch(i);
        }
        if m.axes[0] == batch {
            return Cut::M { per: each(m) };
        }
        if n.axes[0] == batch {
            return Cut::N { per: each(n) };
        }
    }
    if let Some((i, l)) = loops.iter().enumerate().max_by_key(|(i, l)| (l.size, std::cmp::Reverse(*i)))
        && l.size >= 4
    {
        return Cut::Batch(i);
    }
    match m.size >= n.size {
        true => Cut::M { per: block(m.size) },
        false => Cut::N { per: block(n.size) },
    }
}

/// Rows of a block: an eighth of them if it divides, 16 to 128.
fn block(size: usize) -> usize {
    let most = (size / 8).clamp(16, 128).min(size);
    (1..=most).rev().find(|d| size.is_multiple_of(*d)).unwrap_or(1)
}
