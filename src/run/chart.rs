//! Figures of experiments as SVG: panels of lines over logarithmic axes, and rows of dots at ratios. It knows numbers and names, nothing of
//! what they are of; the same bytes for the same numbers. Numbers that have no logarithm are left out. Read [`lines`], then [`dots`].

use plotters::prelude::*;

use super::RunError;
use super::svg::{AXIS, Area, BLUE, Drawn, FAINT, GREEN, GRID, INK, ORANGE, SCALE, Side, drawing, fit, line, text};

/// A panel of lines.
pub struct Panel {
    pub title: String,
    /// What runs along the lower end, and along the left.
    pub x: &'static str,
    pub y: &'static str,
    pub lines: Vec<Line>,
}

/// The legend has one entry for all lines of a name.
pub struct Line {
    pub name: &'static str,
    pub look: Look,
    pub drawn: Drawing,
    pub points: Vec<(f64, f64)>,
}

/// How the points of a line are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drawing {
    /// As dots, and a line through them.
    Both,
    Dots,
    Line,
}

/// Colour and weight of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    First,
    Second,
    Third,
    /// As the first or second, but not of ours.
    FirstAside,
    SecondAside,
}

impl Look {
    fn colour(self) -> RGBColor {
        match self {
            Look::First => BLUE,
            Look::Second => ORANGE,
            Look::Third => GREEN,
            Look::FirstAside => RGBColor(120, 170, 220),
            Look::SecondAside => RGBColor(235, 165, 110),
        }
    }
}

/// Of one panel, in units of the viewer.
const PANEL: (i32, i32) = (420, 280);
const LEFT: i32 = 84;
const TOP: i32 = 128;
const BETWEEN: (i32, i32) = (86, 92);
const RIGHT: i32 = 30;

/// Panels side by side, `columns` in a row, with one legend for all.
pub fn lines(title: &str, subtitle: &str, columns: usize, panels: &[Panel]) -> Result<String, RunError> {
    let (across, down) = (columns as i32, panels.len().div_ceil(columns) as i32);
    let size = (LEFT + across * PANEL.0 + (across - 1) * BETWEEN.0 + RIGHT, TOP + down * PANEL.1 + (down - 1) * BETWEEN.1 + 60);
    drawing((size.0 as u32, size.1 as u32), |area| {
        head(area, title, subtitle, size.0)?;
        let mut named: Vec<(&str, Look)> = Vec::new();
        for one in panels.iter().flat_map(|p| &p.lines) {
            if !named.iter().any(|n| n.0 == one.name) {
                named.push((one.name, one.look));
            }
        }
        let mut left = LEFT;
        for (name, look) in named {
            line(area, &[(left * SCALE, 79 * SCALE), ((left + 22) * SCALE, 79 * SCALE)], look.colour(), 2)?;
            area.draw(&Circle::new(((left + 11) * SCALE, 79 * SCALE), 3 * SCALE, look.colour().filled()))?;
            text(area, name, (left + 28, 83), 13, INK, Side::Left)?;
            left += 28 + 8 * name.chars().count() as i32 + 14;
        }
        for (i, panel) in panels.iter().enumerate() {
            let (column, row) = ((i % columns) as i32, (i / columns) as i32);
            draw_panel(area, panel, (LEFT + column * (PANEL.0 + BETWEEN.0), TOP + row * (PANEL.1 + BETWEEN.1)))?;
        }
        Ok(())
    })
}

fn head(area: &Area, title: &str, subtitle: &str, width: i32) -> Drawn<()> {
    text(area, &fit(title, 20, width - 40), (24, 34), 20, INK, Side::Left)?;
    text(area, &fit(subtitle, 13, width - 40), (24, 57), 13, FAINT, Side::Left)
}

