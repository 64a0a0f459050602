//! Kernels to text: one walk over statements and expressions, for every language. It decides nothing: what is computed, where and in which
//! order stands in the plan, how it is spelled in a [`Dialect`]. Read [`kernels`], then [`Walk::statement`].

use std::collections::BTreeSet;

use pushforward_plan::device::kernel::*;
use pushforward_plan::kernel::{ElementType, Prim, Reduction};

use crate::cuda::Cuda;
use crate::names::Names;
use crate::source::{Lacking, Language, Source};
use crate::wgsl::Wgsl;

/// The text of every kernel of a plan, in the plan's order.
pub fn kernels(plan: &DevicePlan, language: Language) -> Result<Vec<Source>, Lacking> {
    (0..plan.kernels.len()).map(|k| kernel(plan, k, language)).collect()
}

/// The text of one.
pub(crate) fn kernel(plan: &DevicePlan, number: usize, language: Language) -> Result<Source, Lacking> {
    let text = match language {
        Language::Cuda => Walk::kernel(plan, number, Cuda::default()),
        Language::Wgsl => Walk::kernel(plan, number, Wgsl::default()),
    };
    let name = plan.kernels[number].name.clone();
    match text {
        Ok(text) => Ok(Source { name, text }),
        Err(what) => Err(Lacking { kernel: name, language, what }),
    }
}

/// How tightly an expression holds together, loosest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    /// `c ? x : y`
    Choice,
    Or,
    And,
    Compare,
    Sum,
    Product,
    Unary,
    /// Names, literals, calls, elements.
    Primary,
}

/// A spelled expression.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Spelled {
    pub text: String,
    pub level: Level,
}

/// What a language cannot say.
pub(crate) type Lack = &'static str;
pub(crate) type Spelling = Result<Spelled, Lack>;

impl Spelled {
    pub fn new(text: impl Into<String>, level: Level) -> Spelled {
        Spelled { text: text.into(), level }
    }

    pub fn primary(text: impl Into<String>) -> Spelled {
        Spelled::new(text, Level::Primary)
    }

    /// As an operand that must hold together at least so tightly.
    pub fn at(&self, least: Level) -> String {
        if self.level >= least { self.text.clone() } else { format!("({})", self.text) }
    }

    /// `x + y`. Of one level, the left operand needs no parentheses but where languages disagree: comparisons, and conditions of two kinds.
    pub fn infix(x: &Spelled, operator: &str, y: &Spelled, level: Level) -> Spelled {
        let (left, right) = match level {
            Level::Sum => (Level::Sum, Level::Product),
            Level::Product => (Level::Product, Level::Unary),
            Level::Compare => (Level::Sum, Level::Sum),
            Level::And | Level::Or => (if x.level == level { level } else { Level::Compare }, Level::Compare),
            Level::Choice | Level::Unary | Level::Primary => (Level::Primary, Level::Primary),
        };
        Spelled::new(format!("{} {operator} {}", x.at(left), y.at(right)), level)
    }

    pub fn prefix(operator: &str, x: &Spelled) -> Spelled {
        Spelled::new(format!("{operator}{}", x.at(Level::Primary)), Level::Unary)
    }

    /// Arguments of calls are in parentheses where they compare: `f(a < b, c > (d))` reads as a template in WGSL.
    pub fn call(function: &str, args: &[&Spelled]) -> Spelled {
        let separate = |x: &&Spelled| match x.level {
            Level::Compare | Level::And | Level::Or => format!("({})", x.text),
            Level::Choice | Level::Sum | Level::Product | Level::Unary | Level::Primary => x.text.clone(),
        };
        let args: Vec<String> = args.iter().map(separate).collect();
        Spelled::primary(format!("{function}({})", args.join(", ")))
    }
}

/// A language's spelling, and what of its library a kernel's text turned out to need.
pub(crate) trait Dialect {
    /// Once, before anything else.
    fn begin(&mut self, kernel: &DeviceKernel) -> Result<(), Lack>;
    /// The whole text around a body.
    fn finish(&self, parts: &Parts) -> Result<String, Lack>;

