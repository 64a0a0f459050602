//! The learning curve of a run as an SVG: errors above, training loss below, against the epoch.
//!
//! A pure function of its arguments: the same bytes for the same rows. Never reads or writes a file. Read [`learning_curve`] first.
//!
//! Only lines, dots and text of plotters are used, and its mapping of numbers to places; where ticks, labels and legend go is decided here.

use std::ops::RangeInclusive;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::svg::{AXIS, Area, BLUE, Drawn, FAINT, GREEN, GRID, INK, ORANGE, SCALE, Side, drawing, fit, line, number, text};
use super::{Row, RunError};

/// What a viewer sees.
const SIZE: (u32, u32) = (800, 640);

/// Left and right end of both panels.
const X: (i32, i32) = (76, 718);

struct Panel {
    name: &'static str,
    /// Of its upper and its lower end.
    heights: (i32, i32),
    /// Where the values begin, if it is always the same.
    floor: Option<f64>,
    /// About how many ticks the values get.
    ticks: usize,
}

const ERRORS: Panel = Panel { name: "Error (%)", heights: (104, 352), floor: Some(0.0), ticks: 6 };
const LOSS: Panel = Panel { name: "Loss (mean per image)", heights: (416, 576), floor: None, ticks: 4 };

/// Runs of at most this many rows have a dot at each.
const MOST_DOTS: usize = 40;

/// Beyond this a number is drawn no more than NaN is.
const LARGEST: f64 = 1e30;

/// The figure. Rows whose figures are not finite leave a gap; the untrained network (epoch 0) is left out beside others, as its error dwarfs theirs.
pub fn learning_curve(title: &str, subtitle: &str, rows: &[Row]) -> Result<String, RunError> {
    let trained: Vec<&Row> = rows.iter().filter(|row| row.epoch > 0).collect();
    let rows = if trained.is_empty() { rows.iter().collect() } else { trained };
    drawing(SIZE, |area| draw(area, title, subtitle, &rows))
}

/// One line of a panel.
struct Series<'a> {
    name: &'a str,
    color: RGBColor,
    /// Epoch and figure.
    points: Vec<(f64, f64)>,
    /// The last figure, as shown beside the line.
    last: String,
}

