//! The arena: which temporary lies where, and from when to when. Those that live at the same time lie apart. Within a stage that runs
//! example by example, a temporary of that stage may take the place of another that its slices no longer need, if their examples lie alike.
//! Read [`allocate`] first.

use crate::kernel::{BufferId, Plan, Role};

/// When a buffer lives: the first and last launch that touch it, and their stages.
#[derive(Clone, Copy)]
struct Life {
    launches: (usize, usize),
    stages: (usize, usize),
}

/// Sets every buffer's life and every temporary's offset, and the size of the arena.
pub fn allocate(plan: &mut Plan) {
    let lives = lives(plan);
    let last = plan.stages.len().saturating_sub(1);
    let mut order: Vec<BufferId> = Vec::new();
    for (b, life) in lives.iter().enumerate() {
        plan.buffers[b].live = match plan.buffers[b].role {
            Role::Temp(_) => {
                order.push(b);
                life.map_or((0, 0), |l| l.stages)
            }
            Role::Input(_) | Role::State(_) | Role::Output(_) => (0, last),
        };
    }
    // Large ones first; each at the lowest offset where it meets nothing that lives with it.
    order.sort_by_key(|&b| (std::cmp::Reverse(plan.buffers[b].bytes()), b));
    let mut placed: Vec<(usize, usize, BufferId)> = Vec::new();
    for &b in &order {
        let bytes = plan.buffers[b].bytes().next_multiple_of(ALIGN).max(ALIGN);
        let mut candidates: Vec<usize> = std::iter::once(0).chain(placed.iter().flat_map(|p| [p.0, p.0 + p.1])).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let free = |&at: &usize| {
            let mut met = placed.iter().filter(|&&(start, size, _)| start < at + bytes && at < start + size);
            met.all(|&(start, _, other)| may_share(plan, (b, at, lives[b]), (other, start, lives[other])))
        };
        let at = candidates.into_iter().find(free).expect("beyond the last one everything is free");
        plan.buffers[b].role = Role::Temp(at);
        placed.push((at, bytes, b));
    }
    plan.arena_bytes = placed.iter().map(|p| p.0 + p.1).max().unwrap_or(0);
}

/// A cache line, and the widest vector.
const ALIGN: usize = 64;

fn lives(plan: &Plan) -> Vec<Option<Life>> {
    let mut lives: Vec<Option<Life>> = vec![None; plan.buffers.len()];
    let mut number = 0;
    for (s, stage) in plan.stages.iter().enumerate() {
        for launch in &stage.launches {
            for &b in &launch.args {
                let life = lives[b].get_or_insert(Life { launches: (number, number), stages: (s, s) });
                life.launches.1 = number;
                life.stages.1 = s;
            }
            number += 1;
        }
    }
    lives
}

/// Whether two temporaries may overlap where they are.
fn may_share(plan: &Plan, a: (BufferId, usize, Option<Life>), b: (BufferId, usize, Option<Life>)) -> bool {
    let (Some(x), Some(y)) = (a.2, b.2) else { return true };
    if x.stages.1 < y.stages.0 || y.stages.1 < x.stages.0 {
        return true;
    }
    let apart = x.launches.1 < y.launches.0 || y.launches.1 < x.launches.0;
    let one_stage = x.stages.0 == x.stages.1 && x.stages == y.stages;
    apart && one_stage && by_slices(plan, a.0, b.0, x.stages.0) && a.1 == b.1
}

/// Whether a slice of the stage touches the same bytes in both buffers: both hold the examples one after the other, each as many bytes.
fn by_slices(plan: &Plan, a: BufferId, b: BufferId, stage: usize) -> bool {
    let stage = &plan.stages[stage];
    let Some(slice) = &stage.slice else { return false };
    let (x, y) = (&plan.buffers[a], &plan.buffers[b]);
    let first = |dims: &[(String, usize)]| dims.first().is_some_and(|d| d.0 == slice.axis && d.1 == slice.size);
    first(&x.dims) && first(&y.dims) && x.bytes() == y.bytes()
}
