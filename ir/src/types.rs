//! Types: a dtype and the set of axes that a value may depend on. No order, no layout: memory order exists only at the border and in `plan`.

use crate::axis::{Axes, AxisSet};

/// Element types. The table is open for bf16 and f16 with f32 accumulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DType {
    F32,
    F64,
    I32,
    Bool,
}

impl DType {
    pub const ALL: [DType; 4] = [DType::F32, DType::F64, DType::I32, DType::Bool];

    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::I32 => "i32",
            DType::Bool => "bool",
        }
    }

    pub fn parse(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|d| d.name() == name)
    }

    pub fn is_float(self) -> bool {
        match self {
            DType::F32 | DType::F64 => true,
            DType::I32 | DType::Bool => false,
        }
    }

    /// Bytes of one element in memory.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 | DType::I32 => 4,
            DType::F64 => 8,
            DType::Bool => 1,
        }
    }
}

/// `f32[N, P, G]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Type {
    pub dtype: DType,
    pub axes: AxisSet,
}

impl Type {
    pub fn new(dtype: DType, axes: AxisSet) -> Type {
        Type { dtype, axes }
    }

    pub fn show(self, axes: &Axes) -> String {
        format!("{}[{}]", self.dtype.name(), axes.show(self.axes))
    }
}
