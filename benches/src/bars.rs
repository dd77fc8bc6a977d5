//! Groups of bars, as an SVG that is legible on light and dark backgrounds.

use std::fmt::Write;

use crate::plot::STYLE;
use crate::table::figure;

pub struct Bars {
    /// The quantity shown, and its unit.
    pub title: &'static str,
    /// The number of bars at the head of each group that are ours.
    pub ours: usize,
    pub groups: Vec<Group>,
}

pub struct Group {
    pub label: &'static str,
    pub bars: Vec<(&'static str, f64)>,
}

const WIDTH: f64 = 720.0;
/// The left end of all bars, and the right end of the longest one.
const BARS: (f64, f64) = (200.0, 640.0);
const BAR: f64 = 16.0;
const LINE: f64 = 21.0;
/// Mid tones that can be told apart on white and on black.
const OURS: [&str; 2] = ["#e5484d", "#f08c8f"];
const PEERS: [&str; 2] = ["#3b82f6", "#16a34a"];

impl Bars {
    pub fn draw(&self) -> String {
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let longest = bars().map(|bar| bar.1).fold(0.0, f64::max);
        let lines = bars().count() + self.groups.len();
        let mut y = 30.0;
        let height = y + LINE * lines as f64 + 6.0 * self.groups.len() as f64;

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"{0}\"><style>{STYLE}</style>\n<text x=\"8\" y=\"18\">{0}</text>\n",
            self.title
        );
        for group in &self.groups {
            put(
                &mut svg,
                format_args!(
                    "<text x=\"8\" y=\"{}\" style=\"font-weight:bold\">{}</text>\n",
                    y + 15.0,
                    group.label
                ),
            );
            y += LINE;
            for (place, (name, value)) in group.bars.iter().enumerate() {
                let length = value / longest * (BARS.1 - BARS.0);
                put(
                    &mut svg,
                    format_args!(
                        "<text x=\"{0}\" y=\"{1}\" text-anchor=\"end\">{name}</text>\
                         <rect x=\"{2}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{3}\"/>\
                         <text x=\"{4:.1}\" y=\"{1}\">{5}</text>\n",
                        BARS.0 - 8.0,
                        y + 12.0,
                        BARS.0,
                        self.colour(place),
                        BARS.0 + length + 6.0,
                        figure(*value),
                    ),
                );
                y += LINE;
            }
            y += 6.0;
        }
        svg + "</svg>\n"
    }

    fn colour(&self, place: usize) -> &'static str {
        match place.checked_sub(self.ours) {
            None => OURS[place % OURS.len()],
            Some(peer) => PEERS[peer % PEERS.len()],
        }
    }
}

fn put(svg: &mut String, written: std::fmt::Arguments<'_>) {
    svg.write_fmt(written).expect("a String takes all");
}
