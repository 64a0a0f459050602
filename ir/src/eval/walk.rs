//! The odometer: visits an index space row by row with the positions of several operands at once. It never looks at elements.

/// Walks all indices below `sizes` in row-major order. `strides[t][d]` is operand t's stride along dimension d. `row(at, step, count)` is called
/// for `count` consecutive indices: operand t's elements stand at `at[t]`, `at[t] + step[t]`, ... Dimensions that every operand lays out
/// as one are merged, so rows are as long as they can be.
pub fn walk(sizes: &[usize], strides: &[Vec<usize>], mut row: impl FnMut(&[usize], &[usize], usize)) {
    if sizes.contains(&0) {
        return;
    }
    let (sizes, strides) = merge(sizes, strides);
    let (&count, outer) = sizes.split_last().expect("merge leaves a dimension");
    let (step, strides) = strides.split_last().expect("merge leaves a dimension");
    let mut at = vec![0; step.len()];
    let mut index = vec![0; outer.len()];
    loop {
        row(&at, step, count);
        let mut d = outer.len();
        loop {
            if d == 0 {
                return;
            }
            d -= 1;
            index[d] += 1;
            let back = index[d] == outer[d];
            for (at, stride) in at.iter_mut().zip(&strides[d]) {
                *at = if back { *at - stride * (outer[d] - 1) } else { *at + stride };
            }
            if !back {
                break;
            }
            index[d] = 0;
        }
    }
}

/// Adds one to a mixed-radix number, last digit fastest; the largest is followed by zero.
pub fn advance(index: &mut [usize], sizes: &[usize]) {
    for (i, &size) in index.iter_mut().zip(sizes).rev() {
        *i += 1;
        if *i < size {
            return;
        }
        *i = 0;
    }
}

/// The same walk with as few dimensions as possible, at least one; strides by dimension, then operand.
fn merge(sizes: &[usize], strides: &[Vec<usize>]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut merged_sizes: Vec<usize> = Vec::new();
    let mut merged: Vec<Vec<usize>> = Vec::new();
    for (d, &size) in sizes.iter().enumerate().filter(|(_, size)| **size != 1) {
        let inner: Vec<usize> = strides.iter().map(|s| s[d]).collect();
        match (merged_sizes.last_mut(), merged.last_mut()) {
            (Some(outer_size), Some(outer)) if outer.iter().zip(&inner).all(|(o, i)| *o == i * size) => {
                *outer_size *= size;
                *outer = inner;
            }
            _ => {
                merged_sizes.push(size);
                merged.push(inner);
            }
        }
    }
    if merged.is_empty() {
        return (vec![1], vec![vec![0; strides.len()]]);
    }
    (merged_sizes, merged)
}
