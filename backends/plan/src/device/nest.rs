//! A loop nest shared out among threads. Each point of its outer loops has a thread, or several workers that share its row and put their
//! reductions together in a fixed order. Which of both, and who stands beside whom, is decided here; what is computed is the nest's.
//! Read [`nest`], then [`Shape::of`].

use super::kernel::{Expr, IndexOp, Stmt, Var, VarType, Work};
use super::write::{Registers, Writer, add, below, both, combined, div, guarded, least, mul, neutral, rem};
use crate::kernel::{Access, Arg, ElementType, Inst, InstKind, Loop, Loops, Reduction, Section};
use crate::lower::split::ENOUGH_BLOCKS;
use crate::merge::merged;

/// How a block's threads are shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Points of a block.
    pub points: u64,
    /// Threads of a point; a power of two.
    pub workers: u64,
    /// Whether workers of a point stand side by side, or points do.
    pub workers_side_by_side: bool,
}

/// A thread's program, and how many blocks run it.
pub struct Threads {
    pub body: Vec<Stmt>,
    pub blocks: u64,
    pub block: u32,
    pub work: Work,
}

/// Threads that exchange numbers without a barrier.
const WARP: u64 = 32;
/// Steps of a loop that are written out.
const MOST_UNROLLED: u64 = 16;
/// Numbers side by side that memory brings at once.
const LEAST_ABREAST: u64 = 8;
/// Numbers of its rows that a thread may keep: more do not fit its registers, and thousands are more than WGSL lets it have.
pub const MOST_KEPT: u64 = 64;
/// Elements of a row for a thread, if there are enough.
const EACH: u64 = 4;

impl Shape {
    /// Threads side by side should read side by side.
    fn of(loops: &Loops, most_threads: u64) -> Shape {
        let row = count(&loops.row);
        let block = most_threads.clamp(1, 256);
        let block = 1 << block.ilog2();
        let points = count(&loops.outer);
        let side_by_side = !runs_along_outer(loops);
        if loops.row.is_empty() || row <= EACH {
            return Shape { points: block, workers: 1, workers_side_by_side: false };
        }
        if side_by_side {
            let workers = row.div_ceil(EACH).next_power_of_two().min(block);
            return Shape { points: block / workers, workers, workers_side_by_side: true };
        }
        // Enough points side by side for whole transactions, fewer where that leaves most of a device idle; workers for what is left of the
        // block, if rows are long.
        let mut abreast = points.next_power_of_two().min(WARP);
        while abreast > LEAST_ABREAST && points.div_ceil(abreast) < ENOUGH_BLOCKS as u64 && row > block {
            abreast /= 2;
        }
        let workers = (block / abreast).min((row / EACH).next_power_of_two()).max(1);
        Shape { points: block / workers, workers, workers_side_by_side: false }
    }
}

/// How many numbers of its rows a thread keeps.
pub fn kept(loops: &Loops, most_threads: u64) -> u64 {
    let (loops, _) = merged(loops);
    let steps = count(&loops.row).div_ceil(Shape::of(&loops, most_threads).workers);
    steps * loops.scratch.len() as u64
}

/// `line`: blocks of one line of a grid. Beyond, a grid has lines, and the last may be longer than it must.
pub fn nest(writer: &mut Writer, loops: &Loops, args: &[Arg], most_threads: u64, line: u64) -> Threads {
    let (loops, _) = merged(loops);
    let shape = Shape::of(&loops, most_threads);
    let points = count(&loops.outer);
    let mut nest =
        Nest { row: count(&loops.row), line, loops: &loops, args, shape, writer, worker: Expr::Int(0), inside: None, kept: Vec::new() };
    let mut body = Vec::new();
    nest.whole(points, &mut body);
    let mut work = Work::default();
    for section in &loops.sections {
        match section {
            Section::Once(insts) => add_work(&mut work, insts, points),
            Section::Row(insts) => add_work(&mut work, insts, points * count(&loops.row)),
        }
    }
    Threads { body, blocks: points.div_ceil(shape.points), block: (shape.points * shape.workers) as u32, work }
}

/// Adds that of instructions that run so many times.
pub fn add_work(work: &mut Work, insts: &[Inst], times: u64) {
    for inst in insts {
        match inst.kind {
            InstKind::Prim(..) | InstKind::Reduce(..) => work.other_flops += times,
            InstKind::Draw(_) => work.normals += times,
            InstKind::Const(_) | InstKind::Index(_) | InstKind::Load(_) | InstKind::Store(..) => {}
            InstKind::Keep(..) | InstKind::Recall(_) => {}
        }
    }
}

