#![allow(unsafe_code)]
//! Memory: aligned blocks, borrowed tensors at the border, and the parameters that live between runs. It knows nothing of kernels.
//! Read [`State`] first.
//!
//! The unsafe code here rests on one invariant: a [`Block`] owns `bytes` bytes at `start`, allocated zeroed and aligned to [`ALIGN`],
//! and any bytes are a valid f32, f64, i32 or u8.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashMap;

use pushforward_plan::Plan;
use pushforward_plan::kernel::{Buffer, ElementType, Role};
pub use pushforward_plan::tensor::{Slice, SliceMut};

use crate::error::{CpuError, dims_text, dtype_name};

/// A cache line, and the widest vector.
pub(crate) const ALIGN: usize = 64;

/// Where a tensor's elements begin.
pub(crate) fn start(x: Slice<'_>) -> *const u8 {
    match x {
        Slice::F32(x) => x.as_ptr().cast(),
        Slice::F64(x) => x.as_ptr().cast(),
        Slice::I32(x) => x.as_ptr().cast(),
        Slice::Bool(x) => x.as_ptr(),
    }
}

pub(crate) fn start_mut(x: &mut SliceMut<'_>) -> *mut u8 {
    match x {
        SliceMut::F32(x) => x.as_mut_ptr().cast(),
        SliceMut::F64(x) => x.as_mut_ptr().cast(),
        SliceMut::I32(x) => x.as_mut_ptr().cast(),
        SliceMut::Bool(x) => x.as_mut_ptr(),
    }
}

/// The parameters of a model: what runs keep and update. Programs find theirs by name, so that one state serves training and evaluation, and
/// batches of any size; a program that lacks some of the parameters leaves them alone.
#[derive(Default)]
pub struct State {
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

struct Entry {
    name: String,
    dtype: ElementType,
    dims: Vec<(String, usize)>,
    block: Block,
}

impl State {
    /// The parameters of `plan`, all zero.
    pub fn new(plan: &Plan) -> Result<State, CpuError> {
        let mut state = State::default();
        state.add(plan)?;
        Ok(state)
    }

    /// Adds the parameters of `plan` that are not here yet, all zero. Those that are must have the same shape; if one has not, nothing changes.
    pub fn add(&mut self, plan: &Plan) -> Result<(), CpuError> {
        for buffer in parameters(plan) {
            if self.by_name.contains_key(&buffer.name) {
                self.find(buffer)?;
            }
        }
        parameters(plan).try_for_each(|b| self.declare(&b.name, b.dtype, &b.dims))
    }

    /// Adds a parameter, all zero, unless one of its name is here.
    pub fn declare(&mut self, name: &str, dtype: ElementType, dims: &[(String, usize)]) -> Result<(), CpuError> {
        if !self.by_name.contains_key(name) {
            let len: usize = dims.iter().map(|d| d.1).product();
            let block = Block::new(name, len * dtype.bytes())?;
            self.by_name.insert(name.to_string(), self.entries.len());
            self.entries.push(Entry { name: name.to_string(), dtype, dims: dims.to_vec(), block });
        }
        Ok(())
    }

    /// Name, axes and numbers of each parameter, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[(String, usize)], Slice<'_>)> {
        self.entries.iter().map(|e| (e.name.as_str(), e.dims.as_slice(), e.block.slice(e.dtype)))
    }

    /// The numbers of the parameter `name`.
    pub fn get(&self, name: &str) -> Option<Slice<'_>> {
        let entry = &self.entries[*self.by_name.get(name)?];
        Some(entry.block.slice(entry.dtype))
    }

    pub fn get_mut(&mut self, name: &str) -> Option<SliceMut<'_>> {
        let entry = &mut self.entries[*self.by_name.get(name)?];
        Some(entry.block.slice_mut(entry.dtype))
    }

    /// Overwrites the parameter `name`.
    pub fn set(&mut self, name: &str, values: Slice<'_>) -> Result<(), CpuError> {
        let Some(&i) = self.by_name.get(name) else {
            return Err(CpuError::NoParameter { name: name.to_string(), dims: format!("{} elements", values.len()) });
        };
        let entry = &mut self.entries[i];
        let wants = entry.block.slice(entry.dtype).len();
        check(&entry.name, entry.dtype, &entry.dims, wants, values)?;
        match (entry.block.slice_mut(entry.dtype), values) {
            (SliceMut::F32(to), Slice::F32(from)) => to.copy_from_slice(from),
            (SliceMut::F64(to), Slice::F64(from)) => to.copy_from_slice(from),
            (SliceMut::I32(to), Slice::I32(from)) => to.copy_from_slice(from),
            (SliceMut::Bool(to), Slice::Bool(from)) => to.copy_from_slice(from),
            (SliceMut::F32(_) | SliceMut::F64(_) | SliceMut::I32(_) | SliceMut::Bool(_), _) => unreachable!("the dtype was checked"),
        }
        Ok(())
    }

    /// Where the parameter of a plan's buffer stands.
    pub(crate) fn start(&mut self, buffer: &Buffer) -> Result<*mut u8, CpuError> {
        let i = self.find(buffer)?;
        Ok(self.entries[i].block.start())
    }

    fn find(&self, buffer: &Buffer) -> Result<usize, CpuError> {
        let Some(&i) = self.by_name.get(&buffer.name) else {
            return Err(CpuError::NoParameter { name: buffer.name.clone(), dims: dims_text(&buffer.dims) });
        };
        let entry = &self.entries[i];
        // Sizes decide; how a program calls its axes does not matter.
        let same = entry.dtype == buffer.dtype && entry.dims.iter().map(|d| d.1).eq(buffer.dims.iter().map(|d| d.1));
        if same {
            return Ok(i);
        }
        let show = |dtype, dims| format!("{}[{}]", dtype_name(dtype), dims_text(dims));
        let (wants, got) = (show(buffer.dtype, &buffer.dims), show(entry.dtype, &entry.dims));
        Err(CpuError::Parameter { name: buffer.name.clone(), wants, got })
    }
}

