//! What can go wrong between a model's text and a step that runs, as a person reads it: place, both sides, hint. Nothing is printed here.
//! Read [`Error`] first; [`Wrong::render`] draws the places.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use pushforward_cpu::CpuError;
use pushforward_gpu::driver::DeviceError;
use pushforward_ir::diag::Severity;
use pushforward_ir::eval::EvalError;
use pushforward_ir::{Diagnostic, Sources, Span};
use pushforward_plan::LowerError;

/// Why there is no step, or no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model's text is wrong, or does not suit the algorithm.
    #[error("{0}")]
    Text(Wrong),
    #[error("cannot read `{path}`: {source}; hint: a model is a text file, such as models/localmixer.pf")]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Lower(#[from] LowerError),
    #[error(transparent)]
    Cpu(#[from] CpuError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error("the step has no {what} `{name}`: it has {known}")]
    Unknown { what: &'static str, name: String, known: String },
    #[error("the step needs the input `{name}`: {wants}")]
    Missing { name: String, wants: String },
    #[error("`{name}` is {wants}, got the shape {got:?}")]
    Shape { name: String, wants: String, got: Vec<usize> },
    #[error("`{name}` of shape {shape:?} does not lie in memory row by row; hint: hand in `x.as_standard_layout()`")]
    Strided { name: String, shape: Vec<usize> },
}

impl Error {
    pub(crate) fn text(sources: &Sources, diagnostics: Vec<Diagnostic>) -> Error {
        Error::Text(Wrong { sources: sources.clone(), diagnostics })
    }
}

/// All that is wrong with a text, and the texts that the places are in.
#[derive(Clone, Debug)]
pub struct Wrong {
    pub sources: Sources,
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Wrong {}

/// More than a person reads at once.
const MOST_DRAWN: usize = 100;

impl Wrong {
    /// Every diagnostic with its place, the calls that led there, and its hint; in colour for a terminal that shows it.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let drawn = self.diagnostics.iter().map(|d| match (&d.place, &d.hint) {
            // Under nothing, the drawing's own form of a hint would hang from an empty margin.
            (None, Some(hint)) => format!("{}\n  hint: {hint}", renderer.render(&self.report(&Diagnostic { hint: None, ..d.clone() }))),
            (Some(_), _) | (None, None) => renderer.render(&self.report(d)),
        });
        let mut drawn: Vec<String> = drawn.take(MOST_DRAWN).collect();
        if let more @ 1.. = self.diagnostics.len().saturating_sub(MOST_DRAWN) {
            drawn.push(format!("... and {more} more of this kind or another"));
        }
        drawn.join("\n\n")
    }

    fn report<'a>(&'a self, d: &'a Diagnostic) -> Vec<Group<'a>> {
        let level = match d.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(&d.message));
        let place = d.place.as_ref().map(|(span, label)| (*span, label.as_str(), AnnotationKind::Primary));
        let calls = d.calls.iter().map(|(span, label)| (*span, label.as_str(), AnnotationKind::Context));
        let places = place.into_iter().chain(calls).filter_map(|(span, label, kind)| Some((self.find(span)?, kind, label)));
        let places: Vec<_> = places.collect();
        // Each place gets a head of its own, `file:line:column`, unless it stands on the line of the one before it.
        for lines in places.chunk_by(|(a, ..), (b, ..)| a.line() == b.line()) {
            let (first, ..) = &lines[0];
            let annotations = lines.iter().map(|(place, kind, label)| kind.span(place.range.clone()).label(*label));
            group = group.element(Snippet::source(first.text).path(first.file).annotations(annotations));
        }
        let group = match &d.hint {
            Some(hint) => group.element(Level::HELP.with_name("hint").message(hint)),
            None => group,
        };
        vec![group]
    }

    /// A span's file, its text, and the range in it, made to fit.
    fn find(&self, span: Span) -> Option<Place<'_>> {
        let (file, text) = self.sources.files.get(span.file as usize)?;
        let start = text.floor_char_boundary(span.start as usize);
        let end = text.ceil_char_boundary((span.end as usize).clamp(start, text.len()));
        Some(Place { file, text, range: start..end })
    }
}

/// A span, looked up.
struct Place<'a> {
    file: &'a str,
    text: &'a str,
    range: Range<usize>,
}

impl Place<'_> {
    /// The file, and how many lines stand before this one.
    fn line(&self) -> (&str, usize) {
        (self.file, self.text[..self.range.start].matches('\n').count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str, diagnostic: Diagnostic) -> Wrong {
        let mut sources = Sources::default();
        sources.add("a.pf", text);
        Wrong { sources, diagnostics: vec![diagnostic] }
    }

    #[test]
    fn place_calls_and_hint_are_shown() {
        let text = "pf 1\nmodel m() {\n    y = f(x);\n}\nfn f(x) { sum[D](x) }\n";
        let at = |needle: &str| {
            let start = text.find(needle).expect("it is in the text") as u32;
            Span { file: 0, start, end: start + needle.len() as u32 }
        };
        let mut diagnostic =
            Diagnostic::error("`sum` over D: the value f32[N] lacks it").at(at("sum[D](x)")).hint("sum over axes that the value has");
        diagnostic.calls.push((at("f(x)"), "in `f`, called here".into()));
        let shown = wrong(text, diagnostic).render(false);
        for part in ["error: `sum` over D", "a.pf:5:11", "a.pf:3:9", "in `f`, called here", "hint: sum over axes"] {
            assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'));
    }

    /// Whatever a span says, rendering shows what it can.
    #[test]
    fn spans_outside_the_text_do_no_harm() {
        for text in ["", "é", "pf 1\n", "\u{1F600}x\r\n\ty"] {
            for (file, start, end) in [(0, 0, 0), (0, 1, 1), (0, 0, 99), (0, 99, 3), (0, 2, 1), (9, 0, 1), (0, u32::MAX, u32::MAX)] {
                let shown = wrong(text, Diagnostic::warning("odd").at(Span { file, start, end })).render(true);
                assert!(shown.contains("odd"), "{shown}");
            }
        }
    }
}
