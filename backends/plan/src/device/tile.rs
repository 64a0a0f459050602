//! A matrix product shared out among blocks of threads: each block has a tile of the result, walks along the sum in steps, and for each step
//! brings a strip of either factor into shared memory, computing it on the way. A thread then multiplies out of there, by itself or with its
//! warp on a tensor core, and finishes its elements. Sums run in order; nothing is split. Read [`tile`], then [`Shape::of`].

use super::kernel::{Expr, SharedId, Stmt, Var, VarType, Work};
use super::limits::Precision;
use super::nest::{Threads, add_work};
use super::write::{Registers, Writer, add, below, both, div, guarded, least, mul, rem};
use crate::kernel::{ElementType, InstKind, Loop};
use crate::lower::product::{Operand, Product};
use crate::lower::split::ENOUGH_BLOCKS;

/// What a block has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shape {
    /// Rows and columns of a tile, and terms of a step.
    m: u64,
    n: u64,
    k: u64,
    cores: Cores,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cores {
    /// So many threads squared, each with every so-manieth column of consecutive rows.
    Simt(u64),
    /// 2 x 2 warps with a quarter of the tile each, in steps of 16 x 8 x 8.
    Tensor,
}

/// Threads of a side, where a block may have so many.
const SIDE: u64 = 16;
/// Rows and columns of a thread, at most, but in large tiles.
const EACH: u64 = 4;
const WARP: u64 = 32;

impl Shape {
    fn of(p: &Product, precision: Precision, most_threads: u64) -> Shape {
        let (m, n) = (Product::size(&p.m) as u64, Product::size(&p.n) as u64);
        let side = |size: u64, least: u64| size.next_power_of_two().clamp(least, 64);
        match (precision, p.dtype) {
            // Small products, too: who asks for TF32 gets it everywhere.
            (Precision::Tf32, ElementType::F32) => return Shape { m: side(m, 32), n: side(n, 16), k: 16, cores: Cores::Tensor },
            (Precision::Tf32 | Precision::Fp32, _) => {}
        }
        let blocks = |side: u64| m.div_ceil(side) * n.div_ceil(side) * Product::size(&p.batch) as u64;
        let threads = (0..=SIDE.ilog2()).rev().map(|bits| 1 << bits).find(|t| t * t <= most_threads).unwrap_or(1);
        // A block should not be alone on a device.
        let large = m >= 128 && n >= 128 && blocks(128) >= ENOUGH_BLOCKS as u64 && p.dtype == ElementType::F32 && threads == SIDE;
        let side = |size: u64| size.next_power_of_two().clamp(threads, EACH * threads);
        match large {
            true => Shape { m: 128, n: 128, k: 8, cores: Cores::Simt(threads) },
            false => Shape { m: side(m), n: side(n), k: 16, cores: Cores::Simt(threads) },
        }
    }

    fn threads(&self) -> u64 {
        match self.cores {
            Cores::Simt(side) => side * side,
            Cores::Tensor => 4 * WARP,
        }
    }
}