/// Whether more elements lie in memory that runs on along the last outer loop than in memory that runs on along the row.
fn runs_along_outer(loops: &Loops) -> bool {
    let all: Vec<&Loop> = loops.outer.iter().chain(&loops.row).collect();
    let (mut outer, mut row) = (0, 0);
    for section in &loops.sections {
        let (Section::Once(insts) | Section::Row(insts)) = section;
        for inst in insts {
            if let InstKind::Load(place) | InstKind::Store(place, _) = &inst.kind {
                let elements: u64 = all.iter().zip(&place.strides).filter(|(_, s)| **s != 0).map(|(l, _)| l.size as u64).product();
                let (o, r) = place.strides.split_at(loops.outer.len());
                outer += if o.last() == Some(&1) { elements } else { 0 };
                row += if r.last() == Some(&1) { elements } else { 0 };
            }
        }
    }
    outer > row
}

fn count(loops: &[Loop]) -> u64 {
    loops.iter().map(|l| l.size as u64).product()
}

struct Nest<'a> {
    loops: &'a Loops,
    args: &'a [Arg],
    row: u64,
    line: u64,
    shape: Shape,
    writer: &'a mut Writer,
    /// The thread's number among its point's.
    worker: Expr,
    /// Whether its point is one of the nest; nothing where it is known.
    inside: Option<Expr>,
    /// Of each scratch row, the array of the thread's elements.
    kept: Vec<Var>,
}

