//! Diagnostics: what is wrong, where, through which calls, and what to do. They are data; how they look on a terminal is the caller's.

use std::fmt;

/// A range of bytes in one source text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span {
    /// Index into [`Sources`].
    pub file: u16,
    pub start: u32,
    pub end: u32,
}

/// The texts that spans point into.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// (name to show, text)
    pub files: Vec<(String, String)>,
}

impl Sources {
    /// Adds a text; spans name it by the number returned.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> u16 {
        self.files.push((name.into(), text.into()));
        (self.files.len() - 1) as u16
    }

    /// `file:line:column` of a span's start, both counted from 1, columns in characters.
    pub fn locate(&self, span: Span) -> String {
        let Some((name, text)) = self.files.get(span.file as usize) else { return "<unknown>".into() };
        let before = &text[..text.floor_char_boundary(span.start as usize)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        format!("{name}:{line}:{column}")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    Error,
    Warning,
}

/// One message to a person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    /// The guilty place, with what to say beside it (may be empty).
    pub place: Option<(Span, String)>,
    /// The calls that led there, innermost first: "in `fc`, called here".
    pub calls: Vec<(Span, String)>,
    pub hint: Option<String>,
}

impl Diagnostic {
    pub fn error(message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, message: message.into(), place: None, calls: Vec::new(), hint: None }
    }

    pub fn warning(message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(message) }
    }

    pub fn at(mut self, span: Span) -> Diagnostic {
        self.place = Some((span, String::new()));
        self
    }

    pub fn label(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.place = Some((span, label.into()));
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}