/// `most_threads`, `line`: as for a nest.
pub fn tile(writer: &mut Writer, product: &Product, precision: Precision, most_threads: u64, line: u64) -> Threads {
    let shape = Shape::of(product, precision, most_threads);
    let (m, n, batch) = (size(&product.m), size(&product.n), size(&product.batch));
    let (m_tiles, n_tiles) = (m.div_ceil(shape.m), n.div_ceil(shape.n));
    let blocks = batch * m_tiles * n_tiles;
    let mut body = Vec::new();

    // Which tile: columns fastest, so that blocks side by side share rows.
    let here = (blocks > line).then(|| below(Expr::Block, blocks));
    let block = match here {
        Some(_) => writer.index(least(Expr::Block, blocks - 1), &mut body),
        None => Expr::Block,
    };
    let n_first = writer.index(mul(rem(block.clone(), n_tiles), shape.n), &mut body);
    let rest = writer.index(div(block, n_tiles), &mut body);
    let m_first = writer.index(mul(rem(rest.clone(), m_tiles), shape.m), &mut body);
    let batch_index = writer.index(div(rest, m_tiles), &mut body);
    let batch_index = writer.split(&batch_index, &product.batch, &mut body);

    let pad = match shape.cores {
        Cores::Simt(_) => 4,
        Cores::Tensor => 8,
    };
    let a_strip = Strip { operand: &product.a, side: &product.m, first: m_first.clone(), width: shape.m, padded: shape.m + pad };
    let b_strip = Strip { operand: &product.b, side: &product.n, first: n_first.clone(), width: shape.n, padded: shape.n + pad };
    let a_shared = writer.share_alone(product.dtype, (a_strip.padded * shape.k) as usize);
    let b_shared = writer.share_alone(product.dtype, (b_strip.padded * shape.k) as usize);
    let mut tile = Tile { writer, product, shape, batch_index, m_first, n_first, here };

    let sums = tile.writer.fresh();
    let per_thread = shape.m * shape.n / shape.threads();
    body.push(Stmt::Array(sums, product.dtype, per_thread as usize));
    let place = tile.place(&mut body);
    let step = tile.writer.fresh();
    let mut each = Vec::new();
    tile.load(&a_strip, a_shared, step, true, &mut each);
    tile.load(&b_strip, b_shared, step, false, &mut each);
    each.push(Stmt::Barrier);
    match shape.cores {
        Cores::Simt(_) => tile.multiply(&place, (a_shared, a_strip.padded), (b_shared, b_strip.padded), sums, &mut each),
        Cores::Tensor => tile.multiply_by_warps(&place, (a_shared, a_strip.padded), (b_shared, b_strip.padded), sums, &mut each),
    }
    each.push(Stmt::Barrier);
    body.push(Stmt::For { var: step, count: size(&product.k).div_ceil(shape.k), unroll: false, body: each });
    match shape.cores {
        Cores::Simt(_) => tile.finish(&place, sums, &mut body),
        Cores::Tensor => tile.finish_by_warps(&place, sums, &mut body),
    }
    let k = size(&product.k);
    let mut work = Work { contraction_flops: 2 * batch * m * n * k, ..Work::default() };
    add_work(&mut work, &product.a.insts, batch * m * k * n_tiles);
    add_work(&mut work, &product.b.insts, batch * n * k * m_tiles);
    add_work(&mut work, &product.finish, batch * m * n);
    Threads { body, blocks, block: shape.threads() as u32, work }
}

fn size(loops: &[Loop]) -> u64 {
    Product::size(loops) as u64
}

/// The part of a factor that a block brings in: `width` rows (columns), `k` terms of each, term by term in shared memory, `padded` apart.
struct Strip<'a> {
    operand: &'a Operand,
    side: &'a [Loop],
    first: Expr,
    width: u64,
    padded: u64,
}

/// Where a thread stands.
struct Place {
    /// Of its rows the first, and of its columns, inside the tile.
    row: Expr,
    column: Expr,
    /// On tensor cores: its fragment's group and its number there.
    group: Expr,
    lane: Expr,
}

struct Tile<'a> {
    writer: &'a mut Writer,
    product: &'a Product,
    shape: Shape,
    batch_index: Vec<Expr>,
    m_first: Expr,
    n_first: Expr,
    /// Whether the block has a tile of its own; nothing where it is known.
    here: Option<Expr>,
}

