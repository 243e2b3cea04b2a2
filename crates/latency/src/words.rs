//! Figures as people read them: a unit always, as many digits as mean something.

/// `0.1 %`, `33 %`, `0.00033 %`: two digits that count.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", digits(share * 100.0, 2))
}

/// `17.48 us`, `1.204 ms`, `2.5 s`: the unit that fits, at most four digits that count.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn micros(ns: u64) -> String {
    duration(ns as f64)
}

/// The same from a fraction of nanoseconds.
pub(crate) fn duration(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    format!("{} {unit}", digits(value, 4))
}

/// `12 s`, `3.5 min`, `2.1 h`, `17 days`: how long something takes.
pub(crate) fn span(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 120.0 => (s, "s"),
        s if s < 7200.0 => (s / 60.0, "min"),
        s if s < 172_800.0 => (s / 3600.0, "h"),
        s => (s / 86400.0, "days"),
    };
    format!("{} {unit}", digits(value, 2))
}

/// `1,234,567`.
pub(crate) fn grouped(n: u64) -> String {
    let plain = n.to_string();
    let mut out = String::new();
    for (i, c) in plain.chars().enumerate() {
        if i > 0 && (plain.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `1 xrun`, `2 xruns`, `1,234 xruns`.
pub(crate) fn count(n: u64, one: &str) -> String {
    format!("{} {one}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// Rounded to `significant` digits, without zeros at the end, never in powers of ten.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn digits(value: f64, significant: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let before = value.abs().log10().floor() as i32 + 1;
    let after = (significant - before).max(0);
    let text = if before > significant {
        let step = 10_f64.powi(before - significant);
        let rounded = (value / step).round() * step;
        return if rounded >= 0.0 { grouped(rounded as u64) } else { format!("{rounded:.0}") };
    } else {
        format!("{value:.*}", after as usize)
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_mean_something() {
        let seen = [
            percent(0.001),
            percent(1.0),
            percent(0.000_003_3),
            percent(0.334),
            micros(17_480),
            micros(1_204_000),
            micros(999),
            micros(0),
            micros(2_500_000_000),
            span(11.9),
            span(600.0),
            span(86_400.0),
            span(5e8),
            grouped(0),
            grouped(999),
            grouped(1_234_567),
            count(1, "xrun"),
            count(1_445, "xrun"),
            digits(5400.3, 2),
            digits(0.0, 2),
        ];
        let expected = [
            "0.1 %",
            "100 %",
            "0.00033 %",
            "33 %",
            "17.48 us",
            "1.204 ms",
            "0.999 us",
            "0 us",
            "2.5 s",
            "12 s",
            "10 min",
            "24 h",
            "5,800 days",
            "0",
            "999",
            "1,234,567",
            "1 xrun",
            "1,445 xruns",
            "5,400",
            "0",
        ];
        assert_eq!(seen.each_ref().map(String::as_str), expected);
    }
}
