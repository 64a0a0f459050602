//! Fixed random tensors: the parameters that feedback alignment puts in the place of weights, and that direct feedback alignment leads an
//! error through. They are declared here, and nothing trains them. It takes no derivative.

use std::cell::RefCell;
use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::program::{Init, ParamDecl, Port};
use pushforward_ir::{AxisSet, Builder, DType, Op, Value};

/// Prefix of the parameters that stand in the place of weights.
pub const FEEDBACK: &str = "fa.";

/// Prefix of the parameters through which the prediction's error goes to a layer.
pub const DIRECT: &str = "dfa.";

/// Weights and what stands for them, declared as they are asked for.
#[derive(Default)]
pub struct Feedback {
    declared: RefCell<HashMap<Value, Value>>,
}

impl Feedback {
    /// What an error meets in the place of `factor`, in a contraction over `over`: if that is a parameter, perhaps with its axes renamed, a fixed
    /// tensor of the same axes, drawn as the parameter is (Lillicrap et al. 2016); `factor` itself else. One that is no layer's, as it has
    /// none of the axes that are summed, is left alone.
    pub fn instead_of(&self, b: &mut Builder, factor: Value, over: AxisSet) -> Value {
        let summed = b.axes_of(factor) & over;
        if summed.is_empty() {
            return factor;
        }
        self.of(b, factor, summed).unwrap_or(factor)
    }

    fn of(&self, b: &mut Builder, v: Value, summed: AxisSet) -> Option<Value> {
        let op = b.program().op(v).clone();
        if let Op::Rename(pairs) = op {
            let x = b.program().args(v)[0];
            let back = |a: AxisId| pairs.iter().find(|p| p.1 == a).map_or(a, |p| p.0);
            let tensor = self.of(b, x, summed.iter().map(back).collect())?;
            return Some(b.rename(tensor, &pairs));
        }
        let Op::Param(i) = op else { return None };
        if let Some(&tensor) = self.declared.borrow().get(&v) {
            return Some(tensor);
        }
        let weight = b.program().params[i as usize].clone();
        let init = match weight.init {
            Init::Normal(_) => weight.init,
            // A weight that begins at 0 has feedback all the same: that of the usual initial weights.
            Init::Constant(_) => Init::Normal((2.0 / (b.program().axes.count(summed) as f64).sqrt()).min(0.1)),
        };
        let tensor = fixed(b, Port { name: format!("{FEEDBACK}{}", weight.port.name), ..weight.port }, init);
        self.declared.borrow_mut().insert(v, tensor);
        Some(tensor)
    }
}

/// The tensor of the layer `layer` for its direct feedback, along `order`: deviation 0.1.
pub fn direct(b: &mut Builder, layer: &str, dtype: DType, order: Vec<AxisId>) -> Value {
    fixed(b, Port { name: format!("{DIRECT}{layer}"), dtype, order }, Init::Normal(0.1))
}

fn fixed(b: &mut Builder, port: Port, init: Init) -> Value {
    b.program_mut().params.push(ParamDecl { port, init, exact: true, decay: false });
    let index = b.program().params.len() as u32 - 1;
    b.op(Op::Param(index), &[])
}
