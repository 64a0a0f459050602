//! cost: the arithmetic that a program asks for, whatever runs it: a figure to compare programs by. Nothing is measured, and memory is not
//! looked at: what reaches it is the plan's to decide.
//!
//! * A contraction is a sum of products of two or more factors that are no scalars: 2 for each point of all its axes, pair by pair, the
//!   cheapest pair first, as plans take them; what one factor alone has is summed before.
//! * A plain sum or maximum is 1 for each element that goes in, an elementwise op 1 for each that comes out, `exp` and `log` like any other.
//! * A sum under a delta reads one term of each: it, and the select, are 1 for each element of the sum's result.
//! * Leaves, renamings and marks are free, and so are values that no result needs.
//!
//! Counts saturate: a loss may be written out over more points than can be counted. Read [`flops`].

use pushforward_ir::{Axes, AxisSet, Op, Program, Value};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flops {
    pub contraction: u64,
    pub other: u64,
}

impl Flops {
    pub fn total(self) -> u64 {
        self.contraction.saturating_add(self.other)
    }

    pub fn plus(self, more: Flops) -> Flops {
        Flops { contraction: self.contraction.saturating_add(more.contraction), other: self.other.saturating_add(more.other) }
    }
}

/// Of all values that an output or a mark needs, each once.
pub fn flops(program: &Program) -> Flops {
    by_value(program).into_iter().fold(Flops::default(), Flops::plus)
}

/// Of each value; nothing where no output and no mark needs it.
pub fn by_value(program: &Program) -> Vec<Flops> {
    let live = program.live();
    let picked: Vec<Option<AxisSet>> = picked(program, program.values().filter(|v| live[v.0 as usize]));
    let cost = |v: Value| if live[v.0 as usize] { of(program, v, &picked) } else { Flops::default() };
    program.values().map(cost).collect()
}

fn of(program: &Program, v: Value, picked: &[Option<AxisSet>]) -> Flops {
    let count = |axes: AxisSet| program.axes.count(axes) as u64;
    let args = program.args(v);
    let elementwise = || Flops { contraction: 0, other: count(picked[v.0 as usize].unwrap_or(program.axes_of(v))) };
    match program.op(v) {
        Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Normal(_) | Op::Seed(_) => Flops::default(),
        Op::Rename(_) | Op::StopGradient | Op::Activity(_) => Flops::default(),
        Op::Sum(_) if picked[args[0].0 as usize].is_some() => elementwise(),
        Op::Sum(_) | Op::Max(_) => Flops { contraction: 0, other: count(program.axes_of(args[0])) },
        Op::Contract(over) => contraction(&program.axes, args.iter().map(|&a| program.axes_of(a)).collect(), *over),
        Op::Add | Op::Sub | Op::Mul | Op::Neg | Op::Div | Op::Sqrt | Op::Rsqrt | Op::Relu => elementwise(),
        Op::Exp | Op::Log | Op::Tanh | Op::Erf => elementwise(),
        Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::And | Op::Or | Op::Not => elementwise(),
        Op::Select | Op::Cast(_) | Op::Window(_) | Op::Gather(_) => elementwise(),
    }
}

/// Of selects that nothing but sums under their own delta use, the elements that are looked at: those of the sums' results.
fn picked(program: &Program, live: impl Iterator<Item = Value>) -> Vec<Option<AxisSet>> {
    let mut picked: Vec<Option<AxisSet>> = vec![None; program.nodes.len()];
    let mut otherwise = vec![false; program.nodes.len()];
    for v in live {
        for &a in program.args(v) {
            match program.op(v) {
                Op::Sum(over) if picks(program, a, *over) && picked[a.0 as usize].is_none_or(|axes| axes == program.axes_of(v)) => {
                    picked[a.0 as usize] = Some(program.axes_of(v));
                }
                _ => otherwise[a.0 as usize] = true,
            }
        }
    }
    program.outputs.iter().for_each(|o| otherwise[o.value.0 as usize] = true);
    picked.into_iter().zip(otherwise).map(|(axes, otherwise)| axes.filter(|_| !otherwise)).collect()
}

/// Whether `x` is a select under a delta of an axis of `over` and one that is not.
fn picks(program: &Program, x: Value, over: AxisSet) -> bool {
    let mut open = match program.op(x) {
        Op::Select => vec![program.args(x)[0]],
        _ => return false,
    };
    while let Some(mask) = open.pop() {
        match program.op(mask) {
            Op::And => open.extend(program.args(mask)),
            Op::Delta((l, r)) if over.contains(*l) != over.contains(*r) => return true,
            _ => {}
        }
    }
    false
}

fn contraction(axes: &Axes, factors: Vec<AxisSet>, over: AxisSet) -> Flops {
    let (mut factors, mut over, mut flops) = (factors, over, Flops::default());
    while factors.len() > 2 {
        let pairs = (1..factors.len()).flat_map(|j| (0..j).map(move |i| (i, j)));
        let cost = |&(i, j): &(usize, usize)| {
            let join = factors[i] | factors[j];
            (axes.count(join), axes.count(join - ended(&factors, over, i, j)), i, j)
        };
        let Some((i, j)) = pairs.min_by_key(cost) else { break };
        let inside = ended(&factors, over, i, j);
        let (y, x) = (factors.remove(j), factors.remove(i));
        flops = flops.plus(pair(axes, x, y, inside));
        factors.push((x | y) - inside);
        over = over - inside;
    }
    match factors[..] {
        [x, y] => flops.plus(pair(axes, x, y, over)),
        [x] => flops.plus(sum(axes, x, over)),
        _ => flops,
    }
}