    /// `thread`, and the block's place in x and y.
    fn thread(&self) -> Spelled;
    fn block(&self) -> [Spelled; 2];
    fn scalar(&self, name: &str) -> String;

    fn index(&self, value: u64) -> Spelling;
    /// As it stands.
    fn number(&mut self, value: f64, dtype: ElementType) -> Spelling;
    /// As what is computed, for languages that refuse constant expressions with infinite or undefined values.
    fn computed_number(&mut self, value: f64, dtype: ElementType) -> Spelling;

    fn declare(&self, name: &str, ty: VarType, value: &str, mutable: bool) -> Result<String, Lack>;
    fn declare_array(&self, name: &str, dtype: ElementType, len: usize) -> Result<String, Lack>;
    /// A line before a loop whose steps are written out.
    fn unroll(&self) -> Option<&'static str>;
    /// The head of a loop, up to its brace.
    fn repeat(&self, name: &str, count: u64) -> Result<String, Lack>;
    fn barrier(&self) -> &'static str;
    /// Lines before, the neighbour's value, lines after: one step of a combination at a distance of `distance`.
    fn exchange(&self, name: &str, shared: &str) -> Exchange;
    fn mma(&self, acc: (&str, u64), a: (&str, u64), b: (&str, u64)) -> Result<String, Lack>;

    fn min(&mut self, x: &Spelled, y: &Spelled) -> Spelled;
    /// NaN if one is.
    fn max(&mut self, dtype: ElementType, x: &Spelled, y: &Spelled) -> Spelling;
    fn choose(&self, condition: &Spelled, x: &Spelled, y: &Spelled) -> Spelled;
    fn integer(&self, index: &Spelled) -> Spelled;
    fn position(&self, integer: &Spelled) -> Spelled;
    fn fma(&self, dtype: ElementType, x: &Spelled, y: &Spelled, z: &Spelled) -> Spelling;
    fn tf32(&self, x: &Spelled) -> Spelling;
    /// A primitive on operands of `dtype`. Conditions that are compared do not come here.
    fn prim(&mut self, prim: Prim, dtype: ElementType, to: ElementType, args: &[Spelled]) -> Spelling;
    fn normal(&mut self, normal: &Normal, stream: &str, seed: &Spelled, step: &Spelled, direction: &Spelled, element: &Spelled)
    -> Spelling;
}

/// Lines around one step of a combination.
pub(crate) struct Exchange {
    /// The head of the loop over distances, for a first distance.
    pub head: fn(u32) -> String,
    pub before: Vec<String>,
    pub neighbour: Spelled,
    pub after: Vec<String>,
}

/// What a dialect puts together.
pub(crate) struct Parts<'a> {
    /// Lines on top, without a comment's sign.
    pub about: Vec<String>,
    pub kernel: &'a DeviceKernel,
    pub names: &'a Names,
    /// Shared memory that expressions and assignments name.
    pub touched: &'a BTreeSet<SharedId>,
    pub body: &'a str,
}

struct Walk<'a, D> {
    kernel: &'a DeviceKernel,
    names: Names,
    dialect: D,
    touched: BTreeSet<SharedId>,
    body: String,
    depth: usize,
}

impl<'a, D: Dialect> Walk<'a, D> {
    fn kernel(plan: &'a DevicePlan, number: usize, dialect: D) -> Result<String, Lack> {
        let kernel = &plan.kernels[number];
        let mut walk = Walk { kernel, names: Names::of(plan, kernel), dialect, touched: BTreeSet::new(), body: String::new(), depth: 1 };
        walk.dialect.begin(kernel)?;
        walk.block(&kernel.body)?;
        let parts = Parts { about: about(plan, number, &walk.names), kernel, names: &walk.names, touched: &walk.touched, body: &walk.body };
        walk.dialect.finish(&parts)
    }

    fn line(&mut self, text: &str) {
        self.body += &"    ".repeat(self.depth);
        self.body += text;
        self.body.push('\n');
    }

