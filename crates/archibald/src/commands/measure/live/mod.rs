//! The live view of a measurement: what the meter tells of itself once a second, drawn in place on a
//! terminal, a line each time elsewhere. The terminal is put into no state that would have to be undone:
//! whatever ends the program leaves it as it was. Each meter's view has a file of its own.

mod audio;
mod wakeup;

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

pub(super) use audio::Live as Audio;
pub(super) use wakeup::Live as Wakeup;

/// Looks back that are drawn.
const PAST: usize = 40;

/// Where it is drawn.
struct Screen {
    /// Lines of the last drawing, which the next one covers.
    drawn: usize,
    terminal: bool,
}

impl Screen {
    fn new() -> Self {
        Self { drawn: 0, terminal: std::io::stderr().is_terminal() }
    }

    /// Draws the picture, where it can be covered by the next one, or the line.
    fn draw(&mut self, lines: &[String], plain: &str) {
        let text = if self.terminal {
            // A terminal that nobody has told its size says 0.
            let width = rustix::termios::tcgetwinsize(std::io::stderr())
                .map_or(0, |size| usize::from(size.ws_col));
            let width = if width == 0 { 80 } else { width };
            self.cover(lines, width)
        } else {
            format!("{plain}\n")
        };
        // A reader that has gone is no reason to end the measurement.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// The picture over the last one.
    fn cover(&mut self, lines: &[String], width: usize) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for line in lines {
            // A line that wraps would be two, and the next drawing begin too low.
            let cut: String = line.chars().take(width.saturating_sub(1)).collect();
            let _ = write!(text, "\r\x1b[2K{cut}\n");
        }
        self.drawn = lines.len();
        text
    }
}

/// To the nearest: looks are a second apart and a little.
const fn seconds(elapsed: Duration) -> u128 {
    (elapsed.as_millis() + 500) / 1000
}

/// A column a value, as high as it is beside the largest.
fn sparks(values: &[u64]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let height = |value: &u64| {
        let step = usize::try_from(value * 7 / most).unwrap_or(7);
        HEIGHTS.get(step).copied().unwrap_or('█')
    };
    values.iter().map(height).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_covers_the_one_before_and_no_line_wraps() {
        let mut screen = Screen { drawn: 0, terminal: true };
        let lines = ["one".to_owned(), "a line too long".to_owned()];
        assert_eq!(screen.cover(&lines, 7), "\r\x1b[2Kone\n\r\x1b[2Ka line\n");
        assert!(screen.cover(&lines[..1], 7).starts_with("\x1b[2A\r"));
        assert_eq!(screen.drawn, 1);
    }

    #[test]
    fn the_largest_value_has_the_highest_column() {
        assert_eq!(sparks(&[0, 4, 8]), "▁▄█");
        assert_eq!(sparks(&[]), "");
    }
}