fn draw_panel(area: &Area, panel: &Panel, (left, top): (i32, i32)) -> Drawn<()> {
    let (right, bottom) = (left + PANEL.0, top + PANEL.1);
    text(area, &panel.title, (left, top - 12), 14, INK, Side::Left)?;
    text(area, panel.x, ((left + right) / 2, bottom + 42), 13, INK, Side::Center)?;
    let points = || panel.lines.iter().flat_map(|l| &l.points).copied().filter(|p| drawable(p.0) && drawable(p.1));
    let (Some(x), Some(y)) = (Scale::of(points().map(|p| p.0), 1.0), Scale::of(points().map(|p| p.1), 1.3)) else {
        return text(area, "nothing to show", ((left + right) / 2, (top + bottom) / 2), 13, FAINT, Side::Center);
    };
    let place = |p: (f64, f64)| (x.place(p.0, left, right), y.place(p.1, bottom, top));
    let mut values: Vec<f64> = points().map(|p| p.0).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    for at in values {
        let (across, _) = place((at, y.from));
        line(area, &[(across, top * SCALE), (across, bottom * SCALE)], GRID, 1)?;
        text(area, &short(at), (across / SCALE, bottom + 20), 12, FAINT, Side::Center)?;
    }
    for at in y.ticks() {
        let (_, up) = place((x.from, at));
        line(area, &[(left * SCALE, up), (right * SCALE, up)], GRID, 1)?;
        text(area, &short(at), (left - 8, up / SCALE + 4), 12, FAINT, Side::Right)?;
    }
    text(area, panel.y, (left - 58, top - 12), 12, FAINT, Side::Left)?;
    line(area, &[(left * SCALE, top * SCALE), (left * SCALE, bottom * SCALE), (right * SCALE, bottom * SCALE)], AXIS, 1)?;
    for one in &panel.lines {
        let path: Vec<_> = one.points.iter().filter(|p| drawable(p.0) && drawable(p.1)).map(|&p| place(p)).collect();
        if one.drawn != Drawing::Dots {
            line(area, &path, one.look.colour(), 2)?;
        }
        for at in path.into_iter().filter(|_| one.drawn != Drawing::Line) {
            area.draw(&Circle::new(at, 3 * SCALE, one.look.colour().filled()))?;
        }
    }
    Ok(())
}