impl Tile<'_> {
    /// Threads of a side, or warps.
    fn side(&self) -> u64 {
        match self.shape.cores {
            Cores::Simt(side) => side,
            Cores::Tensor => 2,
        }
    }

    /// Rows of a thread, or of a warp.
    fn rows(&self) -> u64 {
        self.shape.m / self.side()
    }

    fn columns(&self) -> u64 {
        self.shape.n / self.side()
    }

    fn place(&mut self, body: &mut Vec<Stmt>) -> Place {
        match self.shape.cores {
            Cores::Simt(side) => {
                let row = self.writer.index(mul(div(Expr::Thread, side), self.rows()), body);
                let column = self.writer.index(rem(Expr::Thread, side), body);
                Place { row, column, group: Expr::Int(0), lane: Expr::Int(0) }
            }
            Cores::Tensor => {
                let warp = self.writer.index(div(Expr::Thread, WARP), body);
                let row = self.writer.index(mul(div(warp.clone(), 2), self.rows()), body);
                let column = self.writer.index(mul(rem(warp, 2), self.columns()), body);
                let group = self.writer.index(div(rem(Expr::Thread, WARP), 4), body);
                let lane = self.writer.index(rem(Expr::Thread, 4), body);
                Place { row, column, group, lane }
            }
        }
    }

    /// Each thread brings every so-manieth element; threads side by side read what lies side by side.
    fn load(&mut self, strip: &Strip, shared: SharedId, step: Var, is_a: bool, body: &mut Vec<Stmt>) {
        let Product { batch, m, n, k, dtype, .. } = self.product;
        let (threads, elements) = (self.shape.threads(), strip.width * self.shape.k);
        let before_side = batch.len() + if is_a { 0 } else { m.len() };
        let side_inner = before_side + strip.side.len().saturating_sub(1);
        let k_inner = batch.len() + m.len() + n.len() + k.len().saturating_sub(1);
        let along_k = strip.operand.is_contiguous_along(k_inner) && !strip.operand.is_contiguous_along(side_inner);

        let round = self.writer.fresh();
        let count = elements.div_ceil(threads);
        let mut each = Vec::new();
        let element = self.writer.index(add(mul(Expr::Var(round), threads), Expr::Thread), &mut each);
        let (in_side, in_k) = match along_k {
            true => (div(element.clone(), self.shape.k), rem(element.clone(), self.shape.k)),
            false => (rem(element.clone(), strip.width), div(element.clone(), strip.width)),
        };
        let in_side = self.writer.index(in_side, &mut each);
        let in_k = self.writer.index(in_k, &mut each);
        let side = self.writer.index(add(strip.first.clone(), in_side.clone()), &mut each);
        let term = self.writer.index(add(mul(Expr::Var(step), self.shape.k), in_k.clone()), &mut each);
        let value = self.writer.fresh();
        each.push(Stmt::Var(value, VarType::Element(*dtype), Expr::Number(0.0, *dtype)));

        let mut inner = Vec::new();
        let side_index = self.writer.split(&side, strip.side, &mut inner);
        let k_index = self.writer.split(&term, k, &mut inner);
        let zeros = |loops: &[Loop]| vec![Expr::Int(0); loops.len()];
        let (m_index, n_index) = if is_a { (side_index, zeros(n)) } else { (zeros(m), side_index) };
        let index: Vec<Expr> = [self.batch_index.clone(), m_index, n_index, k_index].concat();
        let mut regs = Registers::new();
        strip.operand.insts.iter().for_each(|i| self.writer.inst(i, &index, &mut regs, &mut inner));
        let number = regs[&strip.operand.reg].1.clone();
        let number = match self.shape.cores {
            Cores::Simt(_) => number,
            Cores::Tensor => Expr::Tf32(Box::new(number)),
        };
        inner.push(Stmt::Set(value, number));
        let whole_side = size(strip.side).is_multiple_of(strip.width);
        let whole_k = size(k).is_multiple_of(self.shape.k);
        let guard = both((!whole_side).then(|| below(side, size(strip.side))), (!whole_k).then(|| below(term, size(k))));
        guarded(guard, inner, &mut each);
        each.push(Stmt::SetShared(shared, add(mul(in_k, strip.padded), in_side), Expr::Var(value)));
        let whole = elements.is_multiple_of(threads);
        let mut rounds = Vec::new();
        match whole {
            true => rounds = each,
            false => {
                // The element's own name stands first.
                let rest = each.split_off(1);
                rounds.append(&mut each);
                guarded(Some(below(element, elements)), rest, &mut rounds);
            }
        }
        body.push(Stmt::For { var: round, count, unroll: true, body: rounds });
    }

    fn multiply(&mut self, place: &Place, a: (SharedId, u64), b: (SharedId, u64), sums: Var, body: &mut Vec<Stmt>) {
        let (rows, columns, dtype) = (self.rows(), self.columns(), self.product.dtype);
        let (x, y, term) = (self.writer.fresh(), self.writer.fresh(), self.writer.fresh());
        let mut each = vec![Stmt::Array(x, dtype, rows as usize), Stmt::Array(y, dtype, columns as usize)];
        let i = self.writer.fresh();
        let at = add(add(mul(Expr::Var(term), a.1), place.row.clone()), Expr::Var(i));
        let fetch = Stmt::SetElement(x, Expr::Var(i), Expr::Shared(a.0, Box::new(at)));
        each.push(Stmt::For { var: i, count: rows, unroll: true, body: vec![fetch] });
        let j = self.writer.fresh();
        let at = add(add(mul(Expr::Var(term), b.1), place.column.clone()), mul(Expr::Var(j), self.side()));
        let fetch = Stmt::SetElement(y, Expr::Var(j), Expr::Shared(b.0, Box::new(at)));
        each.push(Stmt::For { var: j, count: columns, unroll: true, body: vec![fetch] });
        let (i, j) = (self.writer.fresh(), self.writer.fresh());
        let at = add(mul(Expr::Var(i), columns), Expr::Var(j));
        let element = |array: Var, at: Expr| Box::new(Expr::Element(array, Box::new(at)));
        let sum = Expr::Fma(dtype, element(x, Expr::Var(i)), element(y, Expr::Var(j)), element(sums, at.clone()));
        let inner = Stmt::For { var: j, count: columns, unroll: true, body: vec![Stmt::SetElement(sums, at, sum)] };
        each.push(Stmt::For { var: i, count: rows, unroll: true, body: vec![inner] });
        body.push(Stmt::For { var: term, count: self.shape.k, unroll: true, body: each });
    }

    fn finish(&mut self, place: &Place, sums: Var, body: &mut Vec<Stmt>) {
        let (i, j) = (self.writer.fresh(), self.writer.fresh());
        let (rows, columns) = (self.rows(), self.columns());
        let at = add(mul(Expr::Var(i), columns), Expr::Var(j));
        let row = add(self.m_first.clone(), add(place.row.clone(), Expr::Var(i)));
        let column = add(self.n_first.clone(), add(place.column.clone(), mul(Expr::Var(j), self.side())));
        let mut inner = Vec::new();
        self.element(row, column, Expr::Element(sums, Box::new(at)), &mut inner);
        let inner = Stmt::For { var: j, count: columns, unroll: true, body: inner };
        body.push(Stmt::For { var: i, count: rows, unroll: true, body: vec![inner] });
    }

    /// What becomes of one element of the result.
    fn element(&mut self, row: Expr, column: Expr, sum: Expr, body: &mut Vec<Stmt>) {
        let Product { m, n, k, finish, .. } = self.product;
        let row = self.writer.index(row, body);
        let column = self.writer.index(column, body);
        let mut inner = Vec::new();
        let m_index = self.writer.split(&row, m, &mut inner);
        let n_index = self.writer.split(&column, n, &mut inner);
        let index: Vec<Expr> = [self.batch_index.clone(), m_index, n_index, vec![Expr::Int(0); k.len()]].concat();
        let mut regs = Registers::from([(self.product.sum, (self.product.dtype, sum))]);
        let mut stores = Vec::new();
        for inst in finish {
            match &inst.kind {
                InstKind::Store(place, reg) => stores.push(self.writer.store(place, regs[reg].1.clone(), &index)),
                InstKind::Const(_) | InstKind::Index(_) | InstKind::Load(_) | InstKind::Draw(_) | InstKind::Prim(..) => {
                    self.writer.inst(inst, &index, &mut regs, &mut inner)
                }
                InstKind::Reduce(..) | InstKind::Keep(..) | InstKind::Recall(_) => unreachable!("a product has no rows"),
            }
        }
        inner.extend(stores);
        let guard = |loops: &[Loop], tile: u64, at: Expr| (!size(loops).is_multiple_of(tile)).then(|| below(at, size(loops)));
        let inside = both(guard(m, self.shape.m, row), guard(n, self.shape.n, column));
        guarded(both(self.here.clone(), inside), inner, body);
    }

    // ---- tensor cores

    /// Steps of 16 rows, and of 8 columns, of a warp.
    fn fragments(&self) -> (u64, u64) {
        (self.rows() / 16, self.columns() / 8)
    }

    fn multiply_by_warps(&mut self, place: &Place, a: (SharedId, u64), b: (SharedId, u64), sums: Var, body: &mut Vec<Stmt>) {
        let (m_steps, n_steps) = self.fragments();
        let dtype = self.product.dtype;
        let Place { row, column, group, lane } = place;
        for k in (0..self.shape.k).step_by(8) {
            let (x, y) = (self.writer.fresh(), self.writer.fresh());
            body.push(Stmt::Array(x, dtype, 4 * m_steps as usize));
            body.push(Stmt::Array(y, dtype, 2 * n_steps as usize));
            // Fragments as PTX lays them out: a thread has rows `group` and `group + 8`, terms `lane` and `lane + 4`.
            for i in 0..m_steps {
                for part in 0..4 {
                    let term = add(lane.clone(), Expr::Int(k + 4 * (part / 2)));
                    let at = add(mul(term, a.1), add(add(row.clone(), group.clone()), Expr::Int(16 * i + 8 * (part % 2))));
                    body.push(Stmt::SetElement(x, Expr::Int(4 * i + part), Expr::Shared(a.0, Box::new(at))));
                }
            }
            for j in 0..n_steps {
                for part in 0..2 {
                    let term = add(lane.clone(), Expr::Int(k + 4 * part));
                    let at = add(mul(term, b.1), add(add(column.clone(), group.clone()), Expr::Int(8 * j)));
                    body.push(Stmt::SetElement(y, Expr::Int(2 * j + part), Expr::Shared(b.0, Box::new(at))));
                }
            }
            for i in 0..m_steps {
                for j in 0..n_steps {
                    body.push(Stmt::Mma { acc: (sums, 4 * (i * n_steps + j)), a: (x, 4 * i), b: (y, 2 * j) });
                }
            }
        }
    }

    fn finish_by_warps(&mut self, place: &Place, sums: Var, body: &mut Vec<Stmt>) {
        let (m_steps, n_steps) = self.fragments();
        let (i, j, part) = (self.writer.fresh(), self.writer.fresh(), self.writer.fresh());
        let [iv, jv, pv] = [i, j, part].map(Expr::Var);
        let row = add(
            add(self.m_first.clone(), place.row.clone()),
            add(place.group.clone(), add(mul(iv.clone(), 16), mul(div(pv.clone(), 2), 8))),
        );
        let column = add(
            add(self.n_first.clone(), place.column.clone()),
            add(mul(place.lane.clone(), 2), add(mul(jv.clone(), 8), rem(pv.clone(), 2))),
        );
        let at = add(mul(add(mul(iv, n_steps), jv), 4), pv);
        let mut inner = Vec::new();
        self.element(row, column, Expr::Element(sums, Box::new(at)), &mut inner);
        let inner = Stmt::For { var: part, count: 4, unroll: true, body: inner };
        let inner = Stmt::For { var: j, count: n_steps, unroll: true, body: vec![inner] };
        body.push(Stmt::For { var: i, count: m_steps, unroll: true, body: vec![inner] });
    }
}
