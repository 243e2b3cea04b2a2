//! A page of the kernel's ring buffer, as `trace_pipe_raw` gives it: a time stamp, the used length,
//! and records whose times are differences. Source: `include/linux/ring_buffer.h` and the comment on
//! `struct buffer_data_page` in `kernel/trace/ring_buffer.c`; the form is stable, trace-cmd stores it.

/// Bytes before the first record: time stamp and used length.
const HEADER: usize = 16;
/// The used length lies in the lower bits of its word; the upper ones are flags.
const LENGTH: u64 = (1 << 27) - 1;
/// Flag: events before this page were overwritten.
const MISSED: u64 = 1 << 31;
/// Types of records above the ones that carry data.
const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;
/// Bits of a time difference in a record's head.
const DELTA_BITS: u32 = 27;

/// A record: when, and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'p> {
    /// In ns of the trace clock.
    pub at_ns: u64,
    /// Beginning with the event's number.
    pub bytes: &'p [u8],
}

/// What a page holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<'p> {
    /// In the order of time.
    pub records: Vec<Record<'p>>,
    /// Whether events before it are missing.
    pub missed: bool,
}

/// Takes a page apart.
///
/// # Errors
/// What about it is damaged.
pub fn parse(page: &[u8]) -> Result<Page<'_>, &'static str> {
    let begun = word64(page, 0).ok_or("shorter than its header")?;
    let commit = word64(page, 8).ok_or("shorter than its header")?;
    let length = usize::try_from(commit & LENGTH).map_err(|_| "an impossible length")?;
    let data = page.get(HEADER..HEADER + length).ok_or("the used length is beyond its end")?;
    let mut now = begun;
    let mut records = Vec::new();
    let mut place = 0;
    while place < data.len() {
        let head = word32(data, place).ok_or("a record's head is cut off")?;
        place += 4;
        let (kind, delta) = (head & 31, u64::from(head >> 5));
        let argument = |place| word32(data, place).ok_or("a record's length is cut off");
        let size = match kind {
            PADDING if delta == 0 => break,
            PADDING => {
                now = now.saturating_add(delta);
                argument(place)? as usize
            }
            TIME_EXTEND => {
                let upper = u64::from(argument(place)?) << DELTA_BITS;
                now = now.saturating_add(upper + delta);
                4
            }
            TIME_STAMP => {
                // 59 bits; the five above them are those of the time before.
                let stamp = (u64::from(argument(place)?) << DELTA_BITS) + delta;
                now = stamp | (now >> 59 << 59);
                4
            }
            0 => {
                let size = argument(place)? as usize;
                now = now.saturating_add(delta);
                let content = size.checked_sub(4).ok_or("a record shorter than its own length")?;
                push(&mut records, data, place + 4, content, now)?;
                size.next_multiple_of(4)
            }
            words => {
                now = now.saturating_add(delta);
                push(&mut records, data, place, words as usize * 4, now)?;
                words as usize * 4
            }
        };
        place = place.checked_add(size).ok_or("an impossible length")?;
    }
    Ok(Page { records, missed: commit & MISSED != 0 })
}

fn push<'p>(
    records: &mut Vec<Record<'p>>,
    data: &'p [u8],
    place: usize,
    size: usize,
    at_ns: u64,
) -> Result<(), &'static str> {
    let end = place.checked_add(size).ok_or("an impossible length")?;
    let bytes = data.get(place..end).ok_or("a record is beyond the used length")?;
    records.push(Record { at_ns, bytes });
    Ok(())
}

fn word64(bytes: &[u8], place: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(place..place + 8)?.try_into().ok()?))
}

fn word32(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(place..place + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes a page as the kernel does.
    fn page_of(begun: u64, records: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut data = Vec::new();
        let mut last = begun;
        for (at, bytes) in records {
            let delta = at - last;
            last = *at;
            let low = (1u64 << DELTA_BITS) - 1;
            if delta > low {
                data.extend((TIME_EXTEND | ((delta & low) as u32) << 5).to_le_bytes());
                data.extend(((delta >> DELTA_BITS) as u32).to_le_bytes());
            }
            let delta = if delta > low { 0 } else { delta as u32 };
            let words = bytes.len().div_ceil(4);
            if (1..=28).contains(&words) {
                data.extend((words as u32 | delta << 5).to_le_bytes());
            } else {
                data.extend((delta << 5).to_le_bytes());
                data.extend((words as u32 * 4 + 4).to_le_bytes());
            }
            data.extend(bytes);
            data.resize(data.len().next_multiple_of(4), 0);
        }
        let mut page = begun.to_le_bytes().to_vec();
        page.extend((data.len() as u64).to_le_bytes());
        page.extend(data);
        page
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            begun in 0u64..1 << 58,
            steps in prop::collection::vec((0u64..1 << 40, prop::collection::vec(any::<u8>(), 1..40)), 0..30),
        ) {
            let mut at = begun;
            let records: Vec<(u64, Vec<u8>)> = steps
                .into_iter()
                .map(|(step, words)| {
                    at += step;
                    (at, words.into_iter().flat_map(|word| [word; 4]).collect())
                })
                .collect();
            let page = page_of(begun, &records);
            let read = parse(&page).unwrap();
            let read: Vec<(u64, Vec<u8>)> =
                read.records.iter().map(|record| (record.at_ns, record.bytes.to_vec())).collect();
            prop_assert_eq!(read, records);
        }

        #[test]
        fn damage_is_an_error_or_other_records_never_a_panic(
            mut page in Just(page_of(5, &[(6, vec![1; 8]), (1 << 30, vec![2; 200]), (1 << 31, vec![3; 64])])),
            place in 0usize..300, byte in any::<u8>(), cut in 0usize..400,
        ) {
            if let Some(target) = page.get_mut(place) { *target = byte; }
            page.truncate(cut);
            let _ = parse(&page);
        }

        #[test]
        fn noise_never_panics(page in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&page);
        }
    }

    #[test]
    fn an_absolute_stamp_sets_the_time_and_padding_ends_the_page() {
        let stamp = 3u64 << 30;
        let mut data = Vec::new();
        data.extend((TIME_STAMP | ((stamp & ((1 << 27) - 1)) as u32) << 5).to_le_bytes());
        data.extend(((stamp >> 27) as u32).to_le_bytes());
        data.extend((1u32 | 10 << 5).to_le_bytes());
        data.extend([9, 9, 9, 9]);
        data.extend(PADDING.to_le_bytes());
        data.extend([0xff; 8]);
        let mut page = 1u64.to_le_bytes().to_vec();
        page.extend((data.len() as u64 | MISSED).to_le_bytes());
        page.extend(data);
        let read = parse(&page).unwrap();
        assert!(read.missed);
        assert_eq!(read.records, [Record { at_ns: stamp + 10, bytes: &[9, 9, 9, 9] }]);
    }
}
