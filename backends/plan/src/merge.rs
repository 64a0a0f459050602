//! Neighbouring loops made one where no place tells them apart, so that threads and lanes run on across them and indices are not taken apart
//! needlessly. It never moves a loop. Read [`merge`].

use crate::kernel::{Inst, InstKind, Loop, Loops, Section};

/// The same nest with fewer loops, and how many steps of the new first loop make one of the old. An element's bits do not change for outer
/// loops; for loops of the row, the order of sums does.
pub fn merged(loops: &Loops) -> (Loops, usize) {
    let mut loops = loops.clone();
    let before = loops.outer.first().map_or(1, |l| l.size);
    let Loops { outer, row, sections, .. } = &mut loops;
    let mut insts: Vec<&mut Inst> = sections
        .iter_mut()
        .flat_map(|s| match s {
            Section::Once(insts) | Section::Row(insts) => insts,
        })
        .collect();
    merge(&mut [outer, row], &mut insts);
    let after = loops.outer.first().map_or(1, |l| l.size);
    (loops, after.checked_div(before).unwrap_or(1))
}

/// Merges neighbours within each of `groups`, whose loops are those of the instructions' places, one group after the other.
pub fn merge(groups: &mut [&mut Vec<Loop>], insts: &mut [&mut Inst]) {
    let mut first = 0;
    for group in groups {
        let mut at = 0;
        while at + 1 < group.len() {
            let (level, size) = (first + at, group[at + 1].size);
            if !insts.iter().all(|i| runs_on(i, level, size)) {
                at += 1;
                continue;
            }
            let inner = group.remove(at + 1);
            group[at] = Loop { axis: format!("{}*{}", group[at].axis, inner.axis), size: group[at].size * inner.size };
            insts.iter_mut().for_each(|i| drop_level(i, level));
        }
        first += group.len();
    }
}

/// Whether a step of loop `level` is `size` steps of the loop inside it.
fn runs_on(inst: &Inst, level: usize, size: usize) -> bool {
    let even = |strides: &[usize]| strides[level + 1].checked_mul(size) == Some(strides[level]);
    match &inst.kind {
        InstKind::Load(place) | InstKind::Store(place, _) => even(&place.strides),
        InstKind::Draw(draw) => even(&draw.element) && even(&draw.direction),
        InstKind::Index(l) => *l != level && *l != level + 1,
        InstKind::Const(_) | InstKind::Prim(..) | InstKind::Reduce(..) | InstKind::Keep(..) | InstKind::Recall(_) => true,
    }
}

fn drop_level(inst: &mut Inst, level: usize) {
    match &mut inst.kind {
        InstKind::Load(place) | InstKind::Store(place, _) => {
            place.strides.remove(level);
        }
        InstKind::Draw(draw) => {
            draw.element.remove(level);
            draw.direction.remove(level);
        }
        InstKind::Index(l) if *l > level => *l -= 1,
        InstKind::Index(_) | InstKind::Const(_) | InstKind::Prim(..) | InstKind::Reduce(..) | InstKind::Keep(..) | InstKind::Recall(_) => {}
    }
}
