//! What a count can carry: exact one-sided bounds on a share and on a rate.
//!
//! Shares: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of
//! the binomial", Biometrika 26 (1934). Rates: Garwood, "Fiducial limits for the Poisson
//! distribution", Biometrika 28 (1936). Both are conservative: the true coverage is at least the
//! confidence asked for.

use statrs::function::beta::checked_beta_reg;
use statrs::function::gamma::checked_gamma_lr;

/// How sure a bound is, one-sided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// 95 %.
    #[default]
    C95,
    /// 99 %.
    C99,
}

impl Confidence {
    /// As a share of 1.
    pub const fn level(self) -> f64 {
        match self {
            Self::C95 => 0.95,
            Self::C99 => 0.99,
        }
    }

    /// For people: `95 %`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::C95 => "95 %",
            Self::C99 => "99 %",
        }
    }
}

/// The share that the true one exceeds with a chance of at most `1 - confidence`, after `k` of `n`.
/// 1 without trials. Both may be fractions: an effective number of trials is one.
pub fn upper_share(k: f64, n: f64, confidence: Confidence) -> f64 {
    if n <= 0.0 || k >= n {
        return 1.0;
    }
    let (a, b) = (k.max(0.0) + 1.0, n - k.max(0.0));
    rise_to(confidence.level(), 0.0, 1.0, |p| checked_beta_reg(a, b, p).ok())
}

/// The share that the true one falls below with a chance of at most `1 - confidence`. 0 after none.
pub fn lower_share(k: f64, n: f64, confidence: Confidence) -> f64 {
    if n <= 0.0 || k <= 0.0 {
        return 0.0;
    }
    let (a, b) = (k.min(n), (n - k).max(0.0) + 1.0);
    rise_to(1.0 - confidence.level(), 0.0, 1.0, |p| checked_beta_reg(a, b, p).ok())
}

/// The number of events that the true mean exceeds with a chance of at most `1 - confidence`, after
/// `k` were seen. After none it is -ln(0.05) = 3.0: the rule of three. Divide by the time for a rate.
pub fn upper_count(k: f64, confidence: Confidence) -> f64 {
    let k = k.max(0.0);
    // Far beyond every quantile that is asked for: mean k + 1, deviation sqrt(k + 1).
    let far = k + 20.0 + 20.0 * (k + 1.0).sqrt();
    rise_to(confidence.level(), 0.0, far, |mean| checked_gamma_lr(k + 1.0, mean).ok())
}

/// The fewest trials without a single event that show a share below `share`: 2,995 for 0.1 % at
/// 95 %. Absent for a share not between 0 and 1.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn trials_for(share: f64, confidence: Confidence) -> Option<u64> {
    (share > 0.0 && share < 1.0)
        .then(|| ((1.0 - confidence.level()).ln() / (-share).ln_1p()).ceil() as u64)
}

/// Where the rising function reaches `level`, by bisection down to neighbouring numbers.
fn rise_to(level: f64, low: f64, high: f64, value: impl Fn(f64) -> Option<f64>) -> f64 {
    let (mut low, mut high) = (low, high);
    loop {
        let middle = low.midpoint(high);
        if middle <= low || middle >= high {
            return high;
        }
        // Where the function has no value it lies at the very border; high is the safe side.
        if value(middle).is_some_and(|v| v < level) { low = middle } else { high = middle }
    }
}

#[cfg(test)]
#[path = "bound_tests.rs"]
mod tests;
