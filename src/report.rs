//! What one step costs, counted from its plan: FLOPs, bytes, launches, memory. Nothing is measured here and nothing is run.
//!
//! A contraction counts 2 for each product, an elementwise primitive 1 an element whatever it is, a reduction 1 an element. Bytes are those
//! of the values that a launch reads and writes, each once. Read [`Report`].

use std::iter::Sum;

use pushforward_plan::Plan;
use pushforward_plan::device::kernel::{DeviceLaunch, DevicePlan, DeviceRole, Work};
use pushforward_plan::kernel::{Access, Body, Gemm, Inst, InstKind, Kernel, Launch, Loops, Role, Section};
use serde::Serialize;

/// Figures of a whole step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Report {
    /// Of contractions.
    pub contraction_flops: u64,
    /// Of everything else.
    pub other_flops: u64,
    /// Normal numbers drawn.
    pub normals: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub kernels: usize,
    pub launches: usize,
    pub stages: usize,
    /// Parameters and their momentum.
    pub state_bytes: usize,
    pub input_bytes: usize,
    pub output_bytes: usize,
    /// Intermediate values, their memory reused.
    pub temporary_bytes: usize,
    /// All of these together: the most memory that a step needs at once.
    pub peak_bytes: usize,
}

impl Report {
    pub fn of(plan: &Plan) -> Report {
        let launches = || plan.stages.iter().flat_map(|s| &s.launches);
        let mut report = Report {
            kernels: plan.kernels.len(),
            launches: launches().count(),
            stages: plan.stages.len(),
            temporary_bytes: plan.arena_bytes,
            ..Report::costing(launches().map(|l| Cost::of(plan, l)).sum())
        };
        for buffer in &plan.buffers {
            match buffer.role {
                Role::State(_) => report.state_bytes += buffer.bytes(),
                Role::Input(_) => report.input_bytes += buffer.bytes(),
                Role::Output(_) => report.output_bytes += buffer.bytes(),
                Role::Temp(_) => {}
            }
        }
        report.sum_up()
    }

    /// Of a plan for a device, where each launch is a stage of its own.
    pub fn of_device(plan: &DevicePlan) -> Report {
        let mut report = Report {
            kernels: plan.kernels.len(),
            launches: plan.launches.len(),
            stages: plan.launches.len(),
            temporary_bytes: plan.slots.iter().sum(),
            ..Report::costing(plan.launches.iter().map(|l| Cost::of_device(plan, l)).sum())
        };
        for buffer in &plan.buffers {
            match buffer.role {
                DeviceRole::State(_) => report.state_bytes += buffer.bytes(),
                DeviceRole::Input(_) => report.input_bytes += buffer.bytes(),
                DeviceRole::Output(_) => report.output_bytes += buffer.bytes(),
                DeviceRole::Slot(_) => {}
            }
        }
        report.sum_up()
    }

    fn costing(all: Cost) -> Report {
        let Cost { contraction_flops, other_flops, normals, bytes_read, bytes_written } = all;
        Report { contraction_flops, other_flops, normals, bytes_read, bytes_written, ..Report::default() }
    }

    fn sum_up(self) -> Report {
        let peak_bytes = self.state_bytes + self.input_bytes + self.output_bytes + self.temporary_bytes;
        Report { peak_bytes, ..self }
    }
}

/// Of one launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    pub contraction_flops: u64,
    pub other_flops: u64,
    pub normals: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), |all, one| Cost {
            contraction_flops: all.contraction_flops + one.contraction_flops,
            other_flops: all.other_flops + one.other_flops,
            normals: all.normals + one.normals,
            bytes_read: all.bytes_read + one.bytes_read,
            bytes_written: all.bytes_written + one.bytes_written,
        })
    }
}

impl Cost {
    pub fn of(plan: &Plan, launch: &Launch) -> Cost {
        let kernel = &plan.kernels[launch.kernel];
        let mut cost = Cost::default();
        match &kernel.body {
            Body::Gemm(gemm) => cost.contraction_flops = gemm_flops(gemm),
            Body::Loops(loops) => cost.other_flops = loop_flops(loops),
            Body::Normals(n) => cost.normals = (n.steps * n.per * n.directions) as u64,
        }
        for (arg, &buffer) in kernel.args.iter().zip(&launch.args) {
            cost.touch(arg.access, plan.buffers[buffer].bytes());
        }
        cost
    }

    /// Of a launch on a device.
    pub fn of_device(plan: &DevicePlan, launch: &DeviceLaunch) -> Cost {
        let kernel = &plan.kernels[launch.kernel];
        let Work { contraction_flops, other_flops, normals } = kernel.work;
        let mut cost = Cost { contraction_flops, other_flops, normals, ..Cost::default() };
        for (arg, &buffer) in kernel.args.iter().zip(&launch.args) {
            cost.touch(arg.access, plan.buffers[buffer].bytes());
        }
        cost
    }

    fn touch(&mut self, access: Access, bytes: usize) {
        let bytes = bytes as u64;
        let (read, written) = match access {
            Access::Read => (bytes, 0),
            Access::Write => (0, bytes),
            Access::ReadWrite => (bytes, bytes),
        };
        self.bytes_read += read;
        self.bytes_written += written;
    }
}

