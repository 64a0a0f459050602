//! needless: what the ReLUs of a model make needless of a step that draws noise. Where a ReLU is shut, the noise before it influences nothing,
//! nor does what is computed of tangents on the way to it; behind it tangents are zero, and so is what is multiplied by them. Counted is the
//! work on all elements that stand behind a mask: the share of them that is shut, known only on data, is the share of that work that is
//! needless.
//!
//! It reads a finished program and changes none; it knows no layer and no algorithm. Read [`needless`] first, then [`behind`].

use pushforward_ir::axis::AxisId;
use pushforward_ir::op::Class;
use pushforward_ir::program::{Output, Port};
use pushforward_ir::{AxisSet, Builder, Diagnostic, Op, Program, Value};

use crate::algorithm::{self, Options};
use crate::cost::{self, Flops};
use crate::prune::{self, Ungated, gate};
use crate::util::activities;

/// A ReLU, the activity whose noise it stops, or both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layer {
    /// The scoped name of the layer.
    pub name: String,
    pub activity: Option<Value>,
    /// `None`: no ReLU stops all noise of the activity.
    pub relu: Option<Value>,
    /// Why there is none.
    pub ungated: Option<Ungated>,
}

/// Every activity and every ReLU of a program that is about to be perturbed, in its order.
pub fn layers(program: &Program) -> Vec<Layer> {
    let live = program.live();
    let scope = |v: Value| program.origins.get(program.node(v).origin as usize).map_or(String::new(), |o| o.scope.clone());
    let mut layers: Vec<Layer> = Vec::new();
    for activity in activities(program).into_iter().filter(|a| live[a.0 as usize]) {
        let (relu, ungated) = match gate(program, activity) {
            Ok(gate) => (Some(gate.relu), None),
            Err(why) => (None, Some(why)),
        };
        layers.push(Layer { name: scope(activity), activity: Some(activity), relu, ungated });
    }
    for relu in program.values().filter(|&v| live[v.0 as usize] && *program.op(v) == Op::Relu) {
        if layers.iter().all(|l| l.relu != Some(relu)) {
            layers.push(Layer { name: scope(relu), activity: None, relu: Some(relu), ungated: None });
        }
    }
    layers.sort_by_key(|l| l.activity.or(l.relu));
    layers
}

/// What of a step exists for the noise alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Normal numbers.
    pub draws: u64,
    /// Of values that are linear in the noise.
    pub tangents: Flops,
    /// Of values that are products of noise with its own effect: estimates, on their way to the parameters.
    pub estimates: Flops,
}

/// What the masks of a step make needless.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Needless {
    pub total: Work,
    /// By layer, what stands behind its ReLU; nothing where there is no ReLU.
    pub behind: Vec<Work>,
}

/// Of `program`, which has had all passes before `perturb`; `passes` are that one and those after it.
pub fn needless(program: &Program, layers: &[Layer], passes: &[&str], options: &Options) -> Result<Needless, Vec<Diagnostic>> {
    // Names hold on to the ReLUs while passes number values anew. No name in a text has a blank.
    let key = |i: usize| format!("relu {i}");
    let mut named = program.clone();
    named.names.extend(layers.iter().enumerate().filter_map(|(i, l)| Some((key(i), l.relu?))));
    let (perturb, rest) = passes.split_at(passes.len().min(1));
    let perturbed = algorithm::run(named, perturb, options, &mut |_, _| {})?;
    // The masks go through the other passes as outputs.
    let mut b = Builder::new(perturbed.clone());
    for i in 0..layers.len() {
        let Some(&relu) = perturbed.names.get(&key(i)) else { continue };
        let mask = prune::open(&mut b, &perturbed, relu);
        let (ty, order) = (b.ty(mask), b.program().axes.in_order(b.axes_of(mask)));
        b.program_mut().outputs.push(Output { port: Port { name: key(i), dtype: ty.dtype, order }, value: mask });
    }
    let finished = algorithm::run(b.finish(), rest, options, &mut |_, _| {})?;
    let of = |i: usize| finished.output(&key(i)).map_or(Work::default(), |o| behind(&finished, o.value));
    Ok(Needless { total: total(&finished), behind: (0..layers.len()).map(of).collect() })
}

