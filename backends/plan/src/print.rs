//! The text of a plan, for people and snapshots: buffers, kernels as loop nests over scalars, launches. The same text for the same plan; JSON
//! is what `serde` makes of [`Plan`]. It decides nothing and verifies nothing. Read [`plan`].

use std::fmt::Write;

use crate::kernel::*;

/// The whole plan.
pub fn plan(plan: &Plan) -> String {
    let mut out = String::new();
    let launches: usize = plan.stages.iter().map(|s| s.launches.len()).sum();
    let counts = [(plan.kernels.len(), "kernel"), (launches, "launch"), (plan.stages.len(), "stage")];
    let counts = counts.map(|(n, what)| format!("{n} {what}{}", plural(n, what))).join(", ");
    line(&mut out, 0, format_args!("plan {}: {counts}, {} bytes of temporaries", plan.name, plan.arena_bytes));
    out.push('\n');
    for b in &plan.buffers {
        line(&mut out, 0, format_args!("{}", buffer(b)));
    }
    for k in &plan.kernels {
        out.push('\n');
        out.push_str(&kernel(k));
    }
    for (s, stage) in plan.stages.iter().enumerate() {
        out.push('\n');
        match &stage.slice {
            Some(slice) => {
                line(&mut out, 0, format_args!("stage {s}, {} of {} examples along {} at a time:", slice.chunk, slice.size, slice.axis))
            }
            None => line(&mut out, 0, format_args!("stage {s}:")),
        }
        for l in &stage.launches {
            let args: Vec<&str> = l.args.iter().map(|&b| plan.buffers[b].name.as_str()).collect();
            let stream = match plan.kernels[l.kernel].body {
                Body::Normals(_) => format!(", stream {}", l.stream),
                Body::Loops(_) | Body::Gemm(_) => String::new(),
            };
            let part = if l.part > 0 { format!(", {} steps a part", l.part) } else { String::new() };
            line(&mut out, 1, format_args!("{}({}){stream}{part}", plan.kernels[l.kernel].name, args.join(", ")));
        }
    }
    out
}

fn plural(n: usize, what: &str) -> &'static str {
    match (n, what.ends_with('h')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    }
}

fn line(out: &mut String, depth: usize, text: std::fmt::Arguments) {
    writeln!(out, "{:1$}{text}", "", 4 * depth).expect("a string takes all text");
}

fn dtype(d: ElementType) -> &'static str {
    pushforward_ir::DType::from(d).name()
}

fn buffer(b: &Buffer) -> String {
    let dims = b.dims.iter().map(|(axis, size)| format!("{axis}={size}")).collect::<Vec<_>>().join(", ");
    let role = match b.role {
        Role::Input(i) => format!("input {i}"),
        Role::State(i) => format!("parameter {i}"),
        Role::Output(i) => format!("output {i}"),
        Role::Temp(at) => format!("at {at}, stages {} to {}", b.live.0, b.live.1),
    };
    format!("{}: {}[{dims}], {role}", b.name, dtype(b.dtype))
}

/// One kernel.
pub fn kernel(k: &Kernel) -> String {
    let mut out = String::new();
    line(&mut out, 0, format_args!("// {}", k.about));
    let arg = |(i, a): (usize, &Arg)| {
        let access = match a.access {
            Access::Read => "",
            Access::Write => "out ",
            Access::ReadWrite => "inout ",
        };
        format!("{access}a{i}: {}", dtype(a.dtype))
    };
    let args = k.args.iter().enumerate().map(arg).collect::<Vec<_>>().join(", ");
    line(&mut out, 0, format_args!("kernel {}({args})", k.name));
    match &k.body {
        Body::Loops(loops) => nest(&mut out, loops),
        Body::Gemm(gemm) => product(&mut out, gemm),
        Body::Normals(n) => {
            let row = if k.args.len() > 3 { ", from row a3" } else { "" };
            line(&mut out, 1, format_args!("a0[direction {}, {} * {}] = normal(seed a1, step a2{row})", n.directions, n.steps, n.per));
        }
    }
    out
}

