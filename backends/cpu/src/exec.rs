//! A plan made ready: code, memory, threads; and its runs. Everything about raw pointers that must hold for `call.rs` is arranged here: the
//! plan is verified before it is compiled, tensors are checked before they are bound. It never changes a plan. Read [`Executable::new`] and
//! [`Executable::run`].

use std::sync::OnceLock;

use pushforward_plan::Plan;
use pushforward_plan::kernel::{Body, Buffer, Role};
use pushforward_plan::verify::{cut_size, verify};

use crate::call::{self, Pointers, Ready};
use crate::emit;
use crate::error::CpuError;
use crate::jit::{self, Compiled, Program};
use crate::memory::{self, Block, Slice, SliceMut, State};
use crate::pool::Pool;

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Threads; 0 for as many as the machine runs at once. Results do not depend on it.
    pub threads: usize,
}

/// A compiled program.
pub struct Executable {
    plan: Plan,
    pool: Pool,
    steps: Vec<Step>,
    program: Program,
    arena: Block,
    /// One for each thread.
    scratch: Vec<Block>,
    /// How many inputs the program has, as far as the plan can tell: up to the last one that it reads.
    inputs: usize,
    /// The program's numbers of the outputs that `run` takes, ascending.
    outputs: Vec<usize>,
    bound: Pointers,
    clif: OnceLock<Vec<(String, String)>>,
}

/// What threads share out before they wait for each other: a stage with slices, or one launch of a stage without.
struct Step {
    tasks: usize,
    /// Each task runs all of these, in order.
    launches: Vec<Ready>,
}

impl Executable {
    /// Checks and compiles `plan`, and starts threads of its own.
    pub fn new(plan: Plan, options: &Options) -> Result<Executable, CpuError> {
        Executable::with_pool(plan, &Pool::new(options.threads)?)
    }

    /// The same, on threads that others use too.
    pub fn with_pool(plan: Plan, pool: &Pool) -> Result<Executable, CpuError> {
        if let Some(problem) = verify(&plan).into_iter().next() {
            return Err(CpuError::Plan { plan: plan.name.clone(), problem });
        }
        let program = jit::compile(&plan, pool)?;
        let arena = Block::new("temporaries", plan.arena_bytes)?;
        let needed = plan.kernels.iter().map(|k| match &k.body {
            Body::Loops(loops) => emit::scratch_bytes(loops),
            Body::Gemm(_) | Body::Normals(_) => 0,
        });
        let needed = needed.max().unwrap_or(0);
        let scratch = (0..pool.threads()).map(|_| Block::new("rows of kernels", needed)).collect::<Result<_, _>>()?;

        let (mut inputs, mut outputs) = (0, Vec::new());
        for buffer in &plan.buffers {
            match buffer.role {
                Role::Input(i) => inputs = inputs.max(i + 1),
                Role::Output(i) => outputs.push(i),
                Role::State(_) | Role::Temp(_) => {}
            }
        }
        outputs.sort_unstable();
        outputs.dedup();
        let steps = steps(&plan);
        let (bound, clif) = (Pointers::default(), OnceLock::new());
        Ok(Executable { plan, pool: pool.clone(), steps, program, arena, scratch, inputs, outputs, bound, clif })
    }

