//! Amounts of bytes as people write them on a command line: `64K`, `8M`, `10G`.

use std::str::FromStr;

/// An amount of bytes.
///
/// ```
/// assert_eq!("64K".parse(), Ok(streamdb::Amount(65_536)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(pub u64);

/// The text is no amount of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmountError {
    /// What follows the number is none of the units.
    #[error("{unit:?} is no unit; use K, M, G or T (powers of 1024)")]
    Unit {
        /// What follows the number.
        unit: String,
    },
    /// There is no number, or one that is too great.
    #[error("{text:?} is no amount of bytes; write for example 512M")]
    Number {
        /// What was given.
        text: String,
    },
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text.get(digits.len()..).unwrap_or_default();
        let shift = match unit.to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KIB" => 10,
            "M" | "MIB" => 20,
            "G" | "GIB" => 30,
            "T" | "TIB" => 40,
            _ => {
                return Err(AmountError::Unit { unit: unit.chars().take(20).collect() });
            }
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| AmountError::Number { text: text.chars().take(40).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024_and_nonsense_is_refused() {
        for (text, bytes) in [("0", 0), ("17B", 17), ("64k", 65_536), ("2GiB", 2 << 30)] {
            assert_eq!(text.parse(), Ok(Amount(bytes)), "{text}");
        }
        for text in ["", "M", "1.5G", "-1", "1X", "99999999999T"] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }
}
