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
    let mut placed: Vec<Place> = Vec::new();
    for &b in &order {
        let bytes = plan.buffers[b].bytes().next_multiple_of(ALIGN).max(ALIGN);
        let shares = |other: &Place| shares(plan, (b, lives[b]), (other.buffer, lives[other.buffer]));
        let at = lowest(bytes, &placed, &shares);
        plan.buffers[b].role = Role::Temp(at);
        let behind = placed.partition_point(|p| p.start <= at);
        placed.insert(behind, Place { start: at, bytes, buffer: b });
    }
    plan.arena_bytes = placed.iter().map(Place::end).max().unwrap_or(0);
}

/// Where a temporary lies.
struct Place {
    start: usize,
    bytes: usize,
    buffer: BufferId,
}

impl Place {
    fn end(&self) -> usize {
        self.start + self.bytes
    }
}

/// The lowest offset for so many bytes among those that are placed, in the order of their starts.
fn lowest(bytes: usize, placed: &[Place], shares: &dyn Fn(&Place) -> Sharing) -> usize {
    let met: Vec<(&Place, Sharing)> = placed.iter().map(|p| (p, shares(p))).filter(|(_, sharing)| *sharing != Sharing::Free).collect();
    // Behind all those that are in the way, up to the first gap that is wide enough.
    let mut apart = 0;
    for (place, _) in &met {
        if apart + bytes <= place.start {
            break;
        }
        apart = apart.max(place.end());
    }
    // In the place of another, before that.
    let in_place = |&at: &usize| {
        met.iter().all(|(p, sharing)| at + bytes <= p.start || p.end() <= at || (*sharing == Sharing::InPlace && p.start == at))
    };
    let starts = met.iter().filter(|(p, sharing)| *sharing == Sharing::InPlace && p.start < apart).map(|(p, _)| p.start);
    starts.into_iter().find(in_place).unwrap_or(apart)
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

/// Whether two temporaries may overlap.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Anyhow: they never live at the same time.
    Free,
    /// If they begin at the same byte.
    InPlace,
    Never,
}

fn shares(plan: &Plan, a: (BufferId, Option<Life>), b: (BufferId, Option<Life>)) -> Sharing {
    let (Some(x), Some(y)) = (a.1, b.1) else { return Sharing::Free };
    if x.stages.1 < y.stages.0 || y.stages.1 < x.stages.0 {
        return Sharing::Free;
    }
    let apart = x.launches.1 < y.launches.0 || y.launches.1 < x.launches.0;
    let one_stage = x.stages.0 == x.stages.1 && x.stages == y.stages;
    match apart && one_stage && by_slices(plan, a.0, b.0, x.stages.0) {
        true => Sharing::InPlace,
        false => Sharing::Never,
    }
}

/// Whether a slice of the stage touches the same bytes in both buffers: both hold the examples one after the other, each as many bytes.
fn by_slices(plan: &Plan, a: BufferId, b: BufferId, stage: usize) -> bool {
    let stage = &plan.stages[stage];
    let Some(slice) = &stage.slice else { return false };
    let (x, y) = (&plan.buffers[a], &plan.buffers[b]);
    let first = |dims: &[(String, usize)]| dims.first().is_some_and(|d| d.0 == slice.axis && d.1 == slice.size);
    first(&x.dims) && first(&y.dims) && x.bytes() == y.bytes()
}