fn product(out: &mut String, g: &Gemm) {
    let walk = |name: &str, size: usize, a: usize, b: usize, c: usize| format!("{name} in {size} (a {a}, b {b}, c {c})");
    for l in &g.batch {
        line(out, 1, format_args!("for {}", walk(&l.axis, l.size, l.a, l.b, l.c)));
    }
    line(out, 1, format_args!("a{}[m, n] = sum over k of a{}[m, k] * a{}[k, n], {}", g.c, g.a, g.b, dtype(g.dtype)));
    for (role, d) in [("m", &g.m), ("n", &g.n), ("k", &g.k)] {
        line(out, 2, format_args!("{role}: {}", walk(&d.axes, d.size, d.a, d.b, d.c)));
    }
    for l in &g.more_k {
        line(out, 2, format_args!("and over {}", walk(&l.axis, l.size, l.a, l.b, l.c)));
    }
    let cut = match g.cut {
        Cut::Batch(i) => format!("along {}", g.batch[i].axis),
        Cut::M { per } => format!("m, {per} at a time"),
        Cut::N { per } => format!("n, {per} at a time"),
        Cut::None => "nowhere".into(),
    };
    line(out, 2, format_args!("cut: {cut}"));
}

fn nest(out: &mut String, loops: &Loops) {
    let each = |l: &Loop| format!("{} in {}", l.axis, l.size);
    let lanes = match loops.lanes {
        Lanes::Row => " // side by side: the last loop of the row",
        Lanes::Outer => " // side by side: the last of these",
        Lanes::Scalar => "",
    };
    let outer = loops.outer.iter().map(each).collect::<Vec<_>>().join(", ");
    line(out, 1, format_args!("for {}{lanes}", if outer.is_empty() { "once" } else { &outer }));
    let axes: Vec<&str> = loops.outer.iter().chain(&loops.row).map(|l| l.axis.as_str()).collect();
    for section in &loops.sections {
        let (insts, depth) = match section {
            Section::Once(insts) => (insts, 2),
            Section::Row(insts) => {
                line(out, 2, format_args!("for {}", loops.row.iter().map(each).collect::<Vec<_>>().join(", ")));
                (insts, 3)
            }
        };
        for inst in insts {
            line(out, depth, format_args!("{}", instruction(inst, &axes)));
        }
    }
}

fn instruction(inst: &Inst, axes: &[&str]) -> String {
    let place = |p: &Place| {
        let terms = p.strides.iter().zip(axes).filter(|(s, _)| **s > 0);
        let terms: Vec<String> = terms.map(|(s, a)| if *s == 1 { a.to_string() } else { format!("{s} {a}") }).collect();
        format!("a{}[{}]", p.arg, if terms.is_empty() { "0".into() } else { terms.join(" + ") })
    };
    let list = |regs: &[Reg]| regs.iter().map(|r| format!("%{r}")).collect::<Vec<_>>().join(", ");
    let value = match &inst.kind {
        InstKind::Store(p, x) => return format!("{} = %{x}", place(p)),
        InstKind::Keep(slot, x) => return format!("row {slot} = %{x}"),
        InstKind::Const(number) => format!("{number:?}"),
        InstKind::Index(l) => format!("index {}", axes[*l]),
        InstKind::Load(p) => place(p),
        InstKind::Draw(draw) => format!("normal of stream {}, seed %{}, step %{}", draw.stream, draw.seed, draw.step),
        InstKind::Prim(prim, args) => format!("{}({})", format!("{prim:?}").to_lowercase(), list(args)),
        InstKind::Reduce(Reduction::Sum, x) => format!("sum of %{x}"),
        InstKind::Reduce(Reduction::Max, x) => format!("max of %{x}"),
        InstKind::Recall(slot) => format!("row {slot}"),
    };
    format!("%{}: {} = {value}", inst.reg, dtype(inst.dtype))
}