/// All work that exists for the noise.
pub fn total(program: &Program) -> Work {
    work(program, |_| true)
}

/// The work on elements that stand behind `mask`, a condition: where it is false, all of it is needless.
pub fn behind(program: &Program, mask: Value) -> Work {
    let zero = zeros(program, mask);
    let unused = unused(program, &zero);
    let spared = |v: Value| {
        let factor = |&a: &Value| zero[a.0 as usize].is_some() && program.ty(a).dtype.is_float();
        zero[v.0 as usize].is_some() || unused[v.0 as usize].is_some() || program.args(v).iter().any(factor)
    };
    work(program, spared)
}

/// The work on those values that depend on noise and for which `counts` holds.
fn work(program: &Program, counts: impl Fn(Value) -> bool) -> Work {
    let (degrees, costs) = (degrees(program), cost::by_value(program));
    let mut work = Work::default();
    for v in program.values().filter(|&v| counts(v)) {
        let (degree, flops) = (degrees[v.0 as usize], costs[v.0 as usize]);
        if matches!(program.op(v), Op::Normal(_)) {
            work.draws += program.axes.count(program.axes_of(v)) as u64;
        }
        match degree {
            0 => {}
            1 => work.tangents = work.tangents.plus(flops),
            _ => work.estimates = work.estimates.plus(flops),
        }
    }
    work
}

/// By value, as a polynomial of which degree it depends on the noise: tangents are linear in it, estimates are quadratic. More than 2 counts
/// as 2.
fn degrees(program: &Program) -> Vec<u8> {
    let mut degrees: Vec<u8> = Vec::with_capacity(program.nodes.len());
    for v in program.values() {
        let op = program.op(v);
        let args = program.args(v).iter().map(|a| degrees[a.0 as usize]);
        degrees.push(match op.class() {
            Class::Leaf => u8::from(matches!(op, Op::Normal(_))),
            Class::Contract => args.fold(0, |sum, d| (sum + d).min(2)),
            Class::Arith if *op == Op::Mul => args.fold(0, |sum, d| (sum + d).min(2)),
            Class::Arith | Class::Float | Class::Slow | Class::Compare | Class::Logic | Class::Select | Class::Cast => {
                args.max().unwrap_or(0)
            }
            Class::Reduce | Class::Rename | Class::Index | Class::Mark => args.max().unwrap_or(0),
        });
    }
    degrees
}

/// The axes of the mask, in its own canonical order, under the names by which a value holds them.
type Image = Vec<AxisId>;

/// By value: where it is 0 (false) at every element at which the mask is false.
fn zeros(program: &Program, mask: Value) -> Vec<Option<Image>> {
    let mut zero: Vec<Option<Image>> = Vec::with_capacity(program.nodes.len());
    for v in program.values() {
        let own = (v == mask).then(|| program.axes.in_order(program.axes_of(mask)));
        let image = own.or_else(|| inherited(program, v, &zero));
        zero.push(image);
    }
    zero
}