/// A panel of rows of dots.
pub struct Dots {
    pub title: String,
    pub rows: Vec<(String, Vec<Option<Dot>>)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dot {
    pub at: f64,
    /// Shown as a line to both sides.
    pub deviation: Option<f64>,
}

/// What dots of a row stand over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Along {
    /// Ratios: a line stands at 1, and each panel has an axis of its own.
    Ratios,
    /// Numbers of one kind, of this name: all panels share an axis.
    Values(&'static str),
}

/// Panels one below the other; dots of a row have the names of `kinds`, in their order. Of a kind that is nowhere, the legend says nothing. A 0
/// has no place on the axis, and is written at its end.
pub fn dots(title: &str, subtitle: &str, kinds: &[&str], along: Along, panels: &[Dots]) -> Result<String, RunError> {
    const COLOURS: [RGBColor; 4] = [BLUE, ORANGE, GREEN, FAINT];
    const ROW: i32 = 22;
    let (names, wide) = (250, 480);
    // Under a panel, where its axis may have a name.
    let under = if along == Along::Ratios { 58 } else { 72 };
    let tall: i32 = panels.iter().map(|p| 16 + under + ROW * p.rows.len() as i32).sum();
    let size = (names + wide + 60, 100 + tall);
    let all = || panels.iter().flat_map(|p| &p.rows);
    let shared = match along {
        Along::Ratios => None,
        Along::Values(_) => Some(Scale::of(all().flat_map(|row| &row.1).flatten().flat_map(Dot::ends), 1.15)),
    };
    drawing((size.0 as u32, size.1 as u32), |area| {
        head(area, title, subtitle, size.0)?;
        let mut left = names;
        for (i, (kind, colour)) in kinds.iter().zip(COLOURS).enumerate() {
            if !all().any(|row| row.1.get(i).is_some_and(Option::is_some)) {
                continue;
            }
            area.draw(&Circle::new((left * SCALE, 79 * SCALE), 4 * SCALE, colour.filled()))?;
            text(area, kind, (left + 10, 83), 13, INK, Side::Left)?;
            left += 8 * kind.chars().count() as i32 + 34;
        }
        let mut top = 120;
        for panel in panels {
            text(area, &panel.title, (24, top), 14, INK, Side::Left)?;
            let (right, bottom) = (names + wide, top + 16 + ROW * panel.rows.len() as i32);
            let own = || Scale::of(panel.rows.iter().flat_map(|r| &r.1).flatten().flat_map(Dot::ends).chain([1.0]), 1.05);
            if let Some(x) = shared.unwrap_or_else(own) {
                for at in x.ticks() {
                    let across = x.place(at, names, right);
                    let colour = if at == 1.0 && along == Along::Ratios { AXIS } else { GRID };
                    line(area, &[(across, (top + 8) * SCALE), (across, bottom * SCALE)], colour, 1)?;
                    text(area, &short(at), (across / SCALE, bottom + 16), 12, FAINT, Side::Center)?;
                }
                if let Along::Values(name) = along {
                    line(area, &[(names * SCALE, bottom * SCALE), (right * SCALE, bottom * SCALE)], AXIS, 1)?;
                    text(area, name, ((names + right) / 2, bottom + 36), 12, INK, Side::Center)?;
                }
                for (i, (name, dots)) in panel.rows.iter().enumerate() {
                    let middle = top + 20 + ROW * i as i32;
                    text(area, &fit(name, 13, names - 40), (names - 12, middle + 4), 13, INK, Side::Right)?;
                    for (dot, colour) in dots.iter().zip(COLOURS).filter_map(|(dot, colour)| Some(((*dot)?, colour))) {
                        if dot.at == 0.0 {
                            text(area, "0", (names + 4, middle + 4), 12, colour, Side::Left)?;
                        }
                        if !drawable(dot.at) {
                            continue;
                        }
                        let ends: Vec<_> = dot.ends().map(|end| (x.place(end, names, right), middle * SCALE)).collect();
                        line(area, &ends, colour, 2)?;
                        let place = (x.place(dot.at, names, right), middle * SCALE);
                        area.draw(&Circle::new(place, 4 * SCALE, colour.mix(0.8).filled()))?;
                    }
                }
            }
            top = bottom + under;
        }
        Ok(())
    })
}

impl Dot {
    /// Of its line; only the dot itself where it has none, or where its line would leave the axis.
    fn ends(&self) -> impl Iterator<Item = f64> + use<> {
        let (at, deviation) = (self.at, self.deviation.unwrap_or(0.0));
        [at - deviation, at + deviation].map(|end| if drawable(end) { end } else { at }).into_iter().filter(|end| drawable(*end))
    }
}

impl From<f64> for Dot {
    fn from(at: f64) -> Dot {
        Dot { at, deviation: None }
    }
}

/// A logarithmic axis.
#[derive(Clone, Copy)]
struct Scale {
    from: f64,
    to: f64,
}

impl Scale {
    /// For some values, with room of this factor on both sides, and of some factor however near they lie.
    fn of(values: impl Iterator<Item = f64>, room: f64) -> Option<Scale> {
        let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), x| (low.min(x), high.max(x)));
        let (low, high) = (low / room, high * room);
        let near = 1.5f64.max(high / low);
        (low <= high).then(|| Scale { from: (low * high / near).sqrt(), to: (low * high * near).sqrt() })
    }

    /// Between two ends, in units of the drawing.
    fn place(&self, x: f64, from: i32, to: i32) -> i32 {
        let share = (x / self.from).ln() / (self.to / self.from).ln();
        (f64::from(from * SCALE) + share * f64::from((to - from) * SCALE)).round() as i32
    }

    /// Multiples of the smallest step of 1, 2 or 5 times a power of ten that makes few of them.
    fn even_ticks(&self) -> Vec<f64> {
        const FEW: f64 = 6.0;
        let least = (self.to - self.from).log10().floor() as i32 - 1;
        let steps = (least..=least + 2).flat_map(|power| [1.0, 2.0, 5.0].map(|times| (times, power)));
        // 12 / 10 is 1.2, and 12 times 0.1 is not.
        let multiple =
            |i: f64, (times, power): (f64, i32)| if power < 0 { i * times / 10f64.powi(-power) } else { i * times * 10f64.powi(power) };
        let counts = |step| ((self.from / multiple(1.0, step)).ceil(), (self.to / multiple(1.0, step)).floor());
        let few = |step: &(f64, i32)| counts(*step).1 - counts(*step).0 < FEW;
        let Some(step) = steps.into_iter().find(few) else { return Vec::new() };
        let (first, last) = counts(step);
        (first as i64..=last as i64).map(|i| multiple(i as f64, step)).collect()
    }

    /// Powers of ten, with 2 and 5 times them if those are few; even steps if there are next to none.
    fn ticks(&self) -> Vec<f64> {
        let decades = (self.to / self.from).log10();
        if decades < 0.6 {
            return self.even_ticks();
        }
        let factors: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let first = self.from.log10().floor() as i32;
        let powers = (0..=decades.ceil() as i32 + 1).map(|i| 10f64.powi(first + i));
        powers.flat_map(|p| factors.iter().map(move |f| f * p)).filter(|x| *x >= self.from && *x <= self.to).collect()
    }
}

