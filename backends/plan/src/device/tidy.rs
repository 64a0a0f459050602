//! Leaves out numbers that nobody reads: those who write threads' programs name some in case they are needed. Read [`tidy`].

use std::collections::BTreeSet;

use super::kernel::{Expr, Normal, Stmt, Var};

/// A thread's program without the numbers that nothing in it reads.
pub fn tidy(body: Vec<Stmt>) -> Vec<Stmt> {
    kept(body, &mut BTreeSet::new())
}

/// From the end: whatever reads a number stands behind it.
fn kept(body: Vec<Stmt>, read: &mut BTreeSet<Var>) -> Vec<Stmt> {
    let mut kept: Vec<Stmt> = body.into_iter().rev().filter_map(|s| statement(s, read)).collect();
    kept.reverse();
    kept
}

fn statement(stmt: Stmt, read: &mut BTreeSet<Var>) -> Option<Stmt> {
    match &stmt {
        Stmt::Let(v, _, value) => {
            if !read.contains(v) {
                return None;
            }
            reads(value, read);
        }
        Stmt::Var(_, _, value) | Stmt::Set(_, value) => reads(value, read),
        Stmt::SetElement(_, at, value) | Stmt::SetShared(_, at, value) | Stmt::Store(_, at, value) => {
            reads(at, read);
            reads(value, read);
        }
        Stmt::For { .. } => {
            let Stmt::For { var, count, unroll, body } = stmt else { unreachable!("it was matched") };
            return Some(Stmt::For { var, count, unroll, body: kept(body, read) });
        }
        Stmt::If(..) => {
            let Stmt::If(condition, body) = stmt else { unreachable!("it was matched") };
            let body = kept(body, read);
            reads(&condition, read);
            return Some(Stmt::If(condition, body));
        }
        Stmt::Array(..) | Stmt::Barrier | Stmt::Combine { .. } | Stmt::Mma { .. } => {}
    }
    Some(stmt)
}

fn reads(expr: &Expr, read: &mut BTreeSet<Var>) {
    match expr {
        Expr::Var(v) => {
            read.insert(*v);
        }
        Expr::Int(_) | Expr::Number(..) | Expr::Scalar(_) | Expr::Thread | Expr::Block => {}
        Expr::Element(_, x) | Expr::Shared(_, x) | Expr::Load(_, x) | Expr::Integer(x) | Expr::Position(x) | Expr::Tf32(x) => {
            reads(x, read)
        }
        Expr::Index(_, x, y) | Expr::Compare(_, x, y) | Expr::Both(x, y) | Expr::Max(_, x, y) => {
            [x, y].into_iter().for_each(|x| reads(x, read))
        }
        Expr::Fma(_, x, y, z) => [x, y, z].into_iter().for_each(|x| reads(x, read)),
        Expr::Prim(_, _, _, args) => args.iter().for_each(|x| reads(x, read)),
        Expr::Normal(normal) => {
            let Normal { dtype: _, domain: _, seed, step, stream: _, direction, element } = &**normal;
            [seed, step, direction, element].into_iter().for_each(|x| reads(x, read));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::VarType::Index;
    use super::*;

    #[test]
    fn what_nobody_reads_goes_and_what_only_that_reads() {
        let named = |v, value| Stmt::Let(v, Index, value);
        let var = Expr::Var;
        let inner = |extra: Vec<Stmt>| {
            let body = extra.into_iter().chain([Stmt::Store(0, var(3), var(0))]).collect();
            Stmt::For { var: 3, count: 2, unroll: false, body }
        };
        let body = vec![named(0, Expr::Thread), named(1, Expr::Block), named(2, var(1)), inner(vec![named(4, var(2))])];
        assert_eq!(tidy(body), vec![named(0, Expr::Thread), inner(vec![])]);
    }
}
