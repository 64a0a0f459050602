//! Text to tokens. Comments and blanks are dropped; what is no token is reported once and stays in the stream as [`Kind::Bad`], so that the
//! parser can stop there without a word of its own. Never fails and never looks at grammar. Read [`lex`].

use crate::diag::{Diagnostic, Span};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A name or a keyword, dotted segments and `{i}` included.
    Word,
    /// Digits, perhaps a fraction, an exponent and attached letters (a dtype, if right).
    Number,
    /// `0x7ff8`: bits of a constant.
    Hex,
    /// `"a text on one line"`, quotes included.
    Text,
    /// Punctuation; the text says which.
    Symbol,
    /// Reported already.
    Bad,
    /// The end of the text.
    End,
}

#[derive(Clone, Copy, Debug)]
pub struct Token<'t> {
    pub kind: Kind,
    pub text: &'t str,
    pub span: Span,
    /// Nothing but blanks stands before it on its line.
    pub first_on_line: bool,
}

/// The longest first where one begins another.
const SYMBOLS: &[&str] = &[
    "..", "->", "=>", "==", "!=", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "!", "&", "|", "~", "(", ")", "[", "]", "{", "}", ",",
    ";", ":",
];

/// All tokens, an [`Kind::End`] last. The text is shorter than 4 GiB.
pub fn lex(text: &str, file: u16) -> (Vec<Token<'_>>, Vec<Diagnostic>) {
    let mut lexer = Lexer { text, file, at: 0, first_on_line: true, tokens: Vec::new(), errors: Vec::new() };
    if text.starts_with('\u{feff}') {
        lexer.at = '\u{feff}'.len_utf8();
    }
    while lexer.at < text.len() {
        lexer.step();
    }
    lexer.push(Kind::End, text.len());
    (lexer.tokens, lexer.errors)
}

struct Lexer<'t> {
    text: &'t str,
    file: u16,
    at: usize,
    first_on_line: bool,
    tokens: Vec<Token<'t>>,
    errors: Vec<Diagnostic>,
}

impl<'t> Lexer<'t> {
    fn step(&mut self) {
        let rest = &self.text[self.at..];
        let Some(c) = rest.chars().next() else { return };
        if c.is_whitespace() {
            self.first_on_line |= c == '\n';
            self.at += c.len_utf8();
        } else if rest.starts_with("//") {
            self.at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            let end = self.at + rest.find("*/").map_or(rest.len(), |i| i + 2);
            self.bad(end, "comments are written `// ..`", "put `//` before each line");
        } else if begins_word(c) {
            self.word();
        } else if c.is_ascii_digit() {
            self.number();
        } else if let Some(length) =
            rest.strip_prefix('"').and_then(|inner| inner.find(['"', '\n'])).filter(|&i| rest[i + 1..].starts_with('"'))
        {
            self.push(Kind::Text, self.at + length + 2);
        } else if rest.starts_with("&&") || rest.starts_with("||") {
            let (span, double) = (self.span(self.at + 2), &rest[..2]);
            self.errors.push(
                Diagnostic::error(format!("`{double}` is no operator"))
                    .at(span)
                    .hint(format!("values are combined elementwise: write `{}`", &double[1..])),
            );
            self.at += 1; // the second one is the token
            self.push(Kind::Symbol, self.at + 1);
        } else if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            self.push(Kind::Symbol, self.at + symbol.len());
        } else {
            self.stray(c);
        }
    }

    /// `[A-Za-z_%][A-Za-z0-9_']*`, more of them behind single dots, each perhaps with `{counter}` inside.
    fn word(&mut self) {
        let bytes = self.text.as_bytes();
        let mut end = self.at + 1;
        loop {
            end = skip(bytes, end, continues_word);
            if let Some(close) = self.counter(end) {
                end = close;
            } else if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(|&b| begins_word(b as char)) {
                end += 2;
            } else {
                break;
            }
        }
        if bytes[self.at] == b'%' && end == self.at + 1 {
            return self.bad(end, "`%` begins the name of a value, such as `%3`", "there is no remainder operator");
        }
        self.push(Kind::Word, end);
    }

    /// Where `{counter}` ends, if that is what stands at `start`.
    fn counter(&self, start: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let first = *bytes.get(start + 1).filter(|_| bytes.get(start) == Some(&b'{'))?;
        if !begins_word(first as char) || first == b'%' {
            return None;
        }
        let close = skip(bytes, start + 2, continues_word);
        (bytes.get(close) == Some(&b'}')).then_some(close + 1)
    }

    fn number(&mut self) {
        let bytes = self.text.as_bytes();
        let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
        let digits = |start| skip(bytes, start, |b| b.is_ascii_digit());
        if bytes[self.at] == b'0' && bytes.get(self.at + 1) == Some(&b'x') {
            return self.push(Kind::Hex, skip(bytes, self.at + 2, continues_word));
        }
        let mut end = digits(self.at);
        if bytes.get(end) == Some(&b'.') && digit(end + 1) {
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = matches!(bytes.get(end + 1), Some(b'+' | b'-')) as usize;
            if digit(end + 1 + sign) {
                end = digits(end + 1 + sign);
            }
        }
        self.push(Kind::Number, skip(bytes, end, continues_word));
    }

    /// Characters that no token has, all that stand together.
    fn stray(&mut self, c: char) {
        let rest = &self.text[self.at..];
        let known = |c: char| c.is_whitespace() || begins_word(c) || c.is_ascii_digit() || "=<>+-*/!&|~()[]{},;:".contains(c);
        let length = rest.find(known).unwrap_or(rest.len());
        let (what, hint) = match c {
            '.' if rest[length..].starts_with(|c: char| c.is_ascii_digit()) => ("a number begins with a digit".to_string(), "write `0.5`"),
            '.' => ("a dot stands only inside names, numbers and `..`".to_string(), "leave it out"),
            '#' => ("comments are written `// ..`".to_string(), "write `//` for `#`"),
            '"' => ("this text does not end on its line".to_string(), "add `\"`"),
            '?' | '@' | '$' | '^' | '\\' | '`' | '\'' => (format!("`{c}` is not used here"), "leave it out"),
            _ => (format!("`{}` is not used outside comments", c.escape_debug()), "names are made of ASCII letters, digits, `_` and `'`"),
        };
        self.bad(self.at + length, &what, hint);
    }

    fn bad(&mut self, end: usize, message: &str, hint: &str) {
        self.errors.push(Diagnostic::error(message).at(self.span(end)).hint(hint));
        self.push(Kind::Bad, end);
    }

    fn push(&mut self, kind: Kind, end: usize) {
        let span = self.span(end);
        self.tokens.push(Token { kind, text: &self.text[self.at..end], span, first_on_line: self.first_on_line });
        self.first_on_line = false;
        self.at = end;
    }

    fn span(&self, end: usize) -> Span {
        Span { file: self.file, start: self.at as u32, end: end as u32 }
    }
}

/// Whether a word of the text may begin with `c`.
fn begins_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == '%'
}

fn continues_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'\''
}

fn skip(bytes: &[u8], start: usize, while_: impl Fn(u8) -> bool) -> usize {
    let mut end = start;
    while bytes.get(end).is_some_and(|&b| while_(b)) {
        end += 1;
    }
    end
}