/// Where `v` is 0 because its operands are.
fn inherited(program: &Program, v: Value, zero: &[Option<Image>]) -> Option<Image> {
    let x = program.args(v);
    let at = |i: usize| zero[x[i].0 as usize].clone();
    let always = |i: usize| matches!(program.op(x[i]), Op::Const(n) if n.value() == 0.0);
    let both = |i: usize, j: usize| match (at(i), at(j)) {
        (Some(l), Some(r)) => (l == r).then_some(l),
        (Some(one), None) if always(j) => Some(one),
        (None, Some(one)) if always(i) => Some(one),
        _ => None,
    };
    let kept = |over: &AxisSet| x.iter().find_map(|a| zero[a.0 as usize].clone().filter(|image| image.iter().all(|&i| !over.contains(i))));
    match program.op(v) {
        Op::Mul | Op::And => kept(&AxisSet::EMPTY),
        Op::Sum(over) | Op::Contract(over) => kept(over),
        Op::Add | Op::Sub | Op::Or => both(0, 1),
        Op::Neg | Op::Div | Op::Cast(_) | Op::Sqrt | Op::Relu | Op::Tanh | Op::Erf | Op::StopGradient | Op::Activity(_) => at(0),
        // Under a shut condition, the other branch is taken.
        Op::Select => match at(0) {
            Some(image) => (always(2) || at(2).as_ref() == Some(&image)).then_some(image),
            None => both(1, 2),
        },
        Op::Rename(pairs) => at(0).map(|image| moved(image, pairs.iter().copied())),
        Op::Exp | Op::Log | Op::Rsqrt | Op::Not | Op::Max(_) | Op::Window(_) | Op::Gather(_) => None,
        Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne => None,
        Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Normal(_) | Op::Seed(_) => None,
    }
}

/// By value: where its elements influence nothing, at every element at which the mask is false.
fn unused(program: &Program, zero: &[Option<Image>]) -> Vec<Option<Image>> {
    let mut wanted = vec![false; program.nodes.len()];
    program.outputs.iter().for_each(|o| wanted[o.value.0 as usize] = true);
    program.losses.iter().for_each(|l| wanted[l.value.0 as usize] = true);
    // What every use seen so far says; nothing before the first.
    let mut said: Vec<Option<Option<Image>>> = vec![None; program.nodes.len()];
    let mut unused: Vec<Option<Image>> = vec![None; program.nodes.len()];
    for v in program.values().rev() {
        let own = said[v.0 as usize].take().flatten().filter(|_| !wanted[v.0 as usize]);
        for (position, &a) in program.args(v).iter().enumerate() {
            let held = |image: &Image| image.iter().all(|&i| program.axes_of(a).contains(i));
            let image = stopped(program, v, position, zero).filter(held).or_else(|| passed(program, v, own.clone()).filter(held));
            let joint = match said[a.0 as usize].take() {
                None => image,
                Some(before) => before.filter(|b| image.as_ref() == Some(b)),
            };
            said[a.0 as usize] = Some(joint);
        }
        unused[v.0 as usize] = own;
    }
    unused
}

/// Where `v` itself keeps its operand at `position` from having any influence.
fn stopped(program: &Program, v: Value, position: usize, zero: &[Option<Image>]) -> Option<Image> {
    let (x, op) = (program.args(v), program.op(v));
    let mut others = x.iter().enumerate().filter(|(i, _)| *i != position).map(|(_, a)| &zero[a.0 as usize]);
    if matches!(op, Op::Mul | Op::Contract(_)) {
        others.find_map(|image| image.clone())
    } else if *op == Op::Select && position == 1 {
        zero[x[0].0 as usize].clone()
    } else {
        None
    }
}

/// Where operands of `v` have no influence if `v` has none at `own`.
fn passed(program: &Program, v: Value, own: Option<Image>) -> Option<Image> {
    match program.op(v).class() {
        Class::Arith | Class::Float | Class::Slow | Class::Compare | Class::Logic | Class::Select | Class::Cast | Class::Mark => own,
        // Other axes are summed, for one element of the result.
        Class::Reduce | Class::Contract => own,
        Class::Rename => {
            let Op::Rename(pairs) = program.op(v) else { return None };
            own.map(|image| moved(image, pairs.iter().map(|&(from, to)| (to, from))))
        }
        Class::Leaf | Class::Index => None,
    }
}

fn moved(image: Image, pairs: impl Iterator<Item = (AxisId, AxisId)> + Clone) -> Image {
    image.into_iter().map(|a| pairs.clone().find(|p| p.0 == a).map_or(a, |p| p.1)).collect()
}
