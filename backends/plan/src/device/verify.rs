//! The verifier of device plans. It collects every problem: of each kernel alone, then of launches, buffers and slots. Those who spell a plan
//! and those who run it trust what holds here. What a kernel computes, and races in it, are not seen from here: `run.rs` finds those.
//!
//! | what holds | where |
//! |---|---|
//! | numbers are named before they are used, once, and what changes was said to; arguments, scalars, shared memory and streams exist | `Kernel` |
//! | what is only read is not written, and what is only written is not read | `Kernel` |
//! | all threads of a block pass barriers: they stand under no condition | `Kernel::body` |
//! | a launch has a buffer and a stream for all that its kernel asks for, of the argument's dtype, and no buffer twice | `launch` |
//! | inputs are not written; temporaries fit their slots, and two of one slot do not live at the same time | `launch`, `slots` |
//!
//! Read [`verify`] first.

use std::collections::{BTreeMap, BTreeSet};

use super::kernel::*;
use crate::kernel::Access;

/// Everything that is wrong with `plan`; empty if it is sound.
pub fn verify(plan: &DevicePlan) -> Vec<String> {
    let mut problems = Vec::new();
    for kernel in &plan.kernels {
        let mut check = Kernel { plan, kernel, vars: BTreeMap::new(), problems: Vec::new() };
        check.body(&kernel.body, true);
        problems.extend(check.problems.into_iter().map(|p| format!("kernel `{}`: {p}", kernel.name)));
        let threads = kernel.block as u64 * kernel.grid.0 as u64 * kernel.grid.1 as u64;
        if threads == 0 {
            problems.push(format!("kernel `{}` has no threads", kernel.name));
        }
    }
    for (number, l) in plan.launches.iter().enumerate() {
        problems.extend(launch(plan, number, l).into_iter().map(|p| format!("launch {number}: {p}")));
    }
    slots(plan, &mut problems);
    problems
}

/// How a name may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Fixed,
    Changing,
    Array(usize),
}

struct Kernel<'a> {
    plan: &'a DevicePlan,
    kernel: &'a DeviceKernel,
    vars: BTreeMap<Var, Named>,
    problems: Vec<String>,
}

impl Kernel<'_> {
    fn ensure(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    fn name(&mut self, var: Var, named: Named) {
        let again = self.vars.insert(var, named).is_some();
        self.ensure(!again, || format!("v{var} is named twice"));
    }

    /// `together`: whether all threads of the block pass here.
    fn body(&mut self, body: &[Stmt], together: bool) {
        body.iter().for_each(|s| self.stmt(s, together));
    }

    fn stmt(&mut self, stmt: &Stmt, together: bool) {
        match stmt {
            Stmt::Let(var, _, value) => {
                self.expr(value);
                self.name(*var, Named::Fixed);
            }
            Stmt::Var(var, _, value) => {
                self.expr(value);
                self.name(*var, Named::Changing);
            }
            Stmt::Array(var, _, len) => {
                self.ensure(*len > 0, || format!("array v{var} has no elements"));
                self.name(*var, Named::Array(*len));
            }
            Stmt::Set(var, value) => {
                self.expr(value);
                let changes = self.vars.get(var) == Some(&Named::Changing);
                self.ensure(changes, || format!("v{var} is set, which nothing said may change"));
            }
            Stmt::SetElement(var, at, value) => {
                self.array(*var, at);
                self.expr(value);
            }
            Stmt::SetShared(id, at, value) => {
                self.shared(*id, at);
                self.expr(value);
            }
            Stmt::Store(arg, at, value) => {
                self.argument(*arg, Access::Read, "only read, and stored");
                self.expr(at);
                self.expr(value);
            }
            Stmt::For { var, count: _, unroll: _, body } => {
                // What a step names ends with it.
                let before = self.vars.clone();
                self.name(*var, Named::Fixed);
                self.body(body, together);
                self.vars = before;
            }
            Stmt::If(condition, body) => {
                self.expr(condition);
                let before = self.vars.clone();
                self.body(body, false);
                self.vars = before;
            }
            Stmt::Barrier => self.ensure(together, || "a barrier that some threads may not reach".into()),
            Stmt::Combine { var, width, shared, .. } => {
                self.ensure(together, || "a combination that some threads may not reach".into());
                self.ensure(width.is_power_of_two() && *width <= 32, || format!("a combination of {width} threads"));
                let enough = self.kernel.shared.get(*shared).is_some_and(|s| s.len >= self.kernel.block as usize);
                self.ensure(enough, || format!("shared memory {shared} has no element for each thread"));
                let changes = self.vars.get(var) == Some(&Named::Changing);
                self.ensure(changes, || format!("v{var} is combined, which nothing said may change"));
            }
            Stmt::Mma { acc, a, b } => {
                self.ensure(together && self.kernel.block.is_multiple_of(32), || "a tensor core that not all of a warp reach".into());
                for ((var, at), wants) in [(acc, 4), (a, 4), (b, 2)].map(|(x, wants)| (*x, wants)) {
                    let fits = matches!(self.vars.get(&var), Some(Named::Array(len)) if at as usize + wants <= *len);
                    self.ensure(fits, || format!("a fragment at {at} of v{var}"));
                }
            }
        }
    }

    fn array(&mut self, var: Var, at: &Expr) {
        let declared = matches!(self.vars.get(&var), Some(Named::Array(_)));
        self.ensure(declared, || format!("v{var} is no array"));
        self.expr(at);
    }

    fn shared(&mut self, id: SharedId, at: &Expr) {
        let there = id < self.kernel.shared.len();
        self.ensure(there, || format!("there is no shared memory {id}"));
        self.expr(at);
    }

    fn argument(&mut self, arg: ArgId, not: Access, problem: &str) {
        let access = self.kernel.args.get(arg).map(|a| a.access);
        self.ensure(access.is_some(), || format!("there is no argument {arg}"));
        self.ensure(access != Some(not), || format!("argument {arg} is {problem}"));
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Int(_) | Expr::Number(..) | Expr::Thread | Expr::Block => {}
            Expr::Var(var) => {
                let number = matches!(self.vars.get(var), Some(Named::Fixed | Named::Changing));
                self.ensure(number, || format!("v{var} is used before it is named"));
            }
            Expr::Element(var, at) => self.array(*var, at),
            Expr::Shared(id, at) => self.shared(*id, at),
            Expr::Load(arg, at) => {
                self.argument(*arg, Access::Write, "only written, and loaded");
                self.expr(at);
            }
            Expr::Scalar(scalar) => {
                let said = self.kernel.scalars.contains(scalar) && *scalar < self.plan.scalars.len();
                self.ensure(said, || format!("scalar {scalar} is read, and the kernel does not say so"));
            }
            Expr::Index(_, x, y) | Expr::Compare(_, x, y) | Expr::Both(x, y) | Expr::Max(_, x, y) => {
                self.expr(x);
                self.expr(y);
            }
            Expr::Fma(_, x, y, z) => [x, y, z].into_iter().for_each(|e| self.expr(e)),
            Expr::Integer(x) | Expr::Position(x) | Expr::Tf32(x) => self.expr(x),
            Expr::Prim(_, _, _, args) => args.iter().for_each(|e| self.expr(e)),
            Expr::Normal(normal) => {
                let Normal { seed, step, stream, direction, element, .. } = &**normal;
                [seed, step, direction, element].into_iter().for_each(|e| self.expr(e));
                let there = *stream < self.kernel.streams;
                self.ensure(there, || format!("there is no stream {stream}"));
            }
        }
    }
}