/// What a kernel is, in a word.
pub fn kind(kernel: &Kernel) -> &'static str {
    match kernel.body {
        Body::Loops(_) => "loops",
        Body::Gemm(_) => "contraction",
        Body::Normals(_) => "noise",
    }
}

fn gemm_flops(gemm: &Gemm) -> u64 {
    let loops = gemm.batch.iter().chain(&gemm.more_k).map(|l| l.size);
    let sizes = loops.chain([gemm.m.size, gemm.n.size, gemm.k.size]);
    2 * sizes.map(|n| n as u64).product::<u64>()
}

fn loop_flops(loops: &Loops) -> u64 {
    let points = |loops: &[pushforward_plan::kernel::Loop]| loops.iter().map(|l| l.size as u64).product::<u64>();
    let (outer, row) = (points(&loops.outer), points(&loops.row));
    let sections = loops.sections.iter().map(|section| match section {
        Section::Once(insts) => count(insts) * outer,
        Section::Row(insts) => count(insts) * outer * row,
    });
    sections.sum()
}

fn count(insts: &[Inst]) -> u64 {
    let counts = insts.iter().filter(|inst| match inst.kind {
        InstKind::Prim(..) | InstKind::Reduce(..) => true,
        InstKind::Const(_) | InstKind::Index(_) | InstKind::Load(_) | InstKind::Store(..) => false,
        InstKind::Keep(..) | InstKind::Recall(_) => false,
        InstKind::Draw(_) => unreachable!("verified: noise has kernels of its own"),
    });
    counts.count() as u64
}

#[cfg(test)]
mod tests {
    use pushforward_plan::kernel::{Arg, Buffer, Cut, ElementType, GemmDim, GemmLoop, Lanes, Loop, Normals, Prim, Reduction, Stage};

    use super::*;

    /// Counted by hand: 3 products of 4x5 by 5x6, a row sum of exp over [4, 6], noise of [4, 6] in 2 directions.
    #[test]
    fn costs_are_counted_from_the_kernels() {
        let buffer = |name: &str, len: usize, role| Buffer {
            name: name.into(),
            dtype: ElementType::F32,
            dims: vec![("I".into(), len)],
            role,
            live: (0, 0),
        };
        let arg = |access| Arg { dtype: ElementType::F32, access };
        let inst = |reg, kind| Inst { reg, dtype: ElementType::F32, kind };
        let gemm = Gemm {
            dtype: ElementType::F32,
            a: 0,
            b: 1,
            c: 2,
            batch: vec![GemmLoop { axis: "G".into(), size: 3, a: 0, b: 0, c: 0 }],
            m: GemmDim { axes: "M".into(), size: 4, a: 0, b: 0, c: 0 },
            n: GemmDim { axes: "N".into(), size: 6, a: 0, b: 0, c: 0 },
            k: GemmDim { axes: "K".into(), size: 5, a: 0, b: 0, c: 0 },
            more_k: vec![],
            cut: Cut::None,
        };
        let loops = Loops {
            outer: vec![Loop { axis: "I".into(), size: 4 }],
            row: vec![Loop { axis: "J".into(), size: 6 }],
            lanes: Lanes::Row,
            scratch: vec![],
            sections: vec![
                Section::Row(vec![
                    inst(0, InstKind::Index(1)),
                    inst(1, InstKind::Prim(Prim::Exp, vec![0])),
                    inst(2, InstKind::Reduce(Reduction::Sum, 1)),
                ]),
                Section::Once(vec![inst(3, InstKind::Prim(Prim::Log, vec![2]))]),
            ],
        };
        let noise = Normals { dtype: ElementType::F32, steps: 4, per: 6, directions: 2 };
        let kernel = |name: &str, args, body| Kernel { name: name.into(), about: String::new(), args, body };
        let launch = |kernel, args| Launch { kernel, args, stream: 0, part: 0 };
        let plan = Plan {
            name: "hand".into(),
            buffers: vec![
                buffer("x", 60, Role::Input(0)),
                buffer("w", 90, Role::State(0)),
                buffer("y", 72, Role::Temp(0)),
                buffer("z", 4, Role::Output(0)),
            ],
            kernels: vec![
                kernel("product", vec![arg(Access::Read), arg(Access::Read), arg(Access::Write)], Body::Gemm(gemm)),
                kernel("sums", vec![arg(Access::Read), arg(Access::ReadWrite)], Body::Loops(loops)),
                kernel("noise", vec![arg(Access::Write)], Body::Normals(noise)),
            ],
            stages: vec![Stage { slice: None, launches: vec![launch(0, vec![0, 1, 2]), launch(1, vec![2, 3]), launch(2, vec![2])] }],
            arena_bytes: 320,
        };
        let expected = Report {
            contraction_flops: 2 * 3 * 4 * 5 * 6,
            other_flops: 2 * 24 + 4,
            normals: 48,
            bytes_read: 4 * (60 + 90 + 72 + 4),
            bytes_written: 4 * (72 + 4 + 72),
            kernels: 3,
            launches: 3,
            stages: 1,
            state_bytes: 360,
            input_bytes: 240,
            output_bytes: 16,
            temporary_bytes: 320,
            peak_bytes: 936,
        };
        assert_eq!(Report::of(&plan), expected);
    }
}
