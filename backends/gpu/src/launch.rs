//! `launch.cu`: C++ that a program compiles in to run plans on CUDA: a struct of pointers to tensors, and for each entry a function that launches
//! its kernels on a stream. It allocates nothing and waits for nothing, so a stream that is captured into a graph takes it. Read [`source`].

use std::collections::BTreeSet;

use pushforward_plan::device::kernel::*;
use pushforward_plan::kernel::ElementType;

use crate::cuda;
use crate::names::{self, Names};

/// Where slots begin, and the scalars before them. CUDA's own allocations are aligned so.
const ALIGNMENT: usize = 256;

/// Plans of one model, by entry, as one C++ file. Kernels of one name are one kernel; their texts are compiled beside it.
pub fn source(model: &str, entries: &[(&str, &DevicePlan)]) -> String {
    let namespace = names::free(model, &mut BTreeSet::new());
    let tensors = Tensors::of(entries);
    let mut text = head(&namespace, entries);
    let mut declared = BTreeSet::new();
    for (_, plan) in entries {
        if !plan.scalars.is_empty() && declared.insert(cuda::scalars_type(&names::scalars(plan))) {
            text += &format!("\n{}", cuda::scalars(&names::scalars(plan)));
        }
    }
    text.push('\n');
    for (_, plan) in entries {
        for kernel in plan.kernels.iter().filter(|k| declared.insert(k.name.clone())) {
            let names = Names::of(plan, kernel);
            text += &format!("{};\n", cuda::signature(kernel, &names.args, &names.scalars));
        }
    }
    text += &format!("\nnamespace {namespace} {{\n\n{}", tensors.declared(entries));
    for (name, plan) in entries {
        text += &entry(&identifier(name), plan, &tensors);
    }
    text += &format!("\n}} // namespace {namespace}\n\n{}", run(&namespace, entries));
    text
}

fn head(namespace: &str, entries: &[(&str, &DevicePlan)]) -> String {
    let calls: String = entries
        .iter()
        .map(|(name, plan)| {
            format!(
                "//     {namespace}::{}({});\n",
                identifier(name),
                ["stream", "buffers"].into_iter().chain(parameters(plan).iter().map(|p| p.name.as_str())).collect::<Vec<_>>().join(", ")
            )
        })
        .collect();
    format!(
        "\
// Launches the kernels of `{namespace}`. Compile it together with kernels/*.cu, or include it in one file of a program; C++17.
//
//     {namespace}::Buffers buffers = ..; // device memory, allocated by the program; workspace aligned to {ALIGNMENT} bytes
{calls}//
// Nothing here allocates or waits: all of it may be captured into a graph. What a graph repeats has the scalars of its capture; to change them
// from run to run, capture `launch_<entry>` alone and call `set_<entry>_scalars` before each run of the graph.
#include \"pushforward.cuh\"
"
    )
}

/// A tensor at the border of some entry.
struct Tensor<'a> {
    name: String,
    buffer: &'a DeviceBuffer,
}

/// Inputs, parameters and outputs of all entries; what has a name, a kind and a shape in common is one.
struct Tensors<'a> {
    inputs: Vec<Tensor<'a>>,
    states: Vec<Tensor<'a>>,
    outputs: Vec<Tensor<'a>>,
}

