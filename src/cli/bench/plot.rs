//! Small line charts side by side, as one SVG that needs nothing else.

use std::fmt::{self, Write};

/// One chart. Its values begin at 0.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) lines: Vec<Line>,
}

pub(crate) struct Line {
    /// Empty where a panel has one line only.
    pub(crate) name: &'static str,
    /// Ascending, all of them positive.
    pub(crate) points: Vec<(f64, f64)>,
}

const COLUMNS: usize = 3;
/// Pixels of one panel with what belongs to it.
const PANEL: (f64, f64) = (300.0, 220.0);
/// Pixels of a panel left of, right of, above and below its plot.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 16.0;
const ABOVE: f64 = 34.0;
const BELOW: f64 = 34.0;
/// Pixels above and below the panels, for the title and for words on the axis.
const HEAD: f64 = 40.0;
const FOOT: f64 = 24.0;
/// Values at which there is a line across, at most.
const STEPS_MAX: f64 = 5.0;
const COLORS: [&str; 3] = ["#1f6feb", "#d1571f", "#2f8f4e"];
const STYLE: &str = "text{font:11px system-ui,sans-serif;fill:#444}\
.h{font-size:15px;font-weight:600;fill:#111}.t{font-size:12px;font-weight:600;fill:#111}\
.e{text-anchor:end}.m{text-anchor:middle}.g{stroke:#e4e4e4}.a{stroke:#888}\
path{fill:none;stroke-width:2;stroke-linejoin:round}";

/// The horizontal axis.
#[derive(Clone, Copy)]
pub(crate) enum Across {
    /// From the least to the most.
    Logarithmic,
    /// From 0.
    Linear,
}

/// The panels in rows of three. All of them share the horizontal axis.
pub(crate) fn svg(title: &str, axis: &str, across: Across, panels: &[Panel]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_svg(&mut text, title, axis, across, panels);
    text
}

