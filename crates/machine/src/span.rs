//! A length of time as people write it.

use std::str::FromStr;
use std::time::Duration;

use crate::units::NotA;

/// A length of time: `"5s"`, `"250ms"`, `"10min"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = NotA;

    fn from_str(text: &str) -> Result<Self, NotA> {
        let error =
            NotA { expected: "a time with its unit, such as \"5s\", \"250ms\" or \"10min\"" };
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| error.clone())?;
        let (digits, unit) = text.split_at(split);
        let number: u64 = digits.parse().map_err(|_| error.clone())?;
        let milliseconds = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err(error),
        };
        // A year of virtual time is no length that anybody waits for, and a wrapped one a lie.
        let total = number.checked_mul(milliseconds).filter(|total| *total < 1 << 35);
        total.map(|total| Self(Duration::from_millis(total))).ok_or(error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_units_are_those_that_people_write() {
        let read = |text: &str| text.parse::<Span>().unwrap().0;
        assert_eq!(read("5s"), Duration::from_secs(5));
        assert_eq!(read("250 ms"), Duration::from_millis(250));
        assert_eq!(read("10min"), Duration::from_secs(600));
        for wrong in
            ["", "5", "s", "5 seconds", "-1s", "1.5s", "99999999999999999999s", "99999999h"]
        {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_read_wrongly(text in "\\PC{0,12}") {
            let _ = text.parse::<Span>();
        }
    }
}
