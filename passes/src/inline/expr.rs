//! Expressions: operators, ops, calls. Every value goes through [`Elaborator::op`], which types it by the IR's one `infer`.

use std::collections::HashMap;

use pushforward_ir::ast::{Arm, AxisArgs, Binary, Expr, ExprKind, Function, Name, Unary};
use pushforward_ir::axis::AxisId;
use pushforward_ir::infer::TypeError;
use pushforward_ir::op::{Affine, Class, Noise, Number};
use pushforward_ir::{AxisSet, DType, Diagnostic, Op, Span, Type, Value};

use super::{Elaborator, Failed, Frame, MAX_DEPTH, Result, closest};

impl<'a> Elaborator<'a> {
    /// The value of an expression. `want`: the dtype that a bare number takes.
    pub(super) fn expr(&mut self, e: &'a Expr, want: Option<DType>) -> Result<Value> {
        self.count(e.at.0)?;
        if self.depth == MAX_DEPTH {
            self.error(e.at.0, format!("expressions nest more than {MAX_DEPTH} deep, through all calls"))
                .hint("give parts of them names: `y = ..;`");
            return Err(Failed);
        }
        self.depth += 1;
        let value = self.nested(e, want);
        self.depth -= 1;
        value
    }

    fn nested(&mut self, e: &'a Expr, want: Option<DType>) -> Result<Value> {
        let at = e.at.0;
        match &e.kind {
            ExprKind::Name(name) => self.name(at, name, want),
            ExprKind::Number(v, dtype) => {
                let dtype = dtype.map(|d| self.dtype(d)).or(want).unwrap_or(self.bindings.float);
                self.number(at, *v, dtype)
            }
            ExprKind::Size(axis) => {
                let size = self.extent(axis)?;
                self.number(at, size, want.unwrap_or(self.bindings.float))
            }
            ExprKind::Unary(op, x) => {
                let x = self.expr(x, want)?;
                self.op(at, if *op == Unary::Neg { Op::Neg } else { Op::Not }, &[x])
            }
            ExprKind::Binary(op, l, r) => {
                let args = self.operands(&[l, r], want)?;
                let both = (self.builder.axes_of(args[0]), self.builder.axes_of(args[1]));
                if !both.0.is_empty() && !both.1.is_empty() && (both.0 & both.1).is_empty() {
                    self.warn_outer(at, binary(*op).name(), &args);
                }
                self.op(at, binary(*op), &args)
            }
            ExprKind::Call { label, name, axes, args } => self.call(e, label.as_ref(), name, axes, args, want),
            ExprKind::Match { option, arms } => {
                let chosen = self.chosen(option, arms)?;
                self.expr(chosen, want)
            }
        }
    }

    fn name(&mut self, at: Span, name: &str, want: Option<DType>) -> Result<Value> {
        if let Some(value) = self.frame().values.get(name) {
            return value.ok_or(Failed);
        }
        let counter = self.frame().counters.get(name).map(|&i| i as f64);
        if let Some(v) = counter.or_else(|| self.sizes.get(name).copied()) {
            return self.number(at, v, want.unwrap_or(self.bindings.float));
        }
        let hint = match closest(name, self.frame().values.keys().map(String::as_str)) {
            Some(c) => format!("did you mean `{c}`?"),
            None => "values are named by `name = ..;`, inputs in the model's brackets".to_string(),
        };
        self.error(at, format!("no value is called `{name}` here")).hint(&hint);
        Err(Failed)
    }

    fn number(&mut self, at: Span, v: f64, dtype: DType) -> Result<Value> {
        let (fits, hint) = match dtype {
            DType::F32 | DType::F64 => (true, ""),
            DType::I32 => (f64::from(v as i32) == v, "write a whole number of 32 bits, or cast the other operand"),
            DType::Bool => (v == 0.0 || v == 1.0, "a bool is 0 or 1"),
        };
        if !fits {
            self.error(at, format!("{v} is no {}", dtype.name())).hint(hint);
            return Err(Failed);
        }
        self.op(at, Op::Const(Number::new(v, dtype)), &[])
    }

