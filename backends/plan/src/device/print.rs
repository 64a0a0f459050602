//! A device plan as text, for people and snapshots: what is bound, where temporaries lie, what is launched. Kernels are shown by those who spell
//! them. Read [`plan`].

use std::fmt::Write;

use super::kernel::{DeviceBuffer, DevicePlan, DeviceRole};

pub fn plan(plan: &DevicePlan) -> String {
    let mut text = format!("plan {}\n", plan.name);
    for scalar in &plan.scalars {
        line(&mut text, format_args!("scalar {}: {:?}", scalar.name, scalar.dtype));
    }
    for (slot, bytes) in plan.slots.iter().enumerate() {
        line(&mut text, format_args!("slot {slot}: {bytes} bytes"));
    }
    for buffer in &plan.buffers {
        let role = match buffer.role {
            DeviceRole::Input(_) => "input".into(),
            DeviceRole::State(_) => "parameter".into(),
            DeviceRole::Output(_) => "output".into(),
            DeviceRole::Slot(slot) => format!("slot {slot}, launches {} to {}", buffer.live.0, buffer.live.1),
        };
        line(&mut text, format_args!("{}: {}", shape(buffer), role));
    }
    for (i, launch) in plan.launches.iter().enumerate() {
        let kernel = &plan.kernels[launch.kernel];
        let args = launch.args.iter().map(|&b| plan.buffers[b].name.as_str()).collect::<Vec<_>>().join(", ");
        let streams = launch.streams.iter().map(|s| format!(", stream {s}")).collect::<String>();
        line(
            &mut text,
            format_args!("launch {i}: {}({args}){streams}, {} x {} blocks of {}", kernel.name, kernel.grid.0, kernel.grid.1, kernel.block),
        );
    }
    text
}

fn shape(buffer: &DeviceBuffer) -> String {
    let dims = buffer.dims.iter().map(|(axis, size)| format!("{axis}={size}")).collect::<Vec<_>>().join(", ");
    format!("{} {:?}[{dims}]", buffer.name, buffer.dtype)
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(text, "  {what}").expect("a string takes everything");
}