    fn block(&mut self, body: &[Stmt]) -> Result<(), Lack> {
        body.iter().try_for_each(|s| self.statement(s))
    }

    /// `head {`, the lines, `}`.
    fn nested(&mut self, head: &str, body: &[Stmt]) -> Result<(), Lack> {
        self.line(&format!("{head} {{"));
        self.depth += 1;
        self.block(body)?;
        self.depth -= 1;
        self.line("}");
        Ok(())
    }

    fn statement(&mut self, stmt: &Stmt) -> Result<(), Lack> {
        let text = match stmt {
            Stmt::Let(v, ty, value) => {
                let value = self.expr(value)?;
                self.dialect.declare(&var(*v), *ty, &value.text, false)?
            }
            Stmt::Var(v, ty, value) => {
                let value = self.expr(value)?;
                self.dialect.declare(&var(*v), *ty, &value.text, true)?
            }
            Stmt::Array(v, dtype, len) => self.dialect.declare_array(&var(*v), *dtype, *len)?,
            Stmt::Set(v, value) => format!("{} = {};", var(*v), self.expr(value)?.text),
            Stmt::SetElement(v, at, value) => format!("{}[{}] = {};", var(*v), self.expr(at)?.text, self.expr(value)?.text),
            Stmt::SetShared(s, at, value) => {
                self.touched.insert(*s);
                let (at, value) = (self.expr(at)?.text, self.stored(self.kernel.shared[*s].dtype, value)?);
                format!("{}[{at}] = {value};", shared(*s))
            }
            Stmt::Store(a, at, value) => {
                let (at, value) = (self.expr(at)?.text, self.stored(self.kernel.args[*a].dtype, value)?);
                format!("{}[{at}] = {value};", self.names.args[*a])
            }
            Stmt::For { var: v, count, unroll, body } => {
                if let Some(line) = self.dialect.unroll().filter(|_| *unroll) {
                    self.line(line);
                }
                let head = self.dialect.repeat(&var(*v), *count)?;
                return self.nested(&head, body);
            }
            Stmt::If(condition, body) => {
                let head = format!("if ({})", self.expr(condition)?.text);
                return self.nested(&head, body);
            }
            Stmt::Barrier => self.dialect.barrier().to_string(),
            Stmt::Combine { var: v, dtype, reduction, width, shared: s } => return self.combine(*v, *dtype, *reduction, *width, *s),
            Stmt::Mma { acc, a, b } => {
                let [acc, a, b] = [acc, a, b].map(|(v, at)| (var(*v), *at));
                self.dialect.mma((&acc.0, acc.1), (&a.0, a.1), (&b.0, b.1))?
            }
        };
        self.line(&text);
        Ok(())
    }

    fn combine(&mut self, v: Var, dtype: ElementType, reduction: Reduction, width: u32, s: SharedId) -> Result<(), Lack> {
        let name = var(v);
        let exchange = self.dialect.exchange(&name, &shared(s));
        let own = Spelled::primary(name.clone());
        let combined = match reduction {
            Reduction::Sum => self.dialect.prim(Prim::Add, dtype, dtype, &[own, exchange.neighbour])?,
            Reduction::Max => self.dialect.max(dtype, &own, &exchange.neighbour)?,
        };
        self.line(&(exchange.head)(width / 2));
        self.depth += 1;
        exchange.before.iter().for_each(|line| self.line(line));
        self.line(&format!("{name} = {};", combined.text));
        exchange.after.iter().for_each(|line| self.line(line));
        self.depth -= 1;
        self.line("}");
        Ok(())
    }

    /// A value as memory keeps it: conditions as 0 and 1.
    fn stored(&mut self, dtype: ElementType, value: &Expr) -> Result<String, Lack> {
        let value = self.expr(value)?;
        Ok(match dtype {
            ElementType::Bool => self.dialect.choose(&value, &Spelled::primary("1u"), &Spelled::primary("0u")).text,
            ElementType::F32 | ElementType::F64 | ElementType::I32 => value.text,
        })
    }