impl<'a> Series<'a> {
    fn new(name: &'a str, color: RGBColor, rows: &[&Row], figure: fn(&Row) -> f64, show: fn(f64) -> String) -> Series<'a> {
        let points: Vec<_> = rows.iter().map(|row| (row.epoch as f64, figure(row))).collect();
        let last = points.last().filter(|(_, y)| drawable(*y)).map_or(String::new(), |(_, y)| show(*y));
        Series { name, color, points, last }
    }
}

fn draw(area: &Area, title: &str, subtitle: &str, rows: &[&Row]) -> Drawn<()> {
    let width = SIZE.0 as i32 - X.0 - 20;
    text(area, &fit(title, 20, width), (X.0, 34), 20, INK, Side::Left)?;
    text(area, &fit(subtitle, 13, width), (X.0, 57), 13, FAINT, Side::Left)?;

    let percent = |x: f64| format!("{x:.2} %");
    let test = Series::new("test", BLUE, rows, |row| row.test_error, percent);
    let train = Series::new("training", ORANGE, rows, |row| row.train_error, percent);
    let loss = Series::new("training", GREEN, rows, |row| row.train_loss, |x| number(x, 4));

    let epochs = epoch_axis(rows);
    // A model that learns no labels has no errors: its loss has all the room.
    let no_errors = !rows.is_empty() && rows.iter().all(|row| row.train_error.is_nan() && row.test_error.is_nan());
    match no_errors {
        true => draw_panel(area, &Panel { heights: (ERRORS.heights.0, LOSS.heights.1), ticks: 6, ..LOSS }, &epochs, &[loss])?,
        false => {
            draw_panel(area, &ERRORS, &epochs, &[train, test])?;
            draw_panel(area, &LOSS, &epochs, &[loss])?;
        }
    }
    text(area, "Epoch", ((X.0 + X.1) / 2, LOSS.heights.1 + 46), 13, INK, Side::Center)
}

/// A frame with grid, tick labels, legend and lines, between `top` and `bottom`.
fn draw_panel(area: &Area, panel: &Panel, x: &Axis, series: &[Series]) -> Drawn<()> {
    let (top, bottom) = panel.heights;
    let y = value_axis(panel.floor, panel.ticks, series.iter().flat_map(|series| &series.points).map(|&(_, y)| y));
    // Heights grow downwards in an SVG.
    let frame = ((X.0 * SCALE)..(X.1 * SCALE), (bottom * SCALE)..(top * SCALE));
    let place = Cartesian2d::<RangedCoordf64, RangedCoordf64>::new(x.from..x.to, y.from..y.to, frame);
    // Places in units of the viewer, for text; of the drawing, for lines.
    let shown = |at: (f64, f64)| (place.translate(&at).0 / SCALE, place.translate(&at).1 / SCALE);

    for tick in &x.ticks {
        let (at, _) = place.translate(&(tick.at, y.from));
        line(area, &[(at, top * SCALE), (at, bottom * SCALE)], GRID, 1)?;
        text(area, &tick.label, (at / SCALE, bottom + 20), 12, FAINT, Side::Center)?;
    }
    for tick in &y.ticks {
        let (_, at) = place.translate(&(x.from, tick.at));
        line(area, &[(X.0 * SCALE, at), (X.1 * SCALE, at)], GRID, 1)?;
        text(area, &tick.label, (X.0 - 8, at / SCALE + 4), 12, FAINT, Side::Right)?;
    }
    line(area, &[(X.0 * SCALE, top * SCALE), (X.0 * SCALE, bottom * SCALE), (X.1 * SCALE, bottom * SCALE)], AXIS, 1)?;

    text(area, panel.name, (X.0, top - 14), 14, INK, Side::Left)?;
    let mut left = X.1;
    for series in series.iter().rev() {
        left -= 7 * series.name.len() as i32;
        text(area, series.name, (left, top - 14), 13, series.color, Side::Left)?;
        line(area, &[((left - 28) * SCALE, (top - 18) * SCALE), ((left - 6) * SCALE, (top - 18) * SCALE)], series.color, 2)?;
        left -= 28 + 16;
    }

    for series in series {
        for run in series.points.split(|&(_, y)| !drawable(y)) {
            let path: Vec<_> = run.iter().map(|point| place.translate(point)).collect();
            line(area, &path, series.color, 2)?;
            // A single row between two gaps would be no line at all.
            if series.points.len() <= MOST_DOTS || path.len() == 1 {
                for at in path {
                    area.draw(&Circle::new(at, 3 * SCALE, series.color.filled()))?;
                }
            }
        }
    }
    let ends: Vec<_> = series.iter().filter(|s| !s.last.is_empty()).filter_map(|s| Some((s, shown(*s.points.last()?)))).collect();
    let heights = apart(&ends.iter().map(|(_, at)| at.1).collect::<Vec<_>>(), 17);
    for ((series, at), height) in ends.iter().zip(heights) {
        text(area, &series.last, (at.0 + 9, height + 5), 13, series.color, Side::Left)?;
    }
    if series.iter().all(|series| !series.points.iter().any(|&(_, y)| drawable(y))) {
        text(area, "nothing to show yet", ((X.0 + X.1) / 2, (top + bottom) / 2), 13, FAINT, Side::Center)?;
    }
    Ok(())
}

struct Axis {
    from: f64,
    to: f64,
    ticks: Vec<Tick>,
}

struct Tick {
    at: f64,
    label: String,
}

/// Whole epochs only, with half an epoch of room if there is just one.
fn epoch_axis(rows: &[&Row]) -> Axis {
    let first = rows.first().map_or(0.0, |row| row.epoch as f64);
    let last = rows.last().map_or(1.0, |row| row.epoch as f64);
    let room = if last > first { 0.02 * (last - first) } else { 0.5 };
    let (from, to) = (first - room, last + room);
    Axis { from, to, ticks: ticks(first..=last, step(last - first, 10).max(1.0)) }
}

/// From `floor`, or else from 0 if the figures come near it, to a round number above the largest.
fn value_axis(floor: Option<f64>, count: usize, figures: impl Iterator<Item = f64>) -> Axis {
    let figures: Vec<f64> = figures.chain(floor).filter(|x| drawable(*x)).collect();
    let low = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let high = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = match low <= high {
        true if low >= 0.0 && low < 0.6 * high => (0.0, high),
        true if high - low > 1e-6 * high.abs().max(low.abs()) => (low, high),
        // All the same: room on both sides, or above the floor.
        true if floor.is_none() => (low - 0.5 * low.abs().max(1e-3), high + 0.5 * high.abs().max(1e-3)),
        _ => (0.0, 1.0),
    };
    let step = step(high - low, count);
    let (from, to) = ((low / step).floor() * step, (high / step).ceil() * step);
    Axis { from, to, ticks: ticks(from..=to, step) }
}

/// 1, 2 or 5 times a power of ten, such that about `count` of them make up `range`.
fn step(range: f64, count: usize) -> f64 {
    let rough = range / count as f64;
    let power = 10_f64.powf(rough.max(f64::MIN_POSITIVE).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|x| x * power).find(|step| *step >= rough * 0.999);
    step.filter(|step| step.is_normal()).unwrap_or(1.0)
}

fn ticks(range: RangeInclusive<f64>, step: f64) -> Vec<Tick> {
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    let first = (range.start() / step - 1e-6).ceil();
    (0..20)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|at| *at <= range.end() + 1e-6 * step)
        .map(|at| Tick { at, label: number(if at.abs() < 1e-6 * step { 0.0 } else { at }, decimals) })
        .collect()
}

