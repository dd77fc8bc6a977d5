//! Plots of growing costs, as SVGs that are legible on light and dark backgrounds.

use std::fmt::Write;

pub struct Curve {
    pub name: &'static str,
    /// Numbers of subscribers or events, and the cost at each.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 840.0;
const HEIGHT: f64 = 400.0;
const PANEL: (f64, f64) = (330.0, 280.0);
const TOP: f64 = 40.0;
/// Mid tones that can be told apart on white and on black. The first one is ours.
const COLOURS: [&str; 8] = [
    "#e5484d", "#3b82f6", "#16a34a", "#a855f7", "#d97706", "#0891b2", "#db2777", "#737373",
];
pub const STYLE: &str = "text{font:12px sans-serif;fill:#768390}.axis{stroke:#8c959f;stroke-width:1}\
.grid{stroke:#8c959f;stroke-width:.3}\
@media(prefers-color-scheme:light){text{fill:#424a53}}\
@media(prefers-color-scheme:dark){text{fill:#c9d1d9}}";

/// Draws panels side by side, each with its title, and a legend.
pub fn picture(label: &str, panels: &[(&str, &[Curve])]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for curve in panels.iter().flat_map(|(_, curves)| curves.iter()) {
        if !names.contains(&curve.name) {
            names.push(curve.name);
        }
    }
    let width = WIDTH / 2.0 * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" role=\"img\" \
         aria-label=\"{label}\"><style>{STYLE}</style>\n"
    );
    for (place, (title, curves)) in panels.iter().enumerate() {
        svg += &panel(60.0 + 410.0 * place as f64, title, curves, &names);
    }
    let in_a_row = 2 * panels.len();
    for (place, name) in names.iter().enumerate() {
        let x = 60.0 + (place % in_a_row) as f64 * 190.0;
        let y = 365.0 + (place / in_a_row) as f64 * 20.0;
        put(
            &mut svg,
            format_args!(
                "<rect x=\"{x}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{}\"/>\
                 <text x=\"{}\" y=\"{y}\">{name}</text>\n",
                y - 10.0,
                colour(names.as_slice(), name),
                x + 16.0,
            ),
        );
    }
    svg + "</svg>\n"
}

/// The colour of a name, which is the same in all panels.
fn colour(names: &[&str], name: &str) -> &'static str {
    let place = names.iter().position(|it| *it == name).unwrap_or(0);
    COLOURS[place % COLOURS.len()]
}

/// Draws a panel with two logarithmic axes.
fn panel(left: f64, title: &str, curves: &[Curve], names: &[&str]) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let decades_x = points()
        .map(|point| point.0.log10())
        .fold(1.0, f64::max)
        .ceil();
    let lowest = points()
        .map(|point| point.1.log10())
        .fold(f64::MAX, f64::min)
        .floor();
    let highest = points()
        .map(|point| point.1.log10())
        .fold(0.0, f64::max)
        .ceil();
    let bottom = TOP + PANEL.1;
    let x = |count: f64| left + count.log10() / decades_x * PANEL.0;
    let y = |cost: f64| bottom - (cost.log10() - lowest) / (highest - lowest) * PANEL.1;

    let mut svg = String::new();
    put(
        &mut svg,
        format_args!("<text x=\"{left}\" y=\"{}\">{title}</text>\n", TOP - 16.0),
    );
    for decade in 0..=decades_x as i32 {
        let count = 10f64.powi(decade);
        put(
            &mut svg,
            format_args!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                x(count),
                bottom + 18.0,
                short(count)
            ),
        );
    }
    for decade in lowest as i32..=highest as i32 {
        let bytes = 10f64.powi(decade);
        put(
            &mut svg,
            format_args!(
                "<line class=\"grid\" x1=\"{left}\" x2=\"{0}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/>\
             <text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{4}</text>\n",
                left + PANEL.0,
                y(bytes),
                left - 6.0,
                y(bytes) + 4.0,
                short(bytes)
            ),
        );
    }
    put(
        &mut svg,
        format_args!(
            "<path class=\"axis\" fill=\"none\" d=\"M{left} {TOP}V{bottom}H{}\"/>\n",
            left + PANEL.0
        ),
    );
    // Ours is drawn last, on top.
    for curve in curves.iter().rev() {
        let path: Vec<String> = curve
            .points
            .iter()
            .map(|&(count, bytes)| format!("{:.1},{:.1}", x(count), y(bytes)))
            .collect();
        put(
            &mut svg,
            format_args!(
                "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" points=\"{}\"><title>{}</title></polyline>\n",
                colour(names, curve.name),
                if curve.name.starts_with("event-buffer") {
                    3
                } else {
                    1
                },
                path.join(" "),
                curve.name,
            ),
        );
    }
    svg
}

fn short(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{} G", n / 1e9),
        n if n >= 1e6 => format!("{} M", n / 1e6),
        n if n >= 1e3 => format!("{} k", n / 1e3),
        n => n.to_string(),
    }
}

fn put(svg: &mut String, written: std::fmt::Arguments<'_>) {
    svg.write_fmt(written).expect("a String takes all");
}