fn launch(plan: &DevicePlan, number: usize, launch: &DeviceLaunch) -> Vec<String> {
    let Some(kernel) = plan.kernels.get(launch.kernel) else { return vec![format!("kernel {}, which is none", launch.kernel)] };
    let mut problems = Vec::new();
    let mut ensure = |holds: bool, problem: String| problems.extend((!holds).then_some(problem));
    let (args, wants) = (launch.args.len(), kernel.args.len());
    ensure(args == wants, format!("{args} buffers for {wants} arguments"));
    ensure(launch.streams.len() == kernel.streams, format!("{} streams for {}", launch.streams.len(), kernel.streams));
    let distinct: BTreeSet<_> = launch.args.iter().collect();
    ensure(distinct.len() == args, "a buffer is bound twice, and arguments are said to lie apart".into());
    for (&b, arg) in launch.args.iter().zip(&kernel.args) {
        let Some(buffer) = plan.buffers.get(b) else {
            ensure(false, format!("buffer {b}, which is none"));
            continue;
        };
        let name = &buffer.name;
        ensure(buffer.dtype == arg.dtype, format!("`{name}` has another dtype than its argument"));
        ensure(buffer.live.0 <= number && number <= buffer.live.1, format!("`{name}` does not live here"));
        match (buffer.role, arg.access) {
            (DeviceRole::Input(_), Access::Write | Access::ReadWrite) => ensure(false, format!("the input `{name}` is written")),
            (DeviceRole::Input(_), Access::Read) => {}
            (DeviceRole::State(_) | DeviceRole::Output(_) | DeviceRole::Slot(_), _) => {}
        }
    }
    problems
}

fn slots(plan: &DevicePlan, problems: &mut Vec<String>) {
    let mut tenants: BTreeMap<usize, Vec<&DeviceBuffer>> = BTreeMap::new();
    for buffer in &plan.buffers {
        let DeviceRole::Slot(slot) = buffer.role else { continue };
        if plan.slots.get(slot).is_none_or(|&bytes| bytes < buffer.bytes()) {
            problems.push(format!("`{}` does not fit slot {slot}", buffer.name));
        }
        let others = tenants.entry(slot).or_default();
        for other in others.iter().filter(|o| o.live.0 <= buffer.live.1 && buffer.live.0 <= o.live.1) {
            problems.push(format!("`{}` and `{}` live in slot {slot} at the same time", buffer.name, other.name));
        }
        others.push(buffer);
    }
}