fn drawable(x: f64) -> bool {
    x.abs() < LARGEST
}

/// The heights, moved as little as two labels need to stand `distance` apart.
fn apart(heights: &[i32], distance: i32) -> Vec<i32> {
    let mut moved = heights.to_vec();
    if let [a, b] = heights {
        let missing = (distance - (a - b).abs()).max(0);
        let sign = if a <= b { 1 } else { -1 };
        moved = vec![a - sign * (missing / 2), b + sign * (missing - missing / 2)];
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(epochs: usize) -> Vec<Row> {
        let row = |epoch: usize| {
            let x = epoch as f64 * 10.0 / epochs as f64;
            let noise = ((epoch * 7919) % 101) as f64 / 101.0 - 0.5;
            let train_error = 4.0 + 30.0 / (x + 0.4) + noise;
            Row { epoch, train_loss: 0.2 + 1.5 / (x + 0.5), train_error, test_error: train_error + 0.4 * x + noise, ..Row::default() }
        };
        (1..=epochs).map(row).collect()
    }

    /// Every tag closed, in order, and no bare `<` or `&`.
    #[track_caller]
    fn well_formed(svg: &str) {
        let mut open = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, after) = part.split_once('>').expect("a tag that ends");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            assert!(!after.contains('>') && after.split('&').skip(1).all(|entity| entity.contains(';')), "{after}");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split(' ').next().unwrap()),
            }
        }
        assert!(open.is_empty() && svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    fn curve(rows: &[Row]) -> String {
        let svg = learning_curve("localmixer M/1/16, LG-FG-A", "mnist-10k, batch 128, seed 0", rows).unwrap();
        well_formed(&svg);
        svg
    }

    #[test]
    fn any_number_of_epochs() {
        for epochs in [0, 1, 2, 3, 10, 41, 1000] {
            let svg = curve(&rows(epochs));
            for part in
                ["localmixer M/1/16, LG-FG-A", "mnist-10k, batch 128", "Error (%)", "Loss (mean per image)", "Epoch", "test", "training"]
            {
                assert!(svg.contains(part), "{part}");
            }
            assert_eq!(svg.contains("nothing to show yet"), epochs == 0);
            assert!(svg.contains(r#"<svg width="800" height="640""#));
        }
    }

    #[test]
    fn deterministic() {
        assert_eq!(curve(&rows(10)), curve(&rows(10)));
        assert_ne!(curve(&rows(10)), curve(&rows(11)));
    }

    #[test]
    fn odd_figures() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e-300, -3.0, 1e29, f64::MAX, f64::MIN, 5e-324, 1.0, 1.0 + 1e-15];
        for x in odd {
            for y in odd {
                let row = |epoch, x| Row { epoch, train_loss: x, train_error: x, test_error: y, ..Row::default() };
                curve(&[row(1, x)]);
                curve(&[row(1, x), row(2, y), row(3, x)]);
            }
        }
        let gaps: Vec<Row> =
            rows(9).into_iter().map(|row| if row.epoch % 3 == 0 { Row { train_loss: f64::NAN, ..row } } else { row }).collect();
        curve(&gaps);
    }

    #[test]
    fn without_errors_the_loss_has_all_the_room() {
        let without: Vec<Row> = rows(5).into_iter().map(|row| Row { train_error: f64::NAN, test_error: f64::NAN, ..row }).collect();
        let svg = curve(&without);
        assert!(svg.contains("Loss (mean per image)") && !svg.contains("Error (%)") && !svg.contains("nothing to show"));
    }

    #[test]
    fn odd_epochs() {
        let at = |epoch| Row { epoch, test_error: 50.0, ..Row::default() };
        curve(&[at(0)]);
        assert_eq!(curve(&[at(0), at(1)]), curve(&[at(1)]));
        curve(&[at(7)]);
        curve(&[at(1), at(usize::MAX)]);
    }

    #[test]
    fn titles_are_escaped_and_cut() {
        let svg = learning_curve("a < b & \"c\" \u{1}\u{ffff}", &"long ".repeat(100), &rows(2)).unwrap();
        well_formed(&svg);
        assert!(svg.contains("a &lt; b &amp; &quot;c&quot;") && svg.contains('…') && !svg.contains('\u{1}'));
    }

    #[test]
    fn steps_are_round() {
        for (range, count, expected) in
            [(10.0, 5, 2.0), (1.0, 5, 0.2), (0.07, 5, 0.02), (999.0, 10, 100.0), (9.0, 10, 1.0), (90.0, 5, 20.0)]
        {
            assert!((step(range, count) / expected - 1.0).abs() < 1e-9, "{range}: {}", step(range, count));
        }
        let labels = |axis: Axis| axis.ticks.into_iter().map(|tick| tick.label).collect::<Vec<_>>();
        assert_eq!(labels(value_axis(None, 5, [3.3, 90.0].into_iter())), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(value_axis(None, 5, [0.31, 0.39].into_iter())), ["0.30", "0.32", "0.34", "0.36", "0.38", "0.40"]);
        assert_eq!(labels(value_axis(Some(0.0), 6, [26.0, 27.0].into_iter())), ["0", "5", "10", "15", "20", "25", "30"]);
        assert_eq!(labels(value_axis(Some(0.0), 4, [0.0, 0.0].into_iter())), ["0.0", "0.5", "1.0"]);
        assert_eq!(labels(value_axis(None, 5, [].into_iter())), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    }

    #[test]
    fn labels_stand_apart() {
        assert_eq!(apart(&[100, 200], 17), [100, 200]);
        assert_eq!(apart(&[100, 103], 17), [93, 110]);
        assert_eq!(apart(&[103, 100], 17), [110, 93]);
        assert_eq!(apart(&[50], 17), [50]);
    }

    /// `CURVES=DIR cargo test look` writes figures to look at.
    #[test]
    fn look() {
        if let Some(dir) = std::env::var_os("CURVES") {
            for epochs in [0, 1, 10, 1000] {
                let path = std::path::Path::new(&dir).join(format!("curve{epochs}.svg"));
                std::fs::write(path, curve(&rows(epochs))).unwrap();
            }
        }
    }
}