impl<'a> Tensors<'a> {
    fn of(entries: &[(&str, &'a DevicePlan)]) -> Tensors<'a> {
        let mut taken = BTreeSet::from(["workspace".to_string()]);
        let mut tensors = Tensors { inputs: Vec::new(), states: Vec::new(), outputs: Vec::new() };
        for buffer in entries.iter().flat_map(|(_, plan)| &plan.buffers) {
            let list = match buffer.role {
                DeviceRole::Input(_) => &mut tensors.inputs,
                DeviceRole::State(_) => &mut tensors.states,
                DeviceRole::Output(_) => &mut tensors.outputs,
                DeviceRole::Slot(_) => continue,
            };
            if !list.iter().any(|t| same(t.buffer, buffer)) {
                list.push(Tensor { name: names::free(&buffer.name, &mut taken), buffer });
            }
        }
        tensors
    }

    /// The field for a buffer; none for temporaries.
    fn field(&self, buffer: &DeviceBuffer) -> Option<&str> {
        let list = match buffer.role {
            DeviceRole::Input(_) => &self.inputs,
            DeviceRole::State(_) => &self.states,
            DeviceRole::Output(_) => &self.outputs,
            DeviceRole::Slot(_) => return None,
        };
        list.iter().find(|t| same(t.buffer, buffer)).map(|t| t.name.as_str())
    }

    fn declared(&self, entries: &[(&str, &DevicePlan)]) -> String {
        let groups =
            [("Inputs", "const ", &self.inputs), ("Parameters, kept from run to run", "", &self.states), ("Outputs", "", &self.outputs)];
        let mut elements = String::from("// How many elements each tensor has.\nnamespace elements {\n");
        let mut fields = String::from("// Device memory, row by row in the order of the axes; conditions are 0 and 1.\nstruct Buffers {\n");
        for (title, constant, tensors) in groups.into_iter().filter(|g| !g.2.is_empty()) {
            fields += &format!("    // {title}\n");
            for Tensor { name, buffer } in tensors {
                elements += &format!("inline constexpr size_t {name} = {};\n", buffer.len());
                let dims: Vec<String> = buffer.dims.iter().map(|(axis, size)| format!("{axis}={size}")).collect();
                fields += &format!("    {constant}{}* {name}; // [{}]\n", cuda::memory(buffer.dtype), dims.join(", "));
            }
        }
        let bytes = entries.iter().map(|(_, plan)| workspace(plan)).max().unwrap_or(0).max(ALIGNMENT);
        format!(
            "{elements}}} // namespace elements\n\n// What temporaries take, of all entries.\ninline constexpr size_t workspace_bytes = {bytes};\n\n{fields}    \
             // {bytes} bytes for temporaries, which need not outlive a run\n    void* workspace;\n}};\n"
        )
    }
}

fn same(x: &DeviceBuffer, y: &DeviceBuffer) -> bool {
    x.name == y.name && x.dtype == y.dtype && x.dims == y.dims
}

/// Bytes of the workspace before each slot, and in all.
fn offsets(plan: &DevicePlan) -> (Vec<usize>, usize) {
    let fields: usize = plan.scalars.iter().map(|s| element_bytes(s.dtype).max(8)).sum();
    let mut end = fields.next_multiple_of(ALIGNMENT);
    let slots = plan.slots.iter().map(|bytes| {
        let start = end;
        end += bytes.next_multiple_of(ALIGNMENT);
        start
    });
    (slots.collect(), end)
}

fn workspace(plan: &DevicePlan) -> usize {
    offsets(plan).1
}

/// The parameter of a C++ function for a scalar.
struct Parameter {
    /// The struct's field.
    field: String,
    name: String,
    dtype: ElementType,
}

/// Of an entry's function: the step first, the seed last, as programs mostly keep one.
fn parameters(plan: &DevicePlan) -> Vec<Parameter> {
    let mut all: Vec<Parameter> = names::scalars(plan)
        .into_iter()
        .map(|(field, dtype)| Parameter { name: if field == "step" { "step_index".into() } else { field.clone() }, field, dtype })
        .collect();
    all.sort_by_key(|p| match p.field.as_str() {
        "step" => 0,
        "seed" => 2,
        _ => 1,
    });
    all
}

/// The functions of an entry.
fn entry(name: &str, plan: &DevicePlan, tensors: &Tensors) -> String {
    let parameters = parameters(plan);
    let declared: String = parameters.iter().map(|p| format!(", {} {}", host(p.dtype), p.name)).collect();
    // Where a step's number is told, too, one seed will do.
    let usual = if parameters.len() > 1 && declared.ends_with("int seed") { " = 0" } else { "" };
    let passed: String = parameters.iter().map(|p| format!(", {}", p.name)).collect();
    let ty = cuda::scalars_type(&names::scalars(plan));
    let mut text = format!("\nstatic void run_{name}(cudaStream_t stream, void* const* buffers, const void* scalars)\n{{\n");
    if !plan.kernels.iter().any(|k| !k.scalars.is_empty()) {
        text += "    (void)scalars;\n";
    }
    for launch in &plan.launches {
        text += &launched(plan, launch, &ty);
    }
    let (slots, _) = offsets(plan);
    text += &format!(
        "}}\n\n// All launches, in order, with the scalars that were set last.\nvoid launch_{name}(cudaStream_t stream, const Buffers& buffers)\n{{\n    void* const all[] = {{\n"
    );
    for buffer in &plan.buffers {
        let place = match buffer.role {
            DeviceRole::Slot(slot) => format!("(char*)buffers.workspace + {}", slots[slot]),
            DeviceRole::Input(_) | DeviceRole::State(_) | DeviceRole::Output(_) => {
                format!("(void*)buffers.{}", tensors.field(buffer).expect("every tensor at the border is a field"))
            }
        };
        text += &format!("        {place},\n");
    }
    text += &format!("        nullptr,\n    }};\n    run_{name}(stream, all, buffers.workspace);\n}}\n");
    if !plan.scalars.is_empty() {
        text += &format!("\nstatic __global__ void pf_set_{name}_scalars({ty}* to, {ty} value)\n{{\n    *to = value;\n}}\n");
        text += &format!("\nvoid set_{name}_scalars(cudaStream_t stream, const Buffers& buffers{declared})\n{{\n    {ty} value;\n");
        for p in &parameters {
            text += &format!("    value.{} = {};\n", p.field, p.name);
        }
        text += &format!("    PF_LAUNCH(pf_set_{name}_scalars, dim3(1), dim3(1), stream, ({ty}*)buffers.workspace, value);\n}}\n");
    }
    text += &format!("\nvoid {name}(cudaStream_t stream, const Buffers& buffers{declared}{usual})\n{{\n");
    if !plan.scalars.is_empty() {
        text += &format!("    set_{name}_scalars(stream, buffers{passed});\n");
    }
    text + &format!("    launch_{name}(stream, buffers);\n}}\n")
}

fn launched(plan: &DevicePlan, launch: &DeviceLaunch, scalars: &str) -> String {
    let kernel = &plan.kernels[launch.kernel];
    let mut args: Vec<String> =
        kernel.args.iter().zip(&launch.args).map(|(a, b)| format!("({}*)buffers[{b}]", cuda::memory(a.dtype))).collect();
    if !kernel.scalars.is_empty() {
        args.push(format!("(const {scalars}*)scalars"));
    }
    args.extend(launch.streams.iter().map(|s| format!("{s}u")));
    let (x, y) = kernel.grid;
    format!("    PF_LAUNCH({}, dim3({x}, {y}), dim3({}), stream, {});\n", kernel.name, kernel.block, args.join(", "))
}

/// By name, for other languages.
fn run(namespace: &str, entries: &[(&str, &DevicePlan)]) -> String {
    let mut text = String::from(
        "\
static bool pf_is(const char* x, const char* y)
{
    while (*x != 0 && *x == *y) {
        ++x;
        ++y;
    }
    return *x == *y;
}

// Launches an entry: `buffers` has a pointer for each buffer of its plan, in order, `scalars` are in device memory. Gives CUDA's error, or -1 for an
// unknown entry.
extern \"C\" int pf_run(const char* entry, cudaStream_t stream, void* const* buffers, const void* scalars)
{
",
    );
    for (name, _) in entries {
        text += &format!(
            "    if (pf_is(entry, \"{name}\")) {{\n        {namespace}::run_{}(stream, buffers, scalars);\n        return int(cudaGetLastError());\n    }}\n",
            identifier(name)
        );
    }
    text + "    return -1;\n}\n"
}

fn identifier(entry: &str) -> String {
    names::free(entry, &mut BTreeSet::new())
}

fn host(dtype: ElementType) -> &'static str {
    match dtype {
        ElementType::F32 => "float",
        ElementType::F64 => "double",
        ElementType::I32 => "int",
        ElementType::Bool => "bool",
    }
}