/// The summed axes that no factor has but `i` and `j`.
fn ended(factors: &[AxisSet], over: AxisSet, i: usize, j: usize) -> AxisSet {
    let others = factors.iter().enumerate().filter(|(k, _)| *k != i && *k != j);
    (over & (factors[i] | factors[j])) - others.fold(AxisSet::EMPTY, |all, (_, &f)| all | f)
}

fn pair(axes: &Axes, x: AxisSet, y: AxisSet, over: AxisSet) -> Flops {
    let (alone_x, alone_y) = ((over & x) - y, (over & y) - x);
    let before = sum(axes, x, alone_x).plus(sum(axes, y, alone_y));
    let (x, y, over) = (x - alone_x, y - alone_y, over & x & y);
    let points = axes.count(x | y) as u64;
    before.plus(match over.is_empty() {
        true => Flops { contraction: 0, other: points },
        false => Flops { contraction: points.saturating_mul(2), other: 0 },
    })
}

fn sum(axes: &Axes, x: AxisSet, over: AxisSet) -> Flops {
    Flops { contraction: 0, other: if over.is_empty() { 0 } else { axes.count(x) as u64 } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pushforward_ir::program::{Output, Port};
    use pushforward_ir::{Builder, DType};

    /// Axes N = 2, P = 3, C = 5, K = 7, Q like P; inputs x[N, P, C], w[C, K], v[P].
    fn counted(value: impl Fn(&mut Builder, &[Value]) -> Value) -> (u64, u64) {
        let mut program = Program::default();
        let [n, p, c, k] = [("N", 2), ("P", 3), ("C", 5), ("K", 7)].map(|(name, size)| program.axes.add(name, size, None).expect("room"));
        program.axes.add("Q", 3, Some(p));
        for (name, order) in [("x", vec![n, p, c]), ("w", vec![c, k]), ("v", vec![p])] {
            program.inputs.push(Port { name: name.into(), dtype: DType::F32, order });
        }
        let mut b = Builder::new(program);
        let inputs: Vec<Value> = (0..3).map(|i| b.op(Op::Input(i), &[])).collect();
        let value = value(&mut b, &inputs);
        let order = b.program().axes.in_order(b.axes_of(value));
        b.program_mut().outputs.push(Output { port: Port { name: "y".into(), dtype: DType::F32, order }, value });
        let Flops { contraction, other } = flops(&b.finish());
        (contraction, other)
    }

    fn set(b: &Builder, names: &str) -> AxisSet {
        names.split(' ').map(|n| b.program().axes.find(n).expect("declared")).collect()
    }

    #[test]
    fn contractions_are_products_of_tensors() {
        let over = |names: &'static str, factors: &'static [usize]| {
            counted(move |b, x| {
                let (axes, factors) = (set(b, names), factors.iter().map(|&i| x[i]).collect::<Vec<_>>());
                b.op(Op::Contract(axes), &factors)
            })
        };
        assert_eq!(over("C", &[0, 1]), (2 * 2 * 3 * 5 * 7, 0));
        // P is summed before: x alone has it.
        assert_eq!(over("P C", &[0, 1]), (2 * 2 * 5 * 7, 2 * 3 * 5));
        // x and v first, over P; then w.
        assert_eq!(over("P C", &[0, 1, 2]), (2 * 2 * 3 * 5 + 2 * 2 * 5 * 7, 0));
        // A product of v into x, then nothing left to sum but with w.
        assert_eq!(over("C", &[2, 0, 1]), (2 * 2 * 3 * 5 * 7, 2 * 3 * 5));
        assert_eq!(over("N P C", &[0]), (0, 2 * 3 * 5));
    }

    #[test]
    fn a_scaled_sum_is_no_contraction() {
        let scaled = counted(|b, x| {
            let (half, axes) = (b.constant(0.5, DType::F32), set(b, "C"));
            b.op(Op::Contract(axes), &[x[0], half])
        });
        assert_eq!(scaled, (0, 2 * 3 * 5 + 2 * 3));
    }

    #[test]
    fn maps_sums_and_what_is_dead() {
        let dead = counted(|b, x| {
            b.op(Op::Exp, &[x[0]]);
            let s = b.op(Op::Tanh, &[x[2]]);
            b.op(Op::Add, &[s, x[0]])
        });
        assert_eq!(dead, (0, 3 + 2 * 3 * 5));
    }

    /// Of 2 * 3 * 3 * 5 elements under the delta, 2 * 3 * 5 are looked at; if another asks for them, all are.
    #[test]
    fn sums_under_a_delta_read_one_term() {
        let replicated = |kept: bool| {
            counted(move |b, x| {
                let (p, q) = (b.program().axes.find("P").expect("declared"), b.program().axes.find("Q").expect("declared"));
                let (moved, delta, zero) = (b.rename(x[0], &[(p, q)]), b.op(Op::Delta((p, q)), &[]), b.constant(0.0, DType::F32));
                let copies = b.op(Op::Select, &[delta, moved, zero]);
                let s = b.sum(copies, AxisSet::of([q]));
                if kept { b.op(Op::Add, &[s, copies]) } else { s }
            })
        };
        assert_eq!(replicated(false), (0, 2 * 3 * 5 + 2 * 3 * 5));
        assert_eq!(replicated(true), (0, 3 * (2 * 3 * 3 * 5)));
    }
}