    /// Operands, among which bare numbers take the dtype of the first that is none.
    fn operands(&mut self, exprs: &[&'a Expr], want: Option<DType>) -> Result<Vec<Value>> {
        let bare: Vec<bool> = exprs.iter().map(|e| self.is_bare(e)).collect();
        let mut values: Vec<Option<Result<Value>>> = vec![None; exprs.len()];
        for (i, e) in exprs.iter().enumerate().filter(|(i, _)| !bare[*i]) {
            values[i] = Some(self.expr(e, want));
        }
        let meets = values.iter().flatten().filter_map(|v| Some(self.builder.ty((*v).ok()?).dtype)).find(|&d| d != DType::Bool);
        for (i, e) in exprs.iter().enumerate().filter(|(i, _)| bare[*i]) {
            values[i] = Some(self.expr(e, meets.or(want)));
        }
        values.into_iter().map(|v| v.expect("every operand is one or the other")).collect()
    }

    /// A number without a dtype of its own.
    fn is_bare(&self, e: &Expr) -> bool {
        match &e.kind {
            ExprKind::Number(_, dtype) => dtype.is_none(),
            ExprKind::Size(_) => true,
            ExprKind::Name(n) => !self.frame().values.contains_key(n),
            ExprKind::Unary(_, x) => self.is_bare(x),
            ExprKind::Binary(_, l, r) => self.is_bare(l) && self.is_bare(r),
            ExprKind::Call { .. } | ExprKind::Match { .. } => false,
        }
    }

    /// What a `match` says of the choice that was made.
    pub(super) fn chosen<'m, T>(&mut self, option: &Name, arms: &'m [Arm<T>]) -> Result<&'m T> {
        let Some((chosen, all)) = self.options.get(&option.text).cloned() else {
            let hint = match closest(&option.text, self.options.keys().map(String::as_str)) {
                Some(c) => format!("did you mean `{c}`?"),
                None => "declare it: `option norm = local | none;`".to_string(),
            };
            self.error(option.at.0, format!("no option is called `{}`", option.text)).hint(&hint);
            return Err(Failed);
        };
        let named: Vec<&Name> = arms.iter().flat_map(|arm| &arm.choices).collect();
        for (i, name) in named.iter().enumerate() {
            if let Some(first) = named[..i].iter().find(|other| other.text == name.text) {
                self.second(name, "choice", Some(first.at.0));
                return Err(Failed);
            }
            if !all.contains(&name.text) {
                let message = format!("the option `{}` has no choice `{}`", option.text, name.text);
                self.error(name.at.0, message).hint(&format!("it has {}", all.join(", ")));
                return Err(Failed);
            }
        }
        match arms.iter().find(|arm| arm.choices.iter().any(|name| name.text == chosen)) {
            Some(arm) => Ok(&arm.body),
            None => {
                let message = format!("`match {}` says nothing of the choice `{chosen}`", option.text);
                self.error(option.at.0, message).hint(&format!("add an arm: `{chosen} => ..`"));
                Err(Failed)
            }
        }
    }

    // ---- calls

    fn call(
        &mut self,
        e: &'a Expr,
        label: Option<&'a Name>,
        name: &'a Name,
        axes: &'a AxisArgs,
        args: &'a [Expr],
        want: Option<DType>,
    ) -> Result<Value> {
        let function = self.functions.get(name.text.as_str()).copied();
        let result = match function {
            Some(f) => self.call_function(e.at.0, label, f, axes, args),
            None => self.call_op(e.at.0, label, name, axes, args, want),
        }?;
        if let Some(label) = label {
            let scoped = self.label(Some(label), "")?;
            self.builder.program_mut().names.insert(scoped, result);
        }
        Ok(result)
    }

    fn call_function(&mut self, at: Span, label: Option<&Name>, f: &'a Function, axes: &AxisArgs, args: &'a [Expr]) -> Result<Value> {
        let name = &f.name.text;
        // The first frame is the model's.
        if let Some(first) = self.frames.iter().skip(1).position(|frame| frame.function == *name) {
            let way: Vec<&str> = self.frames[first + 1..].iter().map(|frame| frame.function.as_str()).chain([name.as_str()]).collect();
            let message = format!("`{name}` calls itself: {}", way.join(" -> "));
            self.error(at, message).hint("there is no recursion; equal blocks are written with `repeat`");
            return Err(Failed);
        }
        let AxisArgs::List(given) = axes else {
            self.error(at, format!("`{name}` is a function; its brackets take a list of axes")).hint("write `[A, B]`");
            return Err(Failed);
        };
        let fits = if f.variadic { given.len() + 1 >= f.axes.len() } else { given.len() == f.axes.len() };
        if !fits {
            let wants = f.axes.iter().map(|a| a.text.as_str()).collect::<Vec<_>>().join(", ");
            let dots = if f.variadic { ".." } else { "" };
            let message = format!("`{name}` takes the axes [{wants}{dots}], got {} of them", given.len());
            self.error(at, message).hint("write one for each, in order");
            return Err(Failed);
        }
        if args.len() != f.params.len() {
            let wants = f.params.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("`{name}` takes the arguments ({wants}), got {} of them", args.len());
            self.error(at, message).hint("write one for each, in order");
            return Err(Failed);
        }
        let mut bound: HashMap<String, Vec<AxisId>> = HashMap::new();
        for (i, param) in f.axes.iter().enumerate() {
            let last = f.variadic && i + 1 == f.axes.len();
            let names = if last { &given[i..] } else { &given[i..i + 1] };
            bound.insert(param.text.clone(), self.axis_list(names)?);
        }
        let values: Vec<Result<Value>> = args.iter().map(|a| self.expr(a, None)).collect();
        let values = values.into_iter().collect::<Result<Vec<_>>>()?;
        let scope = match label {
            Some(_) => self.label(label, "")?,
            None => self.frame().scope.clone(),
        };
        let of_args = values.iter().fold(AxisSet::EMPTY, |s, &v| s | self.builder.axes_of(v));
        let busy = bound.values().fold(of_args, |s, atoms| s | AxisSet::of(atoms.iter().copied()));
        let origin = Some(self.set_origin(at));
        self.frames.push(Frame {
            function: name.clone(),
            axes: bound,
            values: f.params.iter().zip(&values).map(|(p, &v)| (p.text.clone(), Some(v))).collect(),
            counters: HashMap::new(),
            scope,
            named: label.is_some(),
            busy,
            origin,
        });
        let result = self.block(&f.body);
        let own: AxisSet = self.own_axes();
        let result = match result {
            Ok(Some(v)) => {
                let escaped = self.builder.axes_of(v) & (own - of_args);
                if escaped.is_empty() {
                    Ok(v)
                } else {
                    let message = format!(
                        "the result of `{name}`, {}, depends on {}, which is local to it",
                        self.builder.ty(v).show(&self.builder.program().axes),
                        self.builder.program().axes.show(escaped)
                    );
                    let place = f.body.result.as_ref().map_or(f.at.0, |r| r.at.0);
                    self.error(place, message).hint("rename it to an axis that the caller knows: `rename[E -> C](..)`");
                    Err(Failed)
                }
            }
            Ok(None) => {
                self.error(f.at.0, format!("the function `{name}` has no result")).hint("end its body with an expression, without `;`");
                Err(Failed)
            }
            Err(Failed) => Err(Failed),
        };
        self.frames.pop();
        result
    }

    /// Atoms declared by the present frame itself.
    fn own_axes(&self) -> AxisSet {
        let frame = self.frame();
        let outside: AxisSet = self.axes.values().flatten().flatten().copied().collect();
        let declared: AxisSet = frame.axes.values().flatten().copied().collect();
        let inherited = self.frames[..self.frames.len() - 1].iter().fold(AxisSet::EMPTY, |s, f| s | f.busy);
        declared - outside - inherited
    }

    fn call_op(
        &mut self,
        at: Span,
        label: Option<&'a Name>,
        name: &'a Name,
        axes: &'a AxisArgs,
        args: &'a [Expr],
        want: Option<DType>,
    ) -> Result<Value> {
        let text = name.text.as_str();
        let Some(info) = Op::ALL.iter().find(|i| i.name == text && !HIDDEN.contains(&i.name)) else {
            let known: Vec<&str> = self.functions.keys().copied().chain(Op::ALL.iter().map(|i| i.name)).collect();
            let hint = match closest(text, known.iter().copied()) {
                Some(c) => format!("did you mean `{c}`?"),
                None => {
                    let mut known = known;
                    known.retain(|name| !HIDDEN.contains(name));
                    known.sort_unstable();
                    format!("known are {}", known.join(", "))
                }
            };
            self.error(name.at.0, format!("no op and no function is called `{text}`")).hint(&hint);
            return Err(Failed);
        };
        if let Some(contraction) = self.sum_of_product(at, text, axes, args)? {
            return Ok(contraction);
        }
        let want_float = want.filter(|d| d.is_float());
        let want = match info.class {
            Class::Arith | Class::Float | Class::Slow | Class::Mark => want,
            _ => None,
        };
        let values = self.operands(&args.iter().collect::<Vec<_>>(), want)?;
        if let Some(op) = Op::plain(text) {
            self.no_axes(at, text, axes)?;
            return self.op(at, op, &values);
        }
        let op = match (text, axes) {
            ("activity", AxisArgs::List(l)) if l.is_empty() => {
                let name = self.activity_name(label)?;
                Op::Activity(name)
            }
            ("sum" | "max", AxisArgs::List(l)) => {
                let over = self.axis_set(text, l)?;
                match (&values[..], over.is_empty() && !l.is_empty()) {
                    // Over the empty tuple there is one element.
                    ([x], true) => return Ok(*x),
                    _ if text == "sum" => Op::Sum(over),
                    _ => Op::Max(over),
                }
            }
            ("contract", AxisArgs::List(l)) => Op::Contract(self.axis_set(text, l)?),
            ("iota", AxisArgs::List(l)) => match self.axis_list(l)?[..] {
                [a] => Op::Iota(a),
                _ => return self.bracket(at, "iota", "one axis that is no tuple", "iota[K]()"),
            },
            ("gather", AxisArgs::List(l)) => match self.axis_list(l)?[..] {
                [a] => Op::Gather(a),
                _ => return self.bracket(at, "gather", "one axis that is no tuple", "gather[V](table, index)"),
            },
            ("delta", AxisArgs::List(l)) if l.len() == 2 => return self.delta(at, &l[0], &l[1]),
            ("rename", AxisArgs::Rename(pairs)) => {
                let mut atoms = Vec::new();
                for (from, to) in pairs {
                    atoms.extend(self.pair(at, from, to)?);
                }
                Op::rename(atoms)
            }
            ("window", AxisArgs::Window { axis, terms, offset }) => {
                let mut flat = Vec::new();
                for (factor, a) in terms {
                    match self.axis(a)?[..] {
                        [atom] => flat.push((*factor, atom)),
                        _ => return self.bracket(at, "window", "axes that are no tuples", WINDOW),
                    }
                }
                match self.axis(axis)?[..] {
                    [atom] => Op::Window(Box::new(Affine { axis: atom, terms: flat, offset: *offset })),
                    _ => return self.bracket(at, "window", "axes that are no tuples", WINDOW),
                }
            }
            ("cast", AxisArgs::List(l)) if l.len() == 1 && DType::parse(&l[0].text).is_some() => {
                let to = DType::parse(&l[0].text).expect("just checked");
                Op::Cast(self.dtype(to))
            }
            ("normal", AxisArgs::List(order) | AxisArgs::Along { axes: order, .. }) => {
                let stream = label.and_then(|l| l.text.strip_prefix("stream")).and_then(|s| s.parse().ok()).unwrap_or(0);
                let direction = match axes {
                    AxisArgs::Along { along, .. } => match self.axis(&order[*along])?[..] {
                        [atom] => Some(atom),
                        _ => {
                            return self.bracket(
                                at,
                                "normal",
                                "one axis that is no tuple behind `along`",
                                "normal[along K, N](seed, step)",
                            );
                        }
                    },
                    AxisArgs::List(_) | AxisArgs::Rename(_) | AxisArgs::Window { .. } => None,
                };
                let dtype = want_float.unwrap_or(self.bindings.float);
                Op::Normal(Box::new(Noise { stream, order: self.axis_list(order)?, direction, dtype }))
            }
            ("rename", _) => return self.bracket(at, "rename", "pairs of axes", "rename[A -> B](x)"),
            ("window", _) => return self.bracket(at, "window", "a position", WINDOW),
            ("delta", _) => return self.bracket(at, "delta", "two axes", "delta[A, B]()"),
            ("cast", _) => return self.bracket(at, "cast", "a dtype", "cast[f32](x)"),
            ("iota" | "gather", _) => return self.bracket(at, text, "one axis", &format!("{text}[K](..)")),
            ("activity", _) => return self.bracket(at, text, "nothing", "activity(x)"),
            _ => return self.bracket(at, text, "a list of axes", &format!("{text}[A, B](..)")),
        };
        self.op(at, op, &values)
    }

    fn bracket(&mut self, at: Span, op: &str, wants: &str, example: &str) -> Result<Value> {
        self.error(at, format!("`{op}` wants {wants} in its brackets")).hint(&format!("write `{example}`"));
        Err(Failed)
    }

    fn no_axes(&mut self, at: Span, op: &str, axes: &AxisArgs) -> Result<()> {
        if matches!(axes, AxisArgs::List(l) if l.is_empty()) {
            return Ok(());
        }
        self.error(at, format!("`{op}` takes no axes")).hint("leave the brackets out");
        Err(Failed)
    }

    /// `sum[A](x * y)` is a contraction: no product is ever formed.
    fn sum_of_product(&mut self, at: Span, name: &str, axes: &'a AxisArgs, args: &'a [Expr]) -> Result<Option<Value>> {
        let ("sum", AxisArgs::List(list), [arg]) = (name, axes, args) else { return Ok(None) };
        let mut factors = Vec::new();
        product(arg, &mut factors);
        if factors.len() < 2 {
            return Ok(None);
        }
        let values = self.operands(&factors, None)?;
        let over = self.axis_set(name, list)?;
        let types: Vec<Type> = values.iter().map(|&v| self.builder.ty(v)).collect();
        let join = types.iter().fold(AxisSet::EMPTY, |join, t| join | t.axes);
        if let Some(absent) = (over - join).iter().next() {
            let axes = &self.builder.program().axes;
            let factors: Vec<String> = types.iter().map(|t| t.show(axes)).collect();
            let message =
                format!("`sum` over {}: no factor of the product depends on it; factors: {}", axes[absent].name, factors.join(", "));
            self.error(at, message).hint("sum over axes that a factor has; a constant factor is written as `size(A) *`");
            return Err(Failed);
        }
        if let [l, r] = types[..]
            && !l.axes.is_empty()
            && !r.axes.is_empty()
            && (l.axes & r.axes).is_empty()
        {
            self.warn_outer(arg.at.0, "mul", &values);
        }
        let dense = values.iter().filter(|&&v| !self.builder.axes_of(v).is_empty()).count();
        let floats = values.iter().all(|&v| self.builder.ty(v).dtype.is_float());
        if dense == values.len() && floats && !over.is_empty() {
            return self.op(at, Op::Contract(over), &values).map(Some);
        }
        let (first, rest) = values.split_first().expect("two factors at least");
        let product = rest.iter().try_fold(*first, |l, &r| self.op(at, Op::Mul, &[l, r]))?;
        if over.is_empty() {
            return Ok(Some(product));
        }
        self.op(at, Op::Sum(over), &[product]).map(Some)
    }

    /// Whether two indices are equal. The one index of the empty tuple is.
    fn delta(&mut self, at: Span, a: &Name, b: &Name) -> Result<Value> {
        let mut result = None;
        for (x, y) in self.pair(at, a, b)? {
            let d = self.op(at, Op::Delta((x, y)), &[])?;
            result = Some(match result {
                Some(r) => self.op(at, Op::And, &[r, d])?,
                None => d,
            });
        }
        result.map_or_else(|| self.number(at, 1.0, DType::Bool), Ok)
    }

    /// The atoms of two axes side by side.
    fn pair(&mut self, at: Span, a: &Name, b: &Name) -> Result<Vec<(AxisId, AxisId)>> {
        let (x, y) = (self.axis(a), self.axis(b));
        let (x, y) = (x?, y?);
        if x.len() == y.len() {
            return Ok(x.into_iter().zip(y).collect());
        }
        let message = format!("{} is made of {} axes, {} of {}", a.text, x.len(), b.text, y.len());
        self.error(at, message).hint("both must be made alike");
        Err(Failed)
    }

    /// The axes over which `op` runs, each named once.
    fn axis_set(&mut self, op: &str, names: &[Name]) -> Result<AxisSet> {
        let mut set = AxisSet::EMPTY;
        for name in names {
            for atom in self.axis(name)? {
                if set.contains(atom) {
                    let axis = self.builder.program().axes[atom].name.clone();
                    self.error(name.at.0, format!("`{op}` names axis {axis} twice")).hint("name each axis once, alone or inside a tuple");
                    return Err(Failed);
                }
                set = set.with(atom);
            }
        }
        Ok(set)
    }

    /// The scoped name of the layer, made unique where a layer has several activities.
    fn activity_name(&mut self, label: Option<&Name>) -> Result<String> {
        let mut name = match label {
            Some(_) => self.label(label, "")?,
            None => self.frame().scope.clone(),
        };
        if name.is_empty() {
            name = format!("activity{}", self.activities);
        }
        self.activities += 1;
        let program = self.builder.program();
        let taken = |n: &str| program.nodes.iter().any(|node| matches!(&node.op, Op::Activity(o) if o == n));
        let base = name.clone();
        let mut count = 1;
        while taken(&name) {
            count += 1;
            name = format!("{base}.activity{count}");
        }
        Ok(name)
    }

    /// Adds an op, or reports why its operands do not fit.
    pub(super) fn op(&mut self, at: Span, op: Op, args: &[Value]) -> Result<Value> {
        self.set_origin(at);
        let arguments = args.to_vec();
        match self.builder.try_op(op, args) {
            Ok(v) => Ok(v),
            Err(error) => {
                let axes = &self.builder.program().axes;
                let types: Vec<String> = arguments.iter().map(|&a| self.builder.ty(a).show(axes)).collect();
                let hint = match &error {
                    TypeError::Arity { .. } => "give it as many".to_string(),
                    TypeError::DType { wants, .. } if wants.contains("bool") => "a condition is a comparison: `x > 0`".to_string(),
                    TypeError::DType { wants, .. } if wants.contains("i32") => "convert the operand: `cast[i32](x)`".to_string(),
                    TypeError::DType { .. } | TypeError::Mixed { .. } => "convert an operand: `cast[f32](x)`".to_string(),
                    TypeError::AbsentAxis { .. } => {
                        "sum over axes that the value has; a constant factor is written as `size(A) *`".to_string()
                    }
                    TypeError::Sizes { .. } => "only axes of one size can stand for each other".to_string(),
                    TypeError::Capture { .. } => "rename to an axis that the value lacks, or sum that one first".to_string(),
                    TypeError::Twice { .. } => "name each axis once".to_string(),
                };
                let message = match types.is_empty() {
                    true => error.to_string(),
                    false => format!("{error}; operands: {}", types.join(", ")),
                };
                self.error(at, message).hint(&hint);
                Err(Failed)
            }
        }
    }

    fn warn_outer(&mut self, at: Span, op: &str, args: &[Value]) {
        let axes = &self.builder.program().axes;
        let (l, r) = (self.builder.ty(args[0]).show(axes), self.builder.ty(args[1]).show(axes));
        let warning = Diagnostic::warning(format!("{l} and {r} share no axis: this makes an outer product")).at(at);
        self.warn(warning.hint(format!("if that is meant, write `{op}(x, y)`")));
    }
}

/// Ops that no call in the text stands for.
const HIDDEN: [&str; 4] = ["input", "param", "seed", "const"];

const WINDOW: &str = "window[H = 2 * A + B - 1](x)";

fn binary(op: Binary) -> Op {
    match op {
        Binary::Or => Op::Or,
        Binary::And => Op::And,
        Binary::Lt => Op::Lt,
        Binary::Le => Op::Le,
        Binary::Gt => Op::Gt,
        Binary::Ge => Op::Ge,
        Binary::Eq => Op::Eq,
        Binary::Ne => Op::Ne,
        Binary::Add => Op::Add,
        Binary::Sub => Op::Sub,
        Binary::Mul => Op::Mul,
        Binary::Div => Op::Div,
    }
}

/// The factors of a product, left to right.
fn product<'e>(e: &'e Expr, into: &mut Vec<&'e Expr>) {
    match &e.kind {
        ExprKind::Binary(Binary::Mul, l, r) => {
            product(l, into);
            product(r, into);
        }
        _ => into.push(e),
    }
}
