//! SVG written by hand: shapes with class names, whose colours come from one small style sheet.

use std::fmt::Write as _;

/// Colours and strokes, for a page and for a picture of its own.
pub(super) const STYLE: &str = include_str!("chart.css");

/// The same without variables and without a media query, in light or dark.
pub(super) fn still_style(dark: bool) -> String {
    // The sheet begins with the two palettes: `:root { … }`, and the dark one inside of its query.
    let mut palettes = STYLE.split(":root {").skip(1).filter_map(|rest| rest.split_once('}'));
    let light = palettes.next().map_or("", |(names, _)| names);
    let night = palettes.next();
    let shapes = night.and_then(|(_, rest)| rest.split_once('}')).map_or(STYLE, |(_, rest)| rest);
    let palette = if dark { night.map_or(light, |(names, _)| names) } else { light };
    let mut style = shapes.to_owned();
    for (name, value) in palette.split(';').filter_map(|pair| pair.split_once(':')) {
        style = style.replace(&format!("var({})", name.trim()), value.trim());
    }
    style
}

/// A drawing that grows.
pub(super) struct Svg {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

/// Which end of a text lies at its place.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A text that may stand in HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no way to say it.
            c if c.is_control() && !c.is_whitespace() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

impl Svg {
    /// `label` says what the drawing shows to who cannot see it.
    pub(super) fn new(width: f64, height: f64, label: &str) -> Self {
        Self { width, height, label: label.to_owned(), body: String::new() }
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.body.write_fmt(element);
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.push(format_args!(
            r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
            from.0, from.1, to.0, to.1
        ));
    }

    /// A rectangle, with a text that appears on hovering if it has one.
    pub(super) fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), hover: &str) {
        let (x, y, width, height) = (at.0, at.1, size.0.max(0.0), size.1.max(0.0));
        self.push(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}""#
        ));
        match hover {
            "" => self.body.push_str("/>"),
            hover => self.push(format_args!("><title>{}</title></rect>", escape(hover))),
        }
    }

    pub(super) fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            r#"<text class="{class}" x="{:.1}" y="{:.1}" text-anchor="{anchor}">{}</text>"#,
            at.0,
            at.1,
            escape(text)
        ));
    }

    /// A line through these points; `close` takes it down to this y at both ends and fills it.
    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)], close: Option<f64>) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let mut d = String::new();
        for (i, (x, y)) in points.iter().enumerate() {
            let _ = write!(d, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
        }
        if let Some(base) = close {
            let _ = write!(d, "L{:.1} {base:.1}L{:.1} {base:.1}Z", last.0, first.0);
        }
        self.push(format_args!(r#"<path class="{class}" d="{d}"/>"#));
    }

    /// For inside a page, which has the style sheet.
    pub(super) fn inline(&self) -> String {
        let Self { width, height, label, body } = self;
        let label = escape(label);
        format!(
            r#"<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{body}</svg>"#
        )
    }

    /// For a file, with where the figures come from at the bottom.
    pub(super) fn document(&self, mark: &str) -> String {
        let Self { width, height, label, body } = self;
        let tall = height + 24.0;
        let (label, mark) = (escape(label), escape(mark));
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {width} {tall}" width="{width}" height="{tall}" role="img" aria-label="{label}"><style>{STYLE}</style><rect class="paper" width="{width}" height="{tall}"/>{body}<text class="note" x="12" y="{:.1}">{mark} · {label}</text></svg>
"#,
            height + 14.0
        )
    }
}