fn write_svg(
    out: &mut String,
    title: &str,
    axis: &str,
    across: Across,
    panels: &[Panel],
) -> fmt::Result {
    let width = PANEL.0 * float(COLUMNS.min(panels.len()));
    let height = HEAD + PANEL.1 * float(panels.len().div_ceil(COLUMNS)) + FOOT;
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">"#
    )?;
    writeln!(out, "<title>{}</title>\n<style>{STYLE}</style>", escaped(title))?;
    writeln!(out, r##"<rect width="{width}" height="{height}" fill="#fff"/>"##)?;
    writeln!(out, r#"<text class="h" x="{LEFT}" y="24">{}</text>"#, escaped(title))?;
    let x = match across {
        Across::Logarithmic => Scale::logarithmic(panels),
        Across::Linear => Scale::linear(points(panels).map(|it| it.0)),
    };
    for (index, panel) in panels.iter().enumerate() {
        let left = PANEL.0 * float(index % COLUMNS);
        let top = HEAD + PANEL.1 * float(index / COLUMNS);
        writeln!(out, r#"<g transform="translate({left} {top})">"#)?;
        write_panel(out, panel, &x)?;
        writeln!(out, "</g>")?;
    }
    let (middle, bottom) = (width / 2.0, height - 9.0);
    writeln!(out, r#"<text class="m" x="{middle}" y="{bottom}">{}</text>"#, escaped(axis))?;
    writeln!(out, "</svg>")
}

fn write_panel(out: &mut String, panel: &Panel, x: &Scale) -> fmt::Result {
    let y = Scale::linear(panel.lines.iter().flat_map(|it| &it.points).map(|it| it.1));
    let (right, bottom) = (PANEL.0 - RIGHT, PANEL.1 - BELOW);
    writeln!(out, r#"<text class="t" x="{LEFT}" y="14">{}</text>"#, escaped(panel.title))?;
    for (place, words) in &y.ticks {
        let at = bottom - place * (bottom - ABOVE);
        writeln!(
            out,
            r#"<line class="g" x1="{LEFT}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/><text class="e" x="{:.1}" y="{:.1}">{words}</text>"#,
            LEFT - 6.0,
            at + 4.0
        )?;
    }
    for (place, words) in &x.ticks {
        let at = LEFT + place * (right - LEFT);
        writeln!(
            out,
            r#"<line class="a" x1="{at:.1}" x2="{at:.1}" y1="{bottom}" y2="{:.1}"/><text class="m" x="{at:.1}" y="{:.1}">{words}</text>"#,
            bottom + 4.0,
            bottom + 17.0
        )?;
    }
    writeln!(out, r#"<line class="a" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>"#)?;
    let unit_at = ABOVE - 6.0;
    write!(out, r#"<text x="{LEFT}" y="{unit_at}">{}"#, escaped(panel.unit))?;
    for (line, color) in panel.lines.iter().zip(COLORS) {
        if !line.name.is_empty() {
            write!(out, r#"<tspan dx="10" style="fill:{color}">— {}</tspan>"#, escaped(line.name))?;
        }
    }
    writeln!(out, "</text>")?;
    for (line, color) in panel.lines.iter().zip(COLORS) {
        let mut path = String::new();
        let mut dots = String::new();
        for (number, (across, up)) in line.points.iter().enumerate() {
            let across = LEFT + x.place(*across) * (right - LEFT);
            let up = bottom - y.place(*up) * (bottom - ABOVE);
            let verb = if number == 0 { 'M' } else { 'L' };
            write!(path, "{verb}{across:.1} {up:.1}")?;
            write!(dots, r#"<circle cx="{across:.1}" cy="{up:.1}" r="3" fill="{color}"/>"#)?;
        }
        writeln!(out, r#"<path stroke="{color}" d="{path}"/>{dots}"#)?;
    }
    Ok(())
}

fn points(panels: &[Panel]) -> impl Iterator<Item = &(f64, f64)> {
    panels.iter().flat_map(|it| &it.lines).flat_map(|it| &it.points)
}

/// Numbers as parts of an axis, from 0 to 1.
struct Scale {
    from: f64,
    until: f64,
    logarithmic: bool,
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// From the least to the most of all points, a tick at every power of ten and at both ends.
    fn logarithmic(panels: &[Panel]) -> Self {
        let from = points(panels).map(|it| it.0).fold(f64::INFINITY, f64::min).clamp(1.0, f64::MAX);
        let until = points(panels).map(|it| it.0).fold(from * 1.01, f64::max);
        let mut scale = Self { from, until, logarithmic: true, ticks: Vec::new() };
        let mut values = vec![from];
        let mut power = 1.0;
        while power < until {
            // Words need a fifth of the axis.
            let free = |at: &f64| (scale.place(power) - scale.place(*at)).abs() > 0.2;
            if power > from && free(&from) && free(&until) {
                values.push(power);
            }
            power *= 10.0;
        }
        values.push(until);
        scale.ticks = values.iter().map(|it| (scale.place(*it), short(*it))).collect();
        scale
    }

    /// From 0 to a round number at or above the highest value.
    fn linear(values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let rough = most / STEPS_MAX;
        let power = 10_f64.powf(rough.log10().floor());
        let round = [1.0, 2.0, 5.0, 10.0].map(|it| it * power);
        let step = round.into_iter().find(|it| *it >= rough).unwrap_or(rough);
        let steps = (most / step).ceil();
        let mut scale =
            Self { from: 0.0, until: steps * step, logarithmic: false, ticks: Vec::new() };
        let mut value = 0.0;
        while value < scale.until + step / 2.0 {
            scale.ticks.push((scale.place(value), short(value)));
            value += step;
        }
        scale
    }

    fn place(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value / self.from).ln() / (self.until / self.from).ln()
        } else {
            (value - self.from) / (self.until - self.from)
        };
        part.clamp(0.0, 1.0)
    }
}

/// A number in few characters: `20 k`, `1.5 M`.
fn short(number: f64) -> String {
    let (unit, words) = match number {
        it if it >= 1e6 => (1e6, " M"),
        it if it >= 1e4 => (1e3, " k"),
        _ => (1.0, ""),
    };
    let scaled = (number / unit * 100.0).round() / 100.0;
    format!("{scaled}{words}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[expect(clippy::cast_precision_loss, reason = "counts of panels")]
fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::{Across, Line, Panel, Scale, short, svg};

    fn panel(points: &[(f64, f64)]) -> Panel {
        let line = Line { name: "", points: points.to_vec() };
        Panel { title: "a < b", unit: "ms", lines: vec![line] }
    }

    #[test]
    fn ticks_are_round_numbers_that_hold_every_point() {
        let rows: [(f64, &[&str]); 5] = [
            (0.0, &["0", "0.2", "0.4", "0.6", "0.8", "1"]),
            (7.0, &["0", "2", "4", "6", "8"]),
            (10.0, &["0", "2", "4", "6", "8", "10"]),
            (93_000.0, &["0", "20 k", "40 k", "60 k", "80 k", "100 k"]),
            (1_100_000.0, &["0", "500 k", "1 M", "1.5 M"]),
        ];
        for (most, expected) in rows {
            let ticks = Scale::linear([0.0, most].into_iter()).ticks;
            let words: Vec<&str> = ticks.iter().map(|it| it.1.as_str()).collect();
            assert_eq!(words, expected, "{most}");
            assert!((ticks[ticks.len() - 1].0 - 1.0).abs() < 1e-9);
        }
        assert_eq!(short(9_500.0), "9500");
    }

    #[test]
    fn the_horizontal_axis_runs_from_the_first_to_the_last_point() {
        let scale = Scale::logarithmic(&[panel(&[(1e5, 1.0), (1e6, 2.0), (1e7, 3.0)])]);
        let words: Vec<&str> = scale.ticks.iter().map(|it| it.1.as_str()).collect();
        assert_eq!(words, ["100 k", "1 M", "10 M"]);
        assert!((scale.place(1e6) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_picture_is_well_formed_and_has_every_point() {
        let panels = [panel(&[(1e5, 1.0), (1e6, 2.0)]), panel(&[]), panel(&[(1e5, 0.0)])];
        let text = svg("growth & more", "events", Across::Logarithmic, &panels);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{text}");
        assert_eq!(text.matches("<circle").count(), 3);
        assert_eq!(text.matches("<g ").count(), text.matches("</g>").count());
        assert!(text.contains("growth &amp; more") && text.contains("a &lt; b"));
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