impl Nest<'_> {
    fn whole(&mut self, points: u64, body: &mut Vec<Stmt>) {
        let Shape { points: abreast, workers, workers_side_by_side } = self.shape;
        let (worker, place) = match (workers, workers_side_by_side) {
            (1, _) => (Expr::Int(0), Expr::Thread),
            (_, true) => (rem(Expr::Thread, workers), div(Expr::Thread, workers)),
            (_, false) => (div(Expr::Thread, abreast), rem(Expr::Thread, abreast)),
        };
        self.worker = self.writer.index(worker, body);
        let point = self.writer.index(add(mul(Expr::Block, abreast), place), body);
        let last_block_is_whole = points.is_multiple_of(abreast) && points.div_ceil(abreast) <= self.line;
        let inside = (!last_block_is_whole).then(|| below(point.clone(), points));
        if workers == 1 {
            let mut inner = Vec::new();
            self.point(&point, &mut inner);
            return guarded(inside, inner, body);
        }
        // Threads beside the nest go along, on its last point, up to every barrier: they store nothing.
        let point = match &inside {
            None => point,
            Some(_) => self.writer.index(least(point, points.saturating_sub(1)), body),
        };
        self.inside = inside;
        self.point(&point, body);
    }

    fn point(&mut self, point: &Expr, body: &mut Vec<Stmt>) {
        for scratch in &self.loops.scratch {
            let array = self.writer.fresh();
            self.kept.push(array);
            // Of a row without elements, an array that nobody touches: languages have none of no length.
            body.push(Stmt::Array(array, scratch.dtype, self.steps().max(1) as usize));
        }
        let mut index = self.writer.split(point, &self.loops.outer, body);
        index.extend(self.loops.row.iter().map(|_| Expr::Int(0)));
        let mut regs = Registers::new();
        let sections = &self.loops.sections;
        for (s, section) in sections.iter().enumerate() {
            match section {
                Section::Once(insts) => self.once(insts, &index, s + 1 == sections.len(), &mut regs, body),
                Section::Row(insts) => self.row(insts, &index, &mut regs, body),
            }
        }
    }

    /// Every worker computes what the row needs next; one stores. What comes last is the first worker's alone.
    fn once(&mut self, insts: &[Inst], index: &[Expr], last: bool, regs: &mut Registers, body: &mut Vec<Stmt>) {
        let first = (self.shape.workers > 1)
            .then(|| Expr::Compare(super::kernel::Comparison::Eq, Box::new(self.worker.clone()), Box::new(Expr::Int(0))));
        let guard = both(self.inside.clone(), first);
        let (mut all, mut stores) = (Vec::new(), Vec::new());
        for inst in insts {
            match &inst.kind {
                InstKind::Store(place, reg) => stores.push(self.writer.store(place, regs[reg].1.clone(), index)),
                InstKind::Const(_) | InstKind::Index(_) | InstKind::Load(_) | InstKind::Draw(_) | InstKind::Prim(..) => {
                    self.writer.inst(inst, index, regs, &mut all)
                }
                InstKind::Reduce(..) | InstKind::Keep(..) | InstKind::Recall(_) => unreachable!("they stand in rows"),
            }
        }
        if last {
            // The others may still read what is stored in place.
            let in_place =
                insts.iter().any(|i| matches!(&i.kind, InstKind::Store(place, _) if self.args[place.arg].access == Access::ReadWrite));
            if in_place && self.shape.workers > 1 {
                body.push(Stmt::Barrier);
            }
            all.extend(stores);
            return guarded(guard, all, body);
        }
        body.extend(all);
        guarded(guard, stores, body);
    }

    /// How many elements of a row a worker has at most.
    fn steps(&self) -> u64 {
        self.row.div_ceil(self.shape.workers)
    }

    fn row(&mut self, insts: &[Inst], index: &[Expr], regs: &mut Registers, body: &mut Vec<Stmt>) {
        let mut sums: Vec<(&Inst, Reduction, Var)> = Vec::new();
        for inst in insts {
            if let InstKind::Reduce(reduction, _) = inst.kind {
                let var = self.writer.fresh();
                body.push(Stmt::Var(var, VarType::Element(inst.dtype), neutral(reduction, inst.dtype)));
                sums.push((inst, reduction, var));
            }
        }
        let step = self.writer.fresh();
        let mut each = Vec::new();
        let at = self.writer.index(add(mul(Expr::Var(step), self.shape.workers), self.worker.clone()), &mut each);
        let outer = self.loops.outer.len();
        let mut inner = Vec::new();
        let mut index = index[..outer].to_vec();
        index.extend(self.writer.split(&at, &self.loops.row, &mut inner));
        let mut row = regs.clone();
        let mut stores = Vec::new();
        for inst in insts {
            match &inst.kind {
                InstKind::Reduce(reduction, reg) => {
                    let sum = sums.iter().find(|s| s.0.reg == inst.reg).expect("started above").2;
                    let next = combined(*reduction, inst.dtype, Expr::Var(sum), row[reg].1.clone());
                    inner.push(Stmt::Set(sum, next));
                }
                InstKind::Keep(slot, reg) => inner.push(Stmt::SetElement(self.kept[*slot], Expr::Var(step), row[reg].1.clone())),
                InstKind::Recall(slot) => {
                    let value = Expr::Element(self.kept[*slot], Box::new(Expr::Var(step)));
                    self.writer.define(inst.reg, inst.dtype, value, &mut row, &mut inner);
                }
                InstKind::Store(place, reg) => stores.push(self.writer.store(place, row[reg].1.clone(), &index)),
                InstKind::Const(_) | InstKind::Index(_) | InstKind::Load(_) | InstKind::Draw(_) | InstKind::Prim(..) => {
                    self.writer.inst(inst, &index, &mut row, &mut inner)
                }
            }
        }
        inner.extend(stores);
        let whole = self.row.is_multiple_of(self.shape.workers);
        guarded(both(self.inside.clone(), (!whole).then(|| below(at, self.row))), inner, &mut each);
        let count = self.steps();
        body.push(Stmt::For { var: step, count, unroll: count <= MOST_UNROLLED, body: each });
        for (inst, reduction, sum) in sums {
            self.combine(inst.dtype, reduction, sum, body);
            regs.insert(inst.reg, (inst.dtype, Expr::Var(sum)));
        }
    }

    /// What a point's workers have, put together: all of them get the same.
    fn combine(&mut self, dtype: ElementType, reduction: Reduction, sum: Var, body: &mut Vec<Stmt>) {
        let Shape { points, workers, workers_side_by_side } = self.shape;
        if workers == 1 {
            return;
        }
        let threads = (points * workers) as usize;
        if workers_side_by_side {
            let shared = self.writer.share(dtype, threads);
            let width = workers.min(WARP);
            body.push(Stmt::Combine { var: sum, dtype, reduction, width: width as u32, shared });
            if workers <= WARP {
                return;
            }
        }
        // One number of each warp, or of each worker where points stand side by side: then every thread adds them up in order.
        let (groups, group, lane) = match workers_side_by_side {
            true => (workers / WARP, WARP, Some(below(rem(Expr::Thread, WARP), 1))),
            false => (workers, 1, None),
        };
        let shared = self.writer.share(dtype, threads / group as usize);
        guarded(lane, vec![Stmt::SetShared(shared, div(Expr::Thread, group), Expr::Var(sum))], body);
        body.push(Stmt::Barrier);
        body.push(Stmt::Set(sum, neutral(reduction, dtype)));
        let g = self.writer.fresh();
        let at = match workers_side_by_side {
            true => add(mul(div(Expr::Thread, workers), groups), Expr::Var(g)),
            false => Expr::Index(IndexOp::Add, Box::new(mul(Expr::Var(g), points)), Box::new(rem(Expr::Thread, points))),
        };
        let next = combined(reduction, dtype, Expr::Var(sum), Expr::Shared(shared, Box::new(at)));
        body.push(Stmt::For { var: g, count: groups, unroll: groups <= MOST_UNROLLED, body: vec![Stmt::Set(sum, next)] });
        // The next reduction takes the same memory.
        body.push(Stmt::Barrier);
    }
}
