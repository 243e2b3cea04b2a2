//! A report's charts as PNG. The SVG is the one of the page; its words are drawn in a type that this
//! program brings along, since a server has none.

use archibald_latency::Chart;
use resvg::{tiny_skia, usvg};

use crate::failure::{Context as _, Exit, Failure};

const TYPE: [&[u8]; 2] =
    [include_bytes!("../fonts/DejaVuSans.ttf"), include_bytes!("../fonts/DejaVuSans-Bold.ttf")];
/// Points of the picture for one of the drawing, so that it is sharp where it is shown larger.
const SCALE: f32 = 2.0;

/// This chart as a PNG, on white or on black.
pub(crate) fn png(chart: &Chart, dark: bool) -> Result<Vec<u8>, Failure> {
    draw(chart, dark)?.encode_png().context(&chart.name)
}

fn draw(chart: &Chart, dark: bool) -> Result<tiny_skia::Pixmap, Failure> {
    let mut options =
        usvg::Options { font_family: "DejaVu Sans".to_owned(), ..usvg::Options::default() };
    for face in TYPE {
        options.fontdb_mut().load_font_data(face.to_vec());
    }
    let tree = usvg::Tree::from_str(&chart.still(dark), &options).context(&chart.name)?;
    let size = tree.size().to_int_size().scale_by(SCALE);
    let canvas = size.and_then(|size| tiny_skia::Pixmap::new(size.width(), size.height()));
    let mut canvas = canvas.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("{}: a picture without a size", chart.name))
    })?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut canvas.as_mut());
    Ok(canvas)
}

#[cfg(test)]
mod tests {
    use archibald_latency::{Report, Run, Target};

    use super::*;

    /// A picture without its words is the same picture to a program that finds no type, and no error.
    #[test]
    fn words_are_drawn_on_a_host_without_a_type() {
        let run = Run::from_json(include_str!("../../latency/tests/golden/run-1.json")).unwrap();
        for chart in Report::new("run", vec![run], Target::audio()).charts() {
            let mut silent = chart.clone();
            while let Some((before, rest)) = silent.svg.split_once("<text") {
                silent.svg = format!("{before}{}", rest.split_once("</text>").unwrap().1);
            }
            for dark in [false, true] {
                let (told, untold) = (draw(&chart, dark).unwrap(), draw(&silent, dark).unwrap());
                let differing =
                    told.pixels().iter().zip(untold.pixels()).filter(|(a, b)| a != b).count();
                assert!(differing > 5000, "{}: {differing} points of its words", chart.name);
                assert_eq!(told.pixel(0, 0).unwrap().red() < 128, dark);
            }
        }
    }
}
