//! Standard output, where results go. A reader that has had enough (`| head`) is no error; a full disk is. Read [`print`].

use std::io::{self, Write};

use super::failure::Failure;

/// Writes `text`, and a newline if it lacks one.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes())).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::wrong(format!("cannot write to standard output: {error}; hint: is the disk full?")),
    })
}

/// Columns, each as wide as its widest cell; `right` says which are numbers. No trailing blanks.
pub fn table(rows: &[Vec<String>], right: &[bool]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(c, cell)| {
            let fill = " ".repeat(widths[c] - cell.chars().count());
            if right.get(c) == Some(&true) { fill + cell } else { cell.clone() + &fill }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// 1234567 as `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap_or("")).collect();
    groups.join(",")
}

/// `1 epoch`, `2 epochs`.
pub fn plural(n: usize, of: &str) -> String {
    format!("{n} {of}{}", if n == 1 { "" } else { "s" })
}

/// Bytes in the largest unit that leaves a number of at least 1: `1.50 MiB`.
pub fn bytes(n: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut scaled = n as f64;
    let mut unit = None;
    for name in units {
        if scaled < 1024.0 {
            break;
        }
        (scaled, unit) = (scaled / 1024.0, Some(name));
    }
    match unit {
        None => format!("{n} B"),
        Some(unit) => format!("{scaled:.2} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1024, 1536 * 1024, 3 << 30].map(bytes), ["0 B", "1023 B", "1.00 KiB", "1.50 MiB", "3.00 GiB"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "10".into(), "x".into()], vec!["long".into(), "9".into()]];
        assert_eq!(table(&rows, &[false, true]), "a     10  x\nlong   9\n");
    }
}
