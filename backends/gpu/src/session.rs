//! Tensors over a driver: programs that are loaded, parameters that stay on the device from run to run, inputs that go there and outputs that
//! come back. Programs of one session run one after the other and share the memory of their temporaries. It knows no language and no device.
//! Read [`Session::run`].

use std::collections::BTreeMap;

use pushforward_plan::device::kernel::{DeviceBuffer, DevicePlan, DeviceRole};
use pushforward_plan::device::verify::verify;
use pushforward_plan::kernel::ElementType;
use pushforward_plan::tensor::{Numbers, Slice, SliceMut};

use crate::driver::{DeviceError, Driver, Loaded, Memory};

/// A device with what is loaded on it.
pub struct Session {
    driver: Box<dyn Driver + Send>,
    programs: Vec<Program>,
    /// Bytes and memory of each slot; those of all programs.
    slots: Vec<(usize, Memory)>,
}

/// A loaded program of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgramId(usize);

struct Program {
    plan: DevicePlan,
    loaded: Loaded,
    /// Of each buffer of the plan that is an input or output.
    own: Vec<Option<Memory>>,
    /// The buffers of its outputs, in the order of the program's.
    made: Vec<usize>,
}

/// Parameters on the device, by name: programs that share some find theirs.
#[derive(Default)]
pub struct States(BTreeMap<String, State>);

struct State {
    memory: Memory,
    dtype: ElementType,
    len: usize,
}

