//! What figures are drawn with: text, lines, colours, on a white area, by plotters, whose own charts are not used. A drawing is a pure function
//! of its arguments: the same bytes for the same numbers. Read [`drawing`] first.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::RunError;

/// A drawing is finer than what a viewer sees, since plotters rounds to whole units.
pub const SCALE: i32 = 4;

pub const INK: RGBColor = RGBColor(34, 34, 34);
pub const FAINT: RGBColor = RGBColor(96, 96, 96);
pub const GRID: RGBColor = RGBColor(226, 226, 226);
pub const AXIS: RGBColor = RGBColor(140, 140, 140);
pub const BLUE: RGBColor = RGBColor(0, 90, 181);
pub const ORANGE: RGBColor = RGBColor(213, 94, 0);
pub const GREEN: RGBColor = RGBColor(0, 122, 94);

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub type Drawn<T> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// A figure of this size, in units of the viewer.
pub fn drawing(size: (u32, u32), draw: impl FnOnce(&Area) -> Drawn<()>) -> Result<String, RunError> {
    let mut svg = String::new();
    let fine = (size.0 * SCALE as u32, size.1 * SCALE as u32);
    let drawn = || {
        let area = SVGBackend::with_string(&mut svg, fine).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()
    };
    drawn().map_err(|e| RunError::Figure { reason: e.to_string() })?;
    let head = format!(r#"<svg width="{}" height="{}""#, fine.0, fine.1);
    let shown = format!(r#"<svg width="{}" height="{}" stroke-linejoin="round" stroke-linecap="round""#, size.0, size.1);
    Ok(svg.replacen(&head, &shown, 1))
}

pub fn number(x: f64, decimals: usize) -> String {
    match x.abs() {
        size if size >= 1e6 || (size < 1e-4 && size > 0.0) => format!("{x:.1e}"),
        _ => format!("{x:.decimals$}"),
    }
}

/// `text` without what XML cannot hold, cut to about `width`.
pub fn fit(text: &str, size: i32, width: i32) -> String {
    let text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !matches!(c, '\u{fffe}' | '\u{ffff}')).collect();
    // A letter of a sans-serif font takes a little more than half its height.
    let most = (f64::from(width) / (0.56 * f64::from(size))) as usize;
    if text.chars().count() <= most { text } else { text.chars().take(most.saturating_sub(1)).chain(['…']).collect() }
}

pub enum Side {
    Left,
    Center,
    Right,
}

/// Text whose base line is at `at`, in units of the viewer.
pub fn text(area: &Area, text: &str, at: (i32, i32), size: i32, color: RGBColor, side: Side) -> Drawn<()> {
    let horizontal = match side {
        Side::Left => HPos::Left,
        Side::Center => HPos::Center,
        Side::Right => HPos::Right,
    };
    // plotters shrinks sizes by 1.24 and lifts text at the bottom by half the height of an x, about a quarter of its size.
    let style =
        TextStyle::from(("sans-serif", 1.24 * f64::from(size * SCALE)).into_font()).color(&color).pos(Pos::new(horizontal, VPos::Bottom));
    area.draw_text(text, &style, (at.0 * SCALE, at.1 * SCALE + size * SCALE / 4))
}

/// A line through `places`, in units of the drawing; one place alone is none.
pub fn line(area: &Area, places: &[(i32, i32)], color: RGBColor, width: i32) -> Drawn<()> {
    if places.len() < 2 {
        return Ok(());
    }
    area.draw(&PathElement::new(places.to_vec(), color.stroke_width((width * SCALE) as u32)))
}
