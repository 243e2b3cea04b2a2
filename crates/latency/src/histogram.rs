//! A distribution of latencies: bins of one microsecond, the exact extremes beside them, and no
//! quantile that the sample cannot carry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The quantiles that reports ask for.
pub const QUANTILES: [f64; 6] = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999];

const NS_PER_BIN: u64 = 1000;

/// Counts per microsecond; as JSON:
/// `{"unit":"us","bins":[[3,120],[17,1]],"min_ns":3012,"max_ns":17480,"sum_ns":378000}`, a bin being
/// `[first microsecond, count]` and covering one microsecond from there on. Empty bins are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "Document", into = "Document")]
pub struct Histogram {
    bins: BTreeMap<u64, u64>,
    count: u64,
    min_ns: u64,
    max_ns: u64,
    sum_ns: u64,
}

/// The JSON form.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Histogram"))]
struct Document {
    /// Always `us`.
    unit: String,
    /// `[first microsecond, count]`.
    bins: Vec<(u64, u64)>,
    /// The smallest sample; absent without samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_ns: Option<u64>,
    /// The largest sample, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_ns: Option<u64>,
    /// All samples added up.
    #[serde(default)]
    sum_ns: u64,
}

/// A histogram whose parts do not fit together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistogramError {
    /// Another unit than microseconds.
    #[error("the histogram's unit is \"{0}\", expected \"us\"")]
    Unit(String),
    /// A bin twice, a bin with 0, or extremes outside the bins.
    #[error("the histogram contradicts itself: {0}")]
    Contradiction(&'static str),
}

/// A quantile with what stands behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantile {
    /// Which: 0.99.
    pub q: f64,
    /// The end of the bin that the sample of this rank lies in, at most the exact maximum: this
    /// share of the samples was not above it.
    pub at_most_ns: u64,
}

impl Histogram {
    /// Without samples.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sample.
    pub fn record(&mut self, ns: u64) {
        self.record_many(ns, 1);
    }

    /// Adds `count` samples of one value.
    pub fn record_many(&mut self, ns: u64, count: u64) {
        if count == 0 {
            return;
        }
        self.min_ns = if self.count == 0 { ns } else { self.min_ns.min(ns) };
        self.max_ns = self.max_ns.max(ns);
        self.sum_ns = self.sum_ns.saturating_add(ns.saturating_mul(count));
        self.count = self.count.saturating_add(count);
        let bin = self.bins.entry(ns / NS_PER_BIN).or_default();
        *bin = bin.saturating_add(count);
    }

    /// Adds the samples of another.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.min_ns = if self.count == 0 { other.min_ns } else { self.min_ns.min(other.min_ns) };
        self.max_ns = self.max_ns.max(other.max_ns);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.count = self.count.saturating_add(other.count);
        for (us, count) in &other.bins {
            let bin = self.bins.entry(*us).or_default();
            *bin = bin.saturating_add(*count);
        }
    }

    /// How many samples.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The smallest sample.
    pub fn min_ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min_ns)
    }

    /// The largest sample, exactly.
    pub fn max_ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max_ns)
    }

    /// The mean in nanoseconds.
    #[allow(clippy::cast_precision_loss)]
    pub fn mean_ns(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_ns as f64 / self.count as f64)
    }

    /// `(first microsecond, count)` of the bins that are not empty, in order.
    pub fn bins(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.bins.iter().map(|(us, count)| (*us, *count))
    }

    /// How many samples may lie above this many nanoseconds. Exact where the border of a bin or the
    /// extremes decide; otherwise the samples of the bin that it cuts count as above.
    pub fn above(&self, ns: u64) -> u64 {
        if self.count == 0 || ns >= self.max_ns {
            return 0;
        }
        self.bins.range(ns / NS_PER_BIN..).map(|(_, count)| *count).sum()
    }

    /// Whether `n` samples carry the quantile `q`: at 95 % confidence the largest of them lies above
    /// the true quantile, 1 - q^n >= 0.95 (distribution-free order statistics; H. A. David,
    /// H. N. Nagaraja, Order Statistics, 7.1). With fewer, the "quantile" is the maximum under
    /// another name.
    pub fn supports(n: u64, q: f64) -> bool {
        n > 0 && Self::samples_for(q).is_some_and(|needed| n >= needed)
    }

    /// The fewest samples that carry the quantile `q`: 5, 299, 2995 for 0.5, 0.99, 0.999. Absent
    /// for a `q` not between 0 and 1.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn samples_for(q: f64) -> Option<u64> {
        (q > 0.0 && q < 1.0).then(|| (0.05_f64.ln() / q.ln()).ceil() as u64)
    }

    /// The quantile, if the sample carries it.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn quantile(&self, q: f64) -> Option<Quantile> {
        if !Self::supports(self.count, q) {
            return None;
        }
        let rank = ((q * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut seen = 0_u64;
        for (us, count) in &self.bins {
            seen = seen.saturating_add(*count);
            if seen >= rank {
                let end = us.saturating_add(1).saturating_mul(NS_PER_BIN);
                return Some(Quantile { q, at_most_ns: end.min(self.max_ns) });
            }
        }
        None
    }

    /// Those of [`QUANTILES`] that the sample carries.
    pub fn quantiles(&self) -> Vec<Quantile> {
        QUANTILES.iter().filter_map(|q| self.quantile(*q)).collect()
    }

    /// The complementary distribution: `(end of bin in us, share of samples above it)`, from the
    /// start of the first bin, where it is 1, to the last, where it is 0.
    #[allow(clippy::cast_precision_loss)]
    pub fn complementary(&self) -> Vec<(u64, f64)> {
        let Some((first, _)) = self.bins.first_key_value() else { return Vec::new() };
        let mut above = self.count;
        let mut points = vec![(*first, 1.0)];
        let mut end = *first;
        for (us, count) in &self.bins {
            if *us > end {
                points.push((*us, above as f64 / self.count as f64));
            }
            above = above.saturating_sub(*count);
            end = us.saturating_add(1);
            points.push((end, above as f64 / self.count as f64));
        }
        points
    }
}

impl From<Histogram> for Document {
    fn from(histogram: Histogram) -> Self {
        Self {
            unit: "us".to_owned(),
            min_ns: histogram.min_ns(),
            max_ns: histogram.max_ns(),
            sum_ns: histogram.sum_ns,
            bins: histogram.bins.into_iter().collect(),
        }
    }
}

impl TryFrom<Document> for Histogram {
    type Error = HistogramError;

    fn try_from(document: Document) -> Result<Self, HistogramError> {
        let wrong = |what| Err(HistogramError::Contradiction(what));
        if document.unit != "us" {
            return Err(HistogramError::Unit(document.unit));
        }
        let mut bins = BTreeMap::new();
        let mut count = 0_u64;
        for (us, samples) in document.bins {
            if samples == 0 || bins.insert(us, samples).is_some() {
                return wrong("a bin stands twice or with 0 samples");
            }
            count = count.saturating_add(samples);
        }
        let ends = (bins.first_key_value(), bins.last_key_value());
        let (min_ns, max_ns) = match (ends, document.min_ns, document.max_ns) {
            ((Some((first, _)), Some((last, _))), Some(min), Some(max))
                if min / NS_PER_BIN == *first && max / NS_PER_BIN == *last && min <= max =>
            {
                (min, max)
            }
            ((None, None), None, None) => (0, 0),
            _ => return wrong("the extremes do not lie in the first and the last bin"),
        };
        Ok(Self { bins, count, min_ns, max_ns, sum_ns: document.sum_ns })
    }
}

#[cfg(test)]
#[path = "histogram_tests.rs"]
mod tests;
