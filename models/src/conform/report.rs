//! What a conformance run found, and its text: a line for each case, each array that failed, and the counts. Why a path holds no set is in
//! [`Report::problems`], for whoever shows errors. Read [`Report`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The outcome of a run.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Report {
    pub cases: Vec<CaseReport>,
    /// Paths that hold no set that could be read; each counts as one failure.
    pub problems: Vec<Problem>,
    /// What was seen and is no failure.
    pub notes: Vec<String>,
}

/// A path, and why nothing could be run there.
#[derive(Clone, PartialEq, Debug)]
pub struct Problem {
    pub path: PathBuf,
    pub message: String,
}

#[derive(Clone, PartialEq, Debug)]
pub struct CaseReport {
    pub name: String,
    /// Why nothing of the case could be run: all that it promises has failed.
    pub refused: Option<String>,
    /// Every output array that the index promises.
    pub arrays: Vec<ArrayReport>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct ArrayReport {
    pub name: String,
    pub verdict: Verdict,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// The worst element departs by this share of what is allowed.
    Passed {
        share: f64,
    },
    Failed(Miss),
    /// Nothing here derives the array.
    NotCovered,
}

/// Why an array failed.
#[derive(Clone, PartialEq, Debug)]
pub enum Miss {
    Departs {
        by: String,
        error: f64,
        at: Vec<usize>,
        got: f64,
        expected: f64,
        tolerance: f64,
    },
    /// It could not be compared.
    Problem(String),
    /// Its case was refused.
    Case,
}

impl Report {
    pub fn passed(&self) -> usize {
        self.cases.iter().map(CaseReport::passed).sum()
    }

    pub fn failed(&self) -> usize {
        self.problems.len() + self.cases.iter().map(CaseReport::failed).sum::<usize>()
    }

    pub fn not_covered(&self) -> usize {
        self.cases.iter().map(CaseReport::not_covered).sum()
    }

    /// Nothing failed, and something passed.
    pub fn is_good(&self) -> bool {
        self.failed() == 0 && self.passed() > 0
    }
}

impl CaseReport {
    pub fn passed(&self) -> usize {
        self.arrays.iter().filter(|a| matches!(a.verdict, Verdict::Passed { .. })).count()
    }

    /// A refused case has failed even if nobody knows what it should have held.
    pub fn failed(&self) -> usize {
        let arrays = self.arrays.iter().filter(|a| matches!(a.verdict, Verdict::Failed(_))).count();
        arrays.max(usize::from(self.refused.is_some()))
    }

    pub fn not_covered(&self) -> usize {
        self.arrays.iter().filter(|a| a.verdict == Verdict::NotCovered).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cases.iter().try_for_each(|case| write!(f, "{case}"))?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "FAIL {}: it holds no set that could be run", problem.path.display()))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note {note}"))?;
        writeln!(f, "not covered: {}", self.not_covered())?;
        writeln!(f, "{} passed, {} failed", self.passed(), self.failed())
    }
}

impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        if let Some(problem) = &self.refused {
            return writeln!(f, "FAIL {name}: {problem} ({} failed)", self.failed());
        }
        for array in &self.arrays {
            match &array.verdict {
                Verdict::Failed(miss) => writeln!(f, "FAIL {name} {}: {miss}", array.name)?,
                Verdict::Passed { .. } | Verdict::NotCovered => {}
            }
        }
        let head = match (self.failed(), self.passed()) {
            (0, 0) => "none",
            (0, _) => "ok  ",
            (_, _) => "FAIL",
        };
        write!(f, "{head} {name}: {} passed, {} failed, {} not covered", self.passed(), self.failed(), self.not_covered())?;
        let shares =
            self.arrays.iter().filter_map(|a| if let Verdict::Passed { share } = a.verdict { Some((share, &a.name)) } else { None });
        if let Some((share, array)) = shares.max_by(|a, b| a.0.total_cmp(&b.0)) {
            write!(f, "; nearest to its tolerance: {array}, at {share:.1e} of it")?;
        }
        writeln!(f)?;
        let uncovered = self.uncovered();
        if uncovered.is_empty() { Ok(()) } else { writeln!(f, "     not covered in {name}: {uncovered}") }
    }
}

impl CaseReport {
    /// Names of arrays, the gradients of an algorithm as one: `grad.FA (24)`.
    fn uncovered(&self) -> String {
        let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
        for array in self.arrays.iter().filter(|a| a.verdict == Verdict::NotCovered) {
            *groups.entry(group(&array.name)).or_default() += 1;
        }
        let shown = groups.into_iter().map(|(name, count)| if count == 1 { name.to_string() } else { format!("{name} ({count})") });
        shown.collect::<Vec<_>>().join(", ")
    }
}

/// `grad.FA` of `grad.FA.block0.fc.w`; other names stand for themselves.
fn group(name: &str) -> &str {
    let start = match name.find("grad.") {
        Some(at) => at + "grad.".len(),
        None => return name,
    };
    name[start..].find('.').map_or(name, |end| &name[..start + end])
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::Departs { by, error, at, got, expected, tolerance } => {
                write!(f, "worst error {error:.3e} at {at:?}: got {got:e}, expected {expected:e}, tolerance {tolerance:.3e} (by {by})")
            }
            Miss::Problem(problem) => f.write_str(problem),
            Miss::Case => f.write_str("its case was refused"),
        }
    }
}