/// The buffers of a plan that live in a state.
pub(crate) fn parameters(plan: &Plan) -> impl Iterator<Item = &Buffer> {
    plan.buffers.iter().filter(|b| match b.role {
        Role::State(_) => true,
        Role::Input(_) | Role::Output(_) | Role::Temp(_) => false,
    })
}

/// That a tensor is what the program declares.
pub(crate) fn check(name: &str, dtype: ElementType, dims: &[(String, usize)], wants: usize, got: Slice<'_>) -> Result<(), CpuError> {
    if got.dtype() != dtype {
        return Err(CpuError::DType { name: name.to_string(), wants: dtype, got: got.dtype() });
    }
    if got.len() != wants {
        return Err(CpuError::Len { name: name.to_string(), dims: dims_text(dims), wants, got: got.len() });
    }
    Ok(())
}

/// Owned bytes, zeroed at first.
pub(crate) struct Block {
    /// What the allocator gave: [`ALIGN`] bytes more than asked for, aligned for any element only. It hands such blocks out without touching
    /// them; zeros beyond that alignment it would write itself, page by page.
    whole: *mut u8,
    start: *mut u8,
    bytes: usize,
}

// A block owns its bytes alone, like a boxed slice.
unsafe impl Send for Block {}
unsafe impl Sync for Block {}

impl Block {
    pub(crate) fn new(what: &str, bytes: usize) -> Result<Block, CpuError> {
        let out = || CpuError::Memory { what: what.to_string(), bytes };
        let layout = Block::layout(bytes).ok_or_else(out)?;
        // SAFETY: the layout is not empty.
        let whole = unsafe { alloc_zeroed(layout) };
        if whole.is_null() {
            return Err(out());
        }
        // At most ALIGN bytes further on, which were asked for.
        let start = whole.wrapping_add(ALIGN - whole.addr() % ALIGN);
        Ok(Block { whole, start, bytes })
    }

    fn layout(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes.checked_add(ALIGN)?, align_of::<f64>()).ok()
    }

    pub(crate) fn start(&mut self) -> *mut u8 {
        self.start
    }

    pub(crate) fn slice(&self, dtype: ElementType) -> Slice<'_> {
        let len = self.bytes / dtype.bytes();
        // SAFETY: the block holds `len` elements, aligned beyond their needs, borrowed as long as `self`.
        unsafe {
            match dtype {
                ElementType::F32 => Slice::F32(std::slice::from_raw_parts(self.start.cast(), len)),
                ElementType::F64 => Slice::F64(std::slice::from_raw_parts(self.start.cast(), len)),
                ElementType::I32 => Slice::I32(std::slice::from_raw_parts(self.start.cast(), len)),
                ElementType::Bool => Slice::Bool(std::slice::from_raw_parts(self.start, len)),
            }
        }
    }

    pub(crate) fn slice_mut(&mut self, dtype: ElementType) -> SliceMut<'_> {
        let len = self.bytes / dtype.bytes();
        // SAFETY: as in `slice`, and `self` is borrowed alone.
        unsafe {
            match dtype {
                ElementType::F32 => SliceMut::F32(std::slice::from_raw_parts_mut(self.start.cast(), len)),
                ElementType::F64 => SliceMut::F64(std::slice::from_raw_parts_mut(self.start.cast(), len)),
                ElementType::I32 => SliceMut::I32(std::slice::from_raw_parts_mut(self.start.cast(), len)),
                ElementType::Bool => SliceMut::Bool(std::slice::from_raw_parts_mut(self.start, len)),
            }
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let layout = Block::layout(self.bytes).expect("it was valid when the block was made");
        // SAFETY: allocated in `new` with this layout, and owned.
        unsafe { dealloc(self.whole, layout) }
    }
}
