//! Names of the kernel's addresses that occur in recorded stacks. They are looked up here, because the
//! kernel's list of its symbols is ten megabytes and of no use elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use archibald_trace::capture::{FORMATS, Ring};
use archibald_trace::format::EventFormat;
use archibald_trace::page;

use crate::Root;

/// Names the addresses in the stacks of a capture; damaged pages and a missing list name none.
pub(super) fn names(
    root: &Root,
    folder: &Path,
    rings: &[Ring],
    page_bytes: usize,
) -> BTreeMap<u64, String> {
    let addresses = addresses(folder, rings, page_bytes).unwrap_or_default();
    if addresses.is_empty() {
        return BTreeMap::new();
    }
    lookup(root, &addresses).unwrap_or_default()
}

fn addresses(folder: &Path, rings: &[Ring], page_bytes: usize) -> Option<BTreeSet<u64>> {
    let text = fs::read_to_string(folder.join(FORMATS).join("ftrace.kernel_stack")).ok()?;
    let stack = EventFormat::parse(&text).ok()?;
    let caller = stack.field("caller")?;
    let mut addresses = BTreeSet::new();
    for ring in rings {
        let pages = fs::read(folder.join(&ring.file)).ok()?;
        for page in pages.chunks(page_bytes.max(64)) {
            let Ok(page) = page::parse(page) else { continue };
            for record in page.records {
                if record.bytes.get(..2) == Some(&stack.id.to_le_bytes()) {
                    addresses.extend(caller.words_to_end(record.bytes).unwrap_or_default());
                }
            }
        }
    }
    addresses.retain(|address| *address != 0 && *address != u64::MAX);
    Some(addresses)
}

fn lookup(root: &Root, addresses: &BTreeSet<u64>) -> Option<BTreeMap<u64, String>> {
    // The symbol that begins last at or before each address.
    let mut best: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    let (first, last) = (*addresses.first()?, *addresses.last()?);
    let list = fs::File::open(root.path("/proc/kallsyms")).ok()?;
    for line in BufReader::new(list).lines() {
        let line = line.ok()?;
        let mut words = line.split_whitespace();
        let (Some(start), Some(kind), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(start) = u64::from_str_radix(start, 16) else { continue };
        if !kind.eq_ignore_ascii_case("t") || start > last || start + (1 << 16) < first {
            continue;
        }
        for address in addresses.range(start..start.saturating_add(1 << 16)) {
            let known = best.get(address).map_or(0, |(known, _)| *known);
            if start > known {
                best.insert(*address, (start, name.to_owned()));
            }
        }
    }
    Some(best.into_iter().map(|(address, (_, name))| (address, name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_bears_the_name_of_the_function_that_it_lies_in() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let list =
            b"ffff0100 T schedule\nffff0200 t io_schedule\nffff0210 d data\nffff0300 T later\n";
        root.write("/proc/kallsyms", list, 0o444).unwrap();
        let names = lookup(&root, &BTreeSet::from([0xffff_0150, 0xffff_0220])).unwrap();
        let names: Vec<&str> = names.values().map(String::as_str).collect();
        assert_eq!(names, ["schedule", "io_schedule"]);
    }
}
