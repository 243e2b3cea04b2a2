//! The `Range` header: one range of bytes (RFC 9110, section 14).

use std::ops::Range;

/// What a `Range` header asks of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The whole value: no range, or one that may be passed over (another unit, several ranges,
    /// not well formed).
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that the value does not have.
    Outside,
}

/// Reads a `Range` header against a value of `size` bytes.
pub(super) fn asked(header: &str, size: u64) -> Asked {
    let Some(spec) = strip_bytes(header) else {
        return Asked::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else {
        return Asked::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    match (first.is_empty(), number(first), last.is_empty(), number(last)) {
        // The last so many bytes.
        (true, _, false, Some(0)) => Asked::Outside,
        (true, _, false, Some(_)) if size == 0 => Asked::Outside,
        (true, _, false, Some(count)) => Asked::Part(size.saturating_sub(count)..size),
        (false, Some(first), true, _) => part(first, u64::MAX, size),
        (false, Some(first), false, Some(last)) if first <= last => part(first, last, size),
        _ => Asked::Whole,
    }
}

fn part(first: u64, last: u64, size: u64) -> Asked {
    if first >= size {
        return Asked::Outside;
    }
    Asked::Part(first..last.saturating_add(1).min(size))
}

fn strip_bytes(header: &str) -> Option<&str> {
    let (unit, spec) = header.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(spec)
}

/// Digits only; a number too great for the type is past every value's end all the same.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let cases = [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=2-", Asked::Part(2..10)),
            ("bytes=2-99", Asked::Part(2..10)),
            ("bytes=9-9", Asked::Part(9..10)),
            ("BYTES= 1 - 2 ", Asked::Part(1..3)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=10-", Asked::Outside),
            ("bytes=99999999999999999999-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=3-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("lines=1-2", Asked::Whole),
            ("nonsense", Asked::Whole),
        ];
        for (header, want) in cases {
            assert_eq!(asked(header, 10), want, "{header}");
        }
        assert_eq!(asked("bytes=0-", 0), Asked::Outside);
        assert_eq!(asked("bytes=-5", 0), Asked::Outside);
    }
}