    /// What memory keeps, as a value.
    fn loaded(dtype: ElementType, place: String) -> Spelled {
        match dtype {
            ElementType::Bool => Spelled::new(format!("{place} != 0u"), Level::Compare),
            ElementType::F32 | ElementType::F64 | ElementType::I32 => Spelled::primary(place),
        }
    }

    fn expr(&mut self, expr: &Expr) -> Spelling {
        Ok(match expr {
            Expr::Int(value) => self.dialect.index(*value)?,
            Expr::Number(value, dtype) => self.dialect.number(*value, *dtype)?,
            Expr::Var(v) => Spelled::primary(var(*v)),
            Expr::Element(v, at) => Spelled::primary(format!("{}[{}]", var(*v), self.expr(at)?.text)),
            Expr::Shared(s, at) => {
                self.touched.insert(*s);
                let at = self.expr(at)?.text;
                Self::loaded(self.kernel.shared[*s].dtype, format!("{}[{at}]", shared(*s)))
            }
            Expr::Load(a, at) => {
                let at = self.expr(at)?.text;
                Self::loaded(self.kernel.args[*a].dtype, format!("{}[{at}]", self.names.args[*a]))
            }
            Expr::Scalar(s) => {
                let (name, dtype) = &self.names.scalars[*s];
                Self::loaded(*dtype, self.dialect.scalar(name))
            }
            Expr::Thread => self.dialect.thread(),
            Expr::Block => {
                let [x, y] = self.dialect.block();
                match self.kernel.grid.1 {
                    1 => x,
                    _ => {
                        let rows = Spelled::infix(&y, "*", &self.dialect.index(self.kernel.grid.0.into())?, Level::Product);
                        Spelled::infix(&rows, "+", &x, Level::Sum)
                    }
                }
            }
            Expr::Index(op, x, y) => {
                let (x, y) = (self.expr(x)?, self.expr(y)?);
                match op {
                    IndexOp::Add => Spelled::infix(&x, "+", &y, Level::Sum),
                    IndexOp::Mul => Spelled::infix(&x, "*", &y, Level::Product),
                    IndexOp::Div => Spelled::infix(&x, "/", &y, Level::Product),
                    IndexOp::Rem => Spelled::infix(&x, "%", &y, Level::Product),
                    IndexOp::Min => self.dialect.min(&x, &y),
                }
            }
            Expr::Compare(comparison, x, y) => {
                let operator = match comparison {
                    Comparison::Lt => "<",
                    Comparison::Eq => "==",
                };
                Spelled::infix(&self.expr(x)?, operator, &self.expr(y)?, Level::Compare)
            }
            Expr::Both(x, y) => Spelled::infix(&self.expr(x)?, "&&", &self.expr(y)?, Level::And),
            Expr::Integer(x) => {
                let x = self.expr(x)?;
                self.dialect.integer(&x)
            }
            Expr::Position(x) => {
                let x = self.expr(x)?;
                self.dialect.position(&x)
            }
            Expr::Prim(prim, dtype, to, args) => {
                let args = self.operands(&args.iter().collect::<Vec<_>>())?;
                self.prim(*prim, *dtype, *to, &args)?
            }
            Expr::Fma(dtype, x, y, z) => {
                let args = self.operands(&[x, y, z])?;
                self.dialect.fma(*dtype, &args[0], &args[1], &args[2])?
            }
            Expr::Max(dtype, x, y) => {
                let args = self.operands(&[x, y])?;
                self.dialect.max(*dtype, &args[0], &args[1])?
            }
            Expr::Tf32(x) => {
                let x = self.expr(x)?;
                self.dialect.tf32(&x)?
            }
            Expr::Normal(normal) => {
                let [seed, step] = [self.expr(&normal.seed)?, self.expr(&normal.step)?];
                let [direction, element] = [self.expr(&normal.direction)?, self.expr(&normal.element)?];
                self.dialect.normal(normal, &stream(normal.stream), &seed, &step, &direction, &element)?
            }
        })
    }

