//! What pw-top(1) counts: the xruns of each node, by PipeWire's profiler.

use std::collections::BTreeMap;

/// The last table of `pw-top -b` by its words: the headings, then a node each, those that follow a driver, with
/// a `+` before their name, below it. Empty where there is no table.
pub fn last_table(text: &str) -> Vec<Vec<&str>> {
    let mut lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().collect()).collect();
    let headings = lines.iter().rposition(|words| words.contains(&"ERR"));
    lines.split_off(headings.unwrap_or(lines.len()))
}

/// The column ERR of the last table of `pw-top -b`, by the node's name.
pub fn errors(text: &str) -> BTreeMap<String, u64> {
    let mut errors = BTreeMap::new();
    let table = last_table(text);
    let Some((headings, nodes)) = table.split_first() else { return errors };
    let column = headings.iter().position(|word| *word == "ERR");
    for words in nodes {
        let count = column.and_then(|at| words.get(at)?.parse::<u64>().ok());
        if let (Some(count), Some(name)) = (count, words.last()) {
            *errors.entry((*name).to_owned()).or_insert(0) += count;
        }
    }
    errors
}

/// The node that drives `client`, in the last table of `pw-top -b`.
pub fn driver_of<'t>(text: &'t str, client: &str) -> Option<&'t str> {
    let mut driver = None;
    for words in last_table(text).iter().skip(1) {
        match words.as_slice() {
            [.., "+", name] if *name == client => return driver,
            [.., "+", _] | [] => {}
            [.., name] => driver = Some(*name),
        }
    }
    None
}

/// What all nodes counted between two looks. One that is new counts from 0, one that is gone not at all.
pub fn between(before: &str, after: &str) -> Option<u64> {
    let (before, after) = (errors(before), errors(after));
    if after.is_empty() {
        return None;
    }
    let more = after
        .iter()
        .map(|(name, count)| count.saturating_sub(before.get(name).copied().unwrap_or(0)));
    Some(more.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
S   ID  QUANT   RATE    WAIT    BUSY   W/Q   B/Q  ERR FORMAT           NAME
R   33      0      0   0.0us   0.0us  0.00  0.00    9                  archibald-null
S   ID  QUANT   RATE    WAIT    BUSY   W/Q   B/Q  ERR FORMAT           NAME
R   33     32  48000   1.0us   2.0us  0.00  0.00    2    F32P 2 48000 archibald-null
R   50     32  48000   1.0us   2.0us  0.00  0.00   60    F32P 1 48000  + client
";

    #[test]
    fn the_last_table_counts_and_only_what_came_between_two() {
        let after = BEFORE.replace("  60 ", "  64 ").replace("0.00    2 ", "0.00    3 ");
        assert_eq!(errors(&after).get("client"), Some(&64));
        assert_eq!(between(BEFORE, &after), Some(5));
        assert_eq!(between("", &after), Some(67));
        assert_eq!(between(BEFORE, BEFORE), Some(0));
        assert_eq!(between(BEFORE, "pw-top: no connection"), None);
        assert_eq!(driver_of(BEFORE, "client"), Some("archibald-null"));
        assert_eq!((driver_of(BEFORE, "archibald-null"), driver_of("", "client")), (None, None));
    }
}