impl States {
    /// Whether there is memory for the parameter `name`.
    pub fn holds(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

impl Session {
    pub fn new(driver: Box<dyn Driver + Send>) -> Session {
        Session { driver, programs: Vec::new(), slots: Vec::new() }
    }

    /// The device's name for people.
    pub fn about(&self) -> String {
        self.driver.about()
    }

    /// Makes a plan ready to run. What an error leaves behind is what was there before.
    pub fn load(&mut self, plan: DevicePlan) -> Result<ProgramId, DeviceError> {
        if let Some(problem) = verify(&plan).into_iter().next() {
            return Err(DeviceError::Plan { plan: plan.name.clone(), problem });
        }
        let loaded = self.driver.load(&plan)?;
        let mut own = Vec::new();
        if let Err(error) = self.allocate(&plan, &mut own) {
            own.into_iter().flatten().for_each(|memory| self.driver.free(memory));
            return Err(error);
        }
        let made = made(&plan);
        self.programs.push(Program { plan, loaded, own, made });
        Ok(ProgramId(self.programs.len() - 1))
    }

    /// Memory for inputs and outputs, in `own`, and for temporaries.
    fn allocate(&mut self, plan: &DevicePlan, own: &mut Vec<Option<Memory>>) -> Result<(), DeviceError> {
        for buffer in &plan.buffers {
            own.push(match buffer.role {
                DeviceRole::Input(_) | DeviceRole::Output(_) => Some(self.driver.allocate(&buffer.name, buffer.bytes())?),
                DeviceRole::State(_) | DeviceRole::Slot(_) => None,
            });
        }
        for (slot, &bytes) in plan.slots.iter().enumerate() {
            if self.slots.get(slot).is_some_and(|&(has, _)| has >= bytes) {
                continue;
            }
            let memory = self.driver.allocate("temporaries", bytes)?;
            match self.slots.get_mut(slot) {
                Some(known) => {
                    let (_, old) = std::mem::replace(known, (bytes, memory));
                    self.driver.free(old);
                }
                None => self.slots.push((bytes, memory)),
            }
        }
        Ok(())
    }

    /// Gives back the memory of a program that will not run again.
    pub fn unload(&mut self, program: ProgramId) {
        let own = std::mem::take(&mut self.programs[program.0].own);
        own.into_iter().flatten().for_each(|memory| self.driver.free(memory));
    }

    pub fn plan(&self, program: ProgramId) -> &DevicePlan {
        &self.programs[program.0].plan
    }

    /// Adds the parameters of a program that are not in `states` yet, all zero.
    pub fn add_states(&mut self, program: ProgramId, states: &mut States) -> Result<(), DeviceError> {
        for buffer in &self.programs[program.0].plan.buffers {
            match buffer.role {
                DeviceRole::State(_) if !states.0.contains_key(&buffer.name) => {
                    let memory = self.driver.allocate(&buffer.name, buffer.bytes())?;
                    states.0.insert(buffer.name.clone(), State { memory, dtype: buffer.dtype, len: buffer.len() });
                }
                DeviceRole::State(_) | DeviceRole::Input(_) | DeviceRole::Output(_) | DeviceRole::Slot(_) => {}
            }
        }
        Ok(())
    }

    /// Overwrites the parameter `name`; nothing happens if there is none.
    pub fn write_state(&mut self, states: &States, name: &str, numbers: Slice<'_>) -> Result<(), DeviceError> {
        let Some(state) = states.0.get(name) else { return Ok(()) };
        fits(name, state.dtype, state.len, numbers)?;
        self.driver.write(state.memory, &bytes(numbers))
    }

    /// Fetches the parameter `name`; nothing happens if there is none.
    pub fn read_state(&mut self, states: &States, name: &str, numbers: &mut SliceMut<'_>) -> Result<(), DeviceError> {
        let Some(state) = states.0.get(name) else { return Ok(()) };
        fits(name, state.dtype, state.len, numbers.reborrow())?;
        self.fetch(state.memory, numbers)
    }

    pub fn free_states(&mut self, states: &mut States) {
        std::mem::take(&mut states.0).into_values().for_each(|s| self.driver.free(s.memory));
    }

    /// Runs a program once: `inputs` by the program's numbers of them, outputs in the order of the program's that are no parameters.
    /// Nothing is computed if a tensor does not fit.
    pub fn run(
        &mut self,
        program: ProgramId,
        states: &States,
        inputs: &[Slice<'_>],
        outputs: &mut [SliceMut<'_>],
    ) -> Result<(), DeviceError> {
        let Program { plan, loaded, own, made } = &self.programs[program.0];
        let input = |name: &str, number: usize, dtype: ElementType, len: usize| {
            let given = inputs.get(number).copied().ok_or_else(|| DeviceError::Tensor { name: name.into(), why: "is missing".into() })?;
            fits(name, dtype, len, given)?;
            Ok::<_, DeviceError>(given)
        };
        let mut scalars = Vec::new();
        for scalar in &plan.scalars {
            let number = bytes(input(&scalar.name, scalar.input, scalar.dtype, 1)?);
            scalars.resize(scalars.len().next_multiple_of(number.len()), 0);
            scalars.extend_from_slice(&number);
        }
        let mut memory = Vec::new();
        for (buffer, own) in plan.buffers.iter().zip(own) {
            memory.push(match (buffer.role, own) {
                (DeviceRole::Slot(slot), _) => self.slots[slot].1,
                (DeviceRole::State(_), _) => state(states, buffer)?,
                (DeviceRole::Input(number), Some(memory)) => {
                    let given = input(&buffer.name, number, buffer.dtype, buffer.len())?;
                    self.driver.write(*memory, &bytes(given))?;
                    *memory
                }
                (DeviceRole::Output(_), Some(memory)) => *memory,
                (DeviceRole::Input(_) | DeviceRole::Output(_), None) => unreachable!("allocated when the plan was loaded"),
            });
        }
        for (&made, output) in made.iter().zip(outputs.iter()) {
            let buffer = &plan.buffers[made];
            fits(&buffer.name, buffer.dtype, buffer.len(), output.reborrow())?;
        }
        self.driver.run(*loaded, &memory, &scalars)?;
        let made: Vec<Memory> = made.iter().map(|&b| memory[b]).collect();
        made.into_iter().zip(outputs).try_for_each(|(memory, output)| self.fetch(memory, output))
    }

    fn fetch(&mut self, memory: Memory, numbers: &mut SliceMut<'_>) -> Result<(), DeviceError> {
        match numbers {
            SliceMut::F32(x) => self.driver.read(memory, bytemuck::cast_slice_mut(x)),
            SliceMut::F64(x) => self.driver.read(memory, bytemuck::cast_slice_mut(x)),
            SliceMut::I32(x) => self.driver.read(memory, bytemuck::cast_slice_mut(x)),
            // A condition takes four bytes there.
            SliceMut::Bool(x) => {
                let mut words = vec![0u32; x.len()];
                self.driver.read(memory, bytemuck::cast_slice_mut(&mut words))?;
                x.iter_mut().zip(words).for_each(|(x, word)| *x = u8::from(word != 0));
                Ok(())
            }
        }
    }
}

/// The outputs of a plan, in the order in which [`Session::run`] takes them.
pub fn outputs(plan: &DevicePlan) -> impl Iterator<Item = &DeviceBuffer> {
    made(plan).into_iter().map(|b| &plan.buffers[b])
}

fn made(plan: &DevicePlan) -> Vec<usize> {
    let numbered = plan.buffers.iter().enumerate().filter_map(|(b, buffer)| match buffer.role {
        DeviceRole::Output(number) => Some((number, b)),
        DeviceRole::Input(_) | DeviceRole::State(_) | DeviceRole::Slot(_) => None,
    });
    let mut numbered: Vec<(usize, usize)> = numbered.collect();
    numbered.sort_unstable();
    numbered.into_iter().map(|n| n.1).collect()
}

fn state(states: &States, buffer: &DeviceBuffer) -> Result<Memory, DeviceError> {
    let wrong = |why: String| DeviceError::Tensor { name: buffer.name.clone(), why };
    let state = states.0.get(&buffer.name).ok_or_else(|| wrong("is not among the parameters on the device".into()))?;
    if (state.dtype, state.len) != (buffer.dtype, buffer.len()) {
        return Err(wrong(format!("has {} elements, the program wants {}", state.len, buffer.len())));
    }
    Ok(state.memory)
}

fn fits(name: &str, dtype: ElementType, len: usize, got: Slice<'_>) -> Result<(), DeviceError> {
    let why = match () {
        () if got.dtype() != dtype => format!("is {:?}, the program wants {dtype:?}", got.dtype()),
        () if got.len() != len => format!("has {} elements, the program wants {len}", got.len()),
        () => return Ok(()),
    };
    Err(DeviceError::Tensor { name: name.into(), why: why.to_lowercase() })
}

/// As they lie on a device.
fn bytes(numbers: Slice<'_>) -> std::borrow::Cow<'_, [u8]> {
    match numbers {
        Slice::F32(x) => bytemuck::cast_slice(x).into(),
        Slice::F64(x) => bytemuck::cast_slice(x).into(),
        Slice::I32(x) => bytemuck::cast_slice(x).into(),
        Slice::Bool(x) => x.iter().flat_map(|&x| u32::from(x != 0).to_ne_bytes()).collect::<Vec<u8>>().into(),
    }
}

/// Zeros for the outputs of a plan, and their names.
pub fn room(plan: &DevicePlan) -> Vec<(String, Numbers)> {
    outputs(plan).map(|b| (b.name.clone(), Numbers::zeros(b.dtype, b.len()))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Has room for so many bytes, and runs nothing.
    struct Small {
        room: usize,
        pieces: Arc<Mutex<Vec<Option<usize>>>>,
    }

    impl Driver for Small {
        fn about(&self) -> String {
            "a small device".into()
        }

        fn allocate(&mut self, name: &str, bytes: usize) -> Result<Memory, DeviceError> {
            let mut pieces = self.pieces.lock().unwrap();
            if pieces.iter().flatten().sum::<usize>() + bytes > self.room {
                let (device, why) = (self.about(), "it is full".into());
                return Err(DeviceError::Memory { device, name: name.into(), bytes, why });
            }
            pieces.push(Some(bytes));
            Ok(Memory(pieces.len() - 1))
        }

        fn free(&mut self, memory: Memory) {
            let freed = self.pieces.lock().unwrap()[memory.0].take();
            assert!(freed.is_some(), "freed twice");
        }

        fn write(&mut self, memory: Memory, _: &[u8]) -> Result<(), DeviceError> {
            assert!(self.pieces.lock().unwrap()[memory.0].is_some(), "written after it was freed");
            Ok(())
        }

        fn read(&mut self, memory: Memory, _: &mut [u8]) -> Result<(), DeviceError> {
            assert!(self.pieces.lock().unwrap()[memory.0].is_some(), "read after it was freed");
            Ok(())
        }

        fn load(&mut self, _: &DevicePlan) -> Result<Loaded, DeviceError> {
            Ok(Loaded(0))
        }

        fn run(&mut self, _: Loaded, buffers: &[Memory], _: &[u8]) -> Result<(), DeviceError> {
            let pieces = self.pieces.lock().unwrap();
            assert!(buffers.iter().all(|memory| pieces[memory.0].is_some()), "used after it was freed");
            Ok(())
        }
    }

    /// One input of `len` numbers, and a temporary of as many.
    fn plan(len: usize) -> DevicePlan {
        let buffer = |name: &str, role| DeviceBuffer {
            name: name.into(),
            dtype: ElementType::F32,
            dims: vec![("A".into(), len)],
            role,
            live: (0, 0),
        };
        DevicePlan {
            name: "plan".into(),
            scalars: Vec::new(),
            buffers: vec![buffer("x", DeviceRole::Input(0)), buffer("t", DeviceRole::Slot(0))],
            slots: vec![4 * len],
            kernels: Vec::new(),
            launches: Vec::new(),
        }
    }

    #[test]
    fn what_does_not_fit_leaves_what_was_there() {
        let pieces: Arc<Mutex<Vec<Option<usize>>>> = Arc::default();
        let mut session = Session::new(Box::new(Small { room: 200, pieces: pieces.clone() }));
        let used = || pieces.lock().unwrap().iter().flatten().sum::<usize>();
        let small = session.load(plan(10)).unwrap();
        assert_eq!(used(), 80);
        // Its input fits, its temporary does not.
        assert!(matches!(session.load(plan(20)), Err(DeviceError::Memory { bytes: 80, .. })));
        assert_eq!(used(), 80);
        session.run(small, &States::default(), &[Slice::F32(&[0.0; 10])], &mut []).unwrap();
        // Temporaries are shared: the larger program's take the place of the smaller one's.
        let larger = session.load(plan(12)).unwrap();
        assert_eq!(used(), 40 + 48 + 48);
        session.run(small, &States::default(), &[Slice::F32(&[0.0; 10])], &mut []).unwrap();
        session.unload(larger);
        assert_eq!(used(), 40 + 48);
    }
}
