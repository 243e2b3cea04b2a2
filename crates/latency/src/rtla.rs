//! What the kernel's own latency tracers measured, by the histograms that rtla prints of them: `rtla
//! timerlat hist` and `rtla osnoise hist`, in microseconds and with bins of one.

use crate::Histogram;

/// Nanoseconds in rtla's unit.
const NS_PER_US: u64 = 1000;

/// What a column counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// From the timer's time until its interrupt was handled.
    Interrupt,
    /// From the timer's time until the thread ran.
    Thread,
    /// From the timer's time until the thread was back in user space.
    User,
    /// For how long a busy thread did not have its CPU, each time.
    Noise,
}

/// One column: a kind on a CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What was counted.
    pub kind: Kind,
    /// Where.
    pub cpu: u32,
    /// Bins of a microsecond, the largest to the microsecond. Without samples when nothing was seen.
    pub histogram: Histogram,
    /// How many samples lay beyond rtla's histogram. They are counted at the maximum: later than they
    /// were, never earlier.
    pub beyond: u64,
}

/// A text that is no histogram of rtla.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RtlaError {
    /// There is no table in it.
    #[error("rtla measured nothing: there is no histogram in what it said")]
    Empty,
    /// Another unit than microseconds.
    #[error("rtla's histogram is not in microseconds: {0}")]
    Unit(String),
    /// A line of the table that has another form.
    #[error("rtla's histogram cannot be read at \"{0}\"")]
    Form(String),
    /// Numbers that do not fit together.
    #[error("rtla's histogram contradicts itself: {0}")]
    Contradiction(String),
}

/// Reads what `rtla timerlat hist` or `rtla osnoise hist` printed.
///
/// # Errors
/// [`RtlaError`]: no table, another unit, or numbers that do not fit together.
pub fn read(text: &str) -> Result<Vec<Column>, RtlaError> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut columns = Vec::new();
    for line in lines.by_ref() {
        if let Some(unit) = line.strip_prefix("# Time unit is ") {
            if !unit.contains("(us)") {
                return Err(RtlaError::Unit(unit.to_owned()));
            }
        }
        if let Some(head) = line.strip_prefix("Index") {
            columns = head.split_whitespace().map(column).collect::<Result<Vec<_>, _>>()?;
            break;
        }
    }
    if columns.is_empty() {
        return Err(RtlaError::Empty);
    }
    let (mut over, mut counts, mut most) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        let form = || RtlaError::Form(line.to_owned());
        let (head, rest) = line.split_once(char::is_whitespace).ok_or_else(form)?;
        // The sums over all CPUs follow; they are made of the same samples.
        if head == "ALL:" {
            break;
        }
        let cells: Vec<Option<u64>> = rest
            .split_whitespace()
            .map(|cell| if cell == "-" { Ok(None) } else { cell.parse::<f64>().map(whole) })
            .collect::<Result<_, _>>()
            .map_err(|_| form())?;
        if cells.len() != columns.len() {
            return Err(form());
        }
        match head {
            "over:" => over = cells,
            "count:" => counts = cells,
            "max:" => most = cells,
            "min:" | "avg:" => {}
            index => {
                let us: u64 = index.parse().map_err(|_| form())?;
                for (column, count) in columns.iter_mut().zip(&cells) {
                    column.histogram.record_many(us * NS_PER_US, count.unwrap_or(0));
                }
            }
        }
    }
    for (i, column) in columns.iter_mut().enumerate() {
        let at = |row: &[Option<u64>]| row.get(i).copied().flatten();
        column.finish(at(&over).unwrap_or(0), at(&counts), at(&most))?;
    }
    if columns.iter().all(|column| column.histogram.count() == 0) && counts.is_empty() {
        return Err(RtlaError::Empty);
    }
    Ok(columns)
}

/// Averages have decimals; everything that is kept is whole.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(cell: f64) -> Option<u64> {
    (cell >= 0.0).then_some(cell as u64)
}

/// `IRQ-000`, `Thr-000`, `Usr-000`, `CPU-000`.
fn column(name: &str) -> Result<Column, RtlaError> {
    let form = || RtlaError::Form(name.to_owned());
    let (kind, cpu) = name.split_once('-').ok_or_else(form)?;
    let kind = match kind {
        "IRQ" => Kind::Interrupt,
        "Thr" => Kind::Thread,
        "Usr" => Kind::User,
        "CPU" => Kind::Noise,
        _ => return Err(form()),
    };
    let cpu = cpu.parse().map_err(|_| form())?;
    Ok(Column { kind, cpu, histogram: Histogram::new(), beyond: 0 })
}

impl Column {
    fn finish(&mut self, over: u64, count: Option<u64>, max: Option<u64>) -> Result<(), RtlaError> {
        let wrong = |what: String| Err(RtlaError::Contradiction(what));
        let (kind, cpu) = (self.kind, self.cpu);
        if over > 0 {
            let Some(max) = max else {
                return wrong(format!("CPU {cpu}: samples beyond the histogram and no maximum"));
            };
            self.histogram.record_many(max * NS_PER_US, over);
            self.beyond = over;
        }
        let samples = self.histogram.count();
        if count.is_some_and(|count| count != samples) {
            return wrong(format!(
                "{kind:?} on CPU {cpu}: {samples} samples in its bins, {} counted",
                count.unwrap_or(0)
            ));
        }
        let found = self.histogram.max_ns();
        if let (Some(max), Some(found)) = (max, found) {
            if max * NS_PER_US != found {
                return wrong(format!(
                    "{kind:?} on CPU {cpu}: the largest bin is {} us, the maximum {max} us",
                    found / NS_PER_US
                ));
            }
        }
        Ok(())
    }
}

/// These columns' samples together.
pub fn together<'a>(columns: impl IntoIterator<Item = &'a Column>) -> Histogram {
    let mut all = Histogram::new();
    for column in columns {
        all.merge(&column.histogram);
    }
    all
}

#[cfg(test)]
#[path = "rtla_tests.rs"]
mod tests;