    /// Operands of arithmetic. Where all are constants, the first is not one to the language.
    fn operands(&mut self, args: &[&Expr]) -> Result<Vec<Spelled>, Lack> {
        let constant = args.iter().all(|e| matches!(e, Expr::Number(..)));
        let operand = |(i, e): (usize, &&Expr)| {
            if let (true, 0, Expr::Number(value, dtype)) = (constant, i, e) {
                return self.dialect.computed_number(*value, *dtype);
            }
            self.expr(e)
        };
        args.iter().enumerate().map(operand).collect()
    }

    fn prim(&mut self, prim: Prim, dtype: ElementType, to: ElementType, args: &[Spelled]) -> Spelling {
        // Conditions are ordered, false before true, by logic alone: no language orders them.
        let logic = match dtype {
            ElementType::Bool => compare_conditions(prim, args),
            ElementType::F32 | ElementType::F64 | ElementType::I32 => None,
        };
        logic.map_or_else(|| self.dialect.prim(prim, dtype, to, args), Ok)
    }
}

fn compare_conditions(prim: Prim, args: &[Spelled]) -> Option<Spelled> {
    let [x, y] = args else { return None };
    let not = |x: &Spelled| Spelled::prefix("!", x);
    match prim {
        Prim::Lt => Some(Spelled::infix(&not(x), "&&", y, Level::And)),
        Prim::Le => Some(Spelled::infix(&not(x), "||", y, Level::Or)),
        Prim::Gt => Some(Spelled::infix(x, "&&", &not(y), Level::And)),
        Prim::Ge => Some(Spelled::infix(x, "||", &not(y), Level::Or)),
        Prim::Eq => Some(Spelled::infix(x, "==", y, Level::Compare)),
        Prim::Ne => Some(Spelled::infix(x, "!=", y, Level::Compare)),
        Prim::Add | Prim::Sub | Prim::Mul | Prim::Neg | Prim::Div => None,
        Prim::Exp | Prim::Log | Prim::Tanh | Prim::Erf | Prim::Sqrt | Prim::Rsqrt | Prim::Relu => None,
        Prim::And | Prim::Or | Prim::Not | Prim::Select | Prim::Cast => None,
    }
}

/// For people, on top: what is computed, on what, by how many.
fn about(plan: &DevicePlan, number: usize, names: &Names) -> Vec<String> {
    let kernel = &plan.kernels[number];
    let mut lines = vec![kernel.name.clone()];
    lines.extend(kernel.about.lines().map(str::to_string));
    let first = plan.launches.iter().find(|l| l.kernel == number);
    for (a, (arg, name)) in kernel.args.iter().zip(&names.args).enumerate() {
        let buffer = first.and_then(|l| l.args.get(a)).and_then(|&b| plan.buffers.get(b));
        let dims =
            buffer.map_or(String::new(), |b| b.dims.iter().map(|(axis, size)| format!("{axis}={size}")).collect::<Vec<_>>().join(", "));
        let access = match arg.access {
            pushforward_plan::kernel::Access::Read => "read",
            pushforward_plan::kernel::Access::Write => "written",
            pushforward_plan::kernel::Access::ReadWrite => "read and written",
        };
        lines.push(format!("{name}: {}[{dims}], {access}", pushforward_ir::DType::from(arg.dtype).name()));
    }
    lines.push(format!("{} x {} blocks of {} threads", kernel.grid.0, kernel.grid.1, kernel.block));
    lines
}

/// Lines of a comment, whatever the text is.
pub(crate) fn comment(text: &str) -> Vec<String> {
    // A backslash at a line's end would carry the comment on.
    text.lines().map(|line| format!("// {}", line.trim_end_matches([' ', '\\'])).trim_end().to_string()).collect()
}

pub(crate) fn var(v: Var) -> String {
    format!("v{v}")
}

pub(crate) fn shared(s: SharedId) -> String {
    format!("s{s}")
}

pub(crate) fn stream(s: usize) -> String {
    format!("stream{s}")
}