    /// Runs the program once: `inputs` in the order of the program's inputs, `outputs` in the order of its outputs that are no parameters.
    /// Nothing is computed if a tensor does not fit.
    pub fn run(&mut self, state: &mut State, inputs: &[Slice<'_>], outputs: &mut [SliceMut<'_>]) -> Result<(), CpuError> {
        self.bind(state, inputs, outputs)?;
        let Executable { plan, pool, steps, program, bound, .. } = &*self;
        let work = |step: usize, task: usize, thread: usize| {
            for ready in &steps[step].launches {
                call::launch(bound, &program.code, &plan.kernels, ready, task, thread);
            }
        };
        let sound = pool.run(steps.len(), |step| steps[step].tasks, work);
        if sound { Ok(()) } else { Err(CpuError::Stopped { plan: self.plan.name.clone() }) }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Time and size of each compiled kernel, in the plan's order.
    pub fn compiled(&self) -> &[Compiled] {
        &self.program.compiled
    }

    /// Name and text of each compiled kernel, before optimisation. The same text in every run and on every machine.
    pub fn clif(&self) -> &[(String, String)] {
        self.clif.get_or_init(|| jit::clif(&self.plan, self.program.target))
    }

    /// Name, axes and dtype of the parameters that runs read or update.
    pub fn states(&self) -> impl Iterator<Item = &Buffer> {
        memory::parameters(&self.plan)
    }

    /// The inputs in the order in which `run` takes them; none where the program does not read one.
    pub fn inputs(&self) -> impl Iterator<Item = Option<&Buffer>> {
        (0..self.inputs).map(|i| self.plan.buffers.iter().find(|b| b.role == Role::Input(i)))
    }

    /// The outputs in the order in which `run` takes them.
    pub fn outputs(&self) -> impl Iterator<Item = &Buffer> {
        self.outputs.iter().filter_map(|&i| self.plan.buffers.iter().find(|b| b.role == Role::Output(i)))
    }

    /// Checks the tensors and notes where they are.
    fn bind(&mut self, state: &mut State, inputs: &[Slice<'_>], outputs: &mut [SliceMut<'_>]) -> Result<(), CpuError> {
        let count = |what, wants: usize, got: usize| if wants == got { Ok(()) } else { Err(CpuError::Count { what, wants, got }) };
        // A plan does not know of inputs after the last one that it reads: more than it wants are left alone.
        count("inputs", self.inputs, inputs.len().min(self.inputs))?;
        count("outputs", self.outputs.len(), outputs.len())?;
        let Executable { plan, arena, scratch, bound, outputs: numbers, .. } = self;
        bound.buffers.clear();
        for buffer in &plan.buffers {
            bound.buffers.push(match buffer.role {
                Role::Input(i) => {
                    fits(buffer, inputs[i])?;
                    memory::start(inputs[i]).cast_mut()
                }
                Role::Output(i) => {
                    let output = &mut outputs[numbers.partition_point(|&n| n < i)];
                    fits(buffer, output.reborrow())?;
                    memory::start_mut(output)
                }
                Role::State(_) => state.start(buffer)?,
                Role::Temp(offset) => arena.start().wrapping_add(offset),
            });
        }
        bound.args.clear();
        let launches = plan.stages.iter().flat_map(|s| &s.launches);
        bound.args.extend(launches.flat_map(|l| &l.args).map(|&b| bound.buffers[b]));
        bound.scratch.clear();
        bound.scratch.extend(scratch.iter_mut().map(Block::start));
        Ok(())
    }
}

fn fits(buffer: &Buffer, tensor: Slice<'_>) -> Result<(), CpuError> {
    memory::check(&buffer.name, buffer.dtype, &buffer.dims, buffer.len(), tensor)
}

/// The plan's stages as steps. A part or slice is the same whatever the number of threads.
fn steps(plan: &Plan) -> Vec<Step> {
    let mut first_arg = 0;
    let mut steps = Vec::new();
    for stage in &plan.stages {
        let mut launches = Vec::new();
        for launch in &stage.launches {
            let size = cut_size(&plan.kernels[launch.kernel]);
            let chunk = match &stage.slice {
                Some(slice) => slice.chunk,
                None if launch.part > 0 => launch.part,
                None => size,
            };
            launches.push(Ready { kernel: launch.kernel, first_arg, stream: launch.stream, size, chunk: chunk.max(1) });
            first_arg += launch.args.len();
        }
        let tasks = |l: &Ready| l.size.div_ceil(l.chunk);
        match &stage.slice {
            Some(slice) => steps.push(Step { tasks: slice.size.div_ceil(slice.chunk.max(1)), launches }),
            None => steps.extend(launches.into_iter().map(|l| Step { tasks: tasks(&l), launches: vec![l] })),
        }
    }
    steps
}