fn drawable(x: f64) -> bool {
    x > 1e-30 && x < 1e30
}

/// As few digits as tell ticks apart.
fn short(x: f64) -> String {
    if x < 0.001 {
        return format!("{x:e}");
    }
    let rounded = format!("{x:.3}");
    match rounded.contains('.') {
        true => rounded.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => rounded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(points: &[(f64, f64)]) -> Panel {
        let line = |name, look, drawn| Line { name, look, drawn, points: points.to_vec() };
        let lines = vec![
            line("a", Look::First, Drawing::Both),
            line("b", Look::Second, Drawing::Dots),
            line("b", Look::Second, Drawing::Line),
            line("c", Look::FirstAside, Drawing::Both),
            line("d", Look::SecondAside, Drawing::Both),
            line("e", Look::Third, Drawing::Line),
        ];
        Panel { title: "a < b".into(), x: "x", y: "y", lines }
    }

    fn well_formed(svg: &str) {
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN") && !svg.contains("a < b"), "{svg}");
    }

    #[test]
    fn any_numbers() {
        let odd = [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300, 1e300, 1.0, 1.0, 5000.0];
        let all: Vec<(f64, f64)> = odd.iter().flat_map(|&x| odd.map(|y| (x, y))).collect();
        for points in [&[][..], &[(1.0, 1.0)], &[(1.0, 3.0), (64.0, 3.0)], &all] {
            let draw = || lines("title", "subtitle", 2, &[panel(points), panel(&[]), panel(points)]).unwrap();
            well_formed(&draw());
            assert_eq!(draw(), draw());
            assert!(draw().contains("nothing to show"));
        }
        let row = |x: f64| ("row".to_string(), vec![Some(Dot { at: x, deviation: Some(2.0) }), None, Some(1.0.into())]);
        let panels = [Dots { title: "a < b".into(), rows: odd.map(row).into() }, Dots { title: "none".into(), rows: Vec::new() }];
        for along in [Along::Ratios, Along::Values("error (%)")] {
            let svg = dots("title", "", &["FLOPs", "bytes", "ms"], along, &panels).unwrap();
            well_formed(&svg);
            assert!(svg.contains("FLOPs") && !svg.contains("bytes"), "the legend names what is there");
            assert_eq!(svg.contains("error (%)"), along != Along::Ratios);
        }
    }

    #[test]
    fn ticks_are_round() {
        let ticks = |from, to| Scale { from, to }.ticks();
        assert_eq!(ticks(0.9, 11.0), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!(ticks(3.0, 20_000.0), [10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!(ticks(0.95, 1.25), [1.0, 1.1, 1.2]);
        assert_eq!(ticks(0.95, 3.2), [1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!(ticks(27.0, 68.0), [30.0, 40.0, 50.0, 60.0]);
        assert_eq!(ticks(0.02, 0.06), [0.02, 0.03, 0.04, 0.05, 0.06]);
        assert_eq!([0.05, 1.0, 2000.0, 0.1 * 3.0, 0.0001].map(short), ["0.05", "1", "2000", "0.3", "1e-4"]);
    }

    /// Of places: the ends of the axis are the ends of the panel, and equal ratios lie equally far apart.
    #[test]
    fn axes_are_logarithmic() {
        let scale = Scale::of([1.0, 100.0].into_iter(), 1.0).unwrap();
        assert_eq!([1.0, 10.0, 100.0].map(|x| scale.place(x, 0, 100)), [0, 50 * SCALE, 100 * SCALE]);
        assert!(Scale::of([].into_iter(), 1.0).is_none());
    }
}
