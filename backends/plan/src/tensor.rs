//! Tensors at the border of a plan: borrowed for reading, borrowed for writing, owned. Row-major and dense; conditions take a byte each, 0 for
//! false. They know no memory but their own.

use crate::kernel::ElementType;

/// A tensor that the caller lends for reading.
#[derive(Clone, Copy, Debug)]
pub enum Slice<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I32(&'a [i32]),
    Bool(&'a [u8]),
}

/// A tensor that the caller lends for writing.
#[derive(Debug)]
pub enum SliceMut<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
    I32(&'a mut [i32]),
    Bool(&'a mut [u8]),
}

/// A tensor in memory of its own.
#[derive(Clone, PartialEq, Debug)]
pub enum Numbers {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
    Bool(Vec<u8>),
}

impl<'a> Slice<'a> {
    pub fn dtype(&self) -> ElementType {
        match self {
            Slice::F32(_) => ElementType::F32,
            Slice::F64(_) => ElementType::F64,
            Slice::I32(_) => ElementType::I32,
            Slice::Bool(_) => ElementType::Bool,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Slice::F32(x) => x.len(),
            Slice::F64(x) => x.len(),
            Slice::I32(x) => x.len(),
            Slice::Bool(x) => x.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers, if they are f32.
    pub fn as_f32(self) -> Option<&'a [f32]> {
        match self {
            Slice::F32(x) => Some(x),
            Slice::F64(_) | Slice::I32(_) | Slice::Bool(_) => None,
        }
    }

    /// Every number in f64.
    pub fn to_f64(self) -> Vec<f64> {
        match self {
            Slice::F32(x) => x.iter().map(|&x| f64::from(x)).collect(),
            Slice::F64(x) => x.to_vec(),
            Slice::I32(x) => x.iter().map(|&x| f64::from(x)).collect(),
            Slice::Bool(x) => x.iter().map(|&x| f64::from(x)).collect(),
        }
    }
}

impl<'a> SliceMut<'a> {
    /// The same tensor, for reading.
    pub fn reborrow(&self) -> Slice<'_> {
        match self {
            SliceMut::F32(x) => Slice::F32(x),
            SliceMut::F64(x) => Slice::F64(x),
            SliceMut::I32(x) => Slice::I32(x),
            SliceMut::Bool(x) => Slice::Bool(x),
        }
    }

    /// The numbers, if they are f32.
    pub fn into_f32(self) -> Option<&'a mut [f32]> {
        match self {
            SliceMut::F32(x) => Some(x),
            SliceMut::F64(_) | SliceMut::I32(_) | SliceMut::Bool(_) => None,
        }
    }
}

impl Numbers {
    pub fn zeros(dtype: ElementType, len: usize) -> Numbers {
        match dtype {
            ElementType::F32 => Numbers::F32(vec![0.0; len]),
            ElementType::F64 => Numbers::F64(vec![0.0; len]),
            ElementType::I32 => Numbers::I32(vec![0; len]),
            ElementType::Bool => Numbers::Bool(vec![0; len]),
        }
    }

    /// Rounded to the dtype.
    pub fn rounded(dtype: ElementType, numbers: &[f64]) -> Numbers {
        match dtype {
            ElementType::F32 => Numbers::F32(numbers.iter().map(|&x| x as f32).collect()),
            ElementType::F64 => Numbers::F64(numbers.to_vec()),
            ElementType::I32 => Numbers::I32(numbers.iter().map(|&x| x as i32).collect()),
            ElementType::Bool => Numbers::Bool(numbers.iter().map(|&x| u8::from(x != 0.0)).collect()),
        }
    }

    pub fn slice(&self) -> Slice<'_> {
        match self {
            Numbers::F32(x) => Slice::F32(x),
            Numbers::F64(x) => Slice::F64(x),
            Numbers::I32(x) => Slice::I32(x),
            Numbers::Bool(x) => Slice::Bool(x),
        }
    }

    pub fn slice_mut(&mut self) -> SliceMut<'_> {
        match self {
            Numbers::F32(x) => SliceMut::F32(x),
            Numbers::F64(x) => SliceMut::F64(x),
            Numbers::I32(x) => SliceMut::I32(x),
            Numbers::Bool(x) => SliceMut::Bool(x),
        }
    }
}
