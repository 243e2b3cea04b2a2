//! Memory, and the kinds of pages it is cut into.

use archibald_machine::units::Bytes;

use crate::{Fact, Root};

/// Memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// What the kernel has in all.
    pub total: Option<Fact<Bytes>>,
    /// What programs could have now.
    pub available: Option<Fact<Bytes>>,
    /// Pages set aside, by size.
    pub huge_pages: Vec<HugePages>,
    /// `always`, `madvise` or `never`.
    pub transparent: Option<Fact<String>>,
    /// Whether equal pages are merged (KSM).
    pub merging: Option<Fact<bool>>,
    /// Whether pages wander between NUMA nodes.
    pub numa_balancing: Option<Fact<bool>>,
}

/// Pages of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct HugePages {
    /// One page.
    pub size: Bytes,
    /// How many there are.
    pub count: Fact<u64>,
    /// How many nobody uses.
    pub free: u64,
}

impl Memory {
    pub(super) fn read(root: &Root) -> Self {
        let meminfo = |key: &str| {
            root.fact("/proc/meminfo", |text| {
                let line = text.lines().find(|line| line.split(':').next() == Some(key))?;
                let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
                Some((line.to_owned(), Bytes(kib << 10)))
            })
            .map(|fact| Fact {
                value: fact.value.1,
                text: fact.value.0,
                file: fact.file,
            })
        };
        let is_on = |path: &str| root.fact(path, |text| Some(text != "0"));
        Self {
            total: meminfo("MemTotal"),
            available: meminfo("MemAvailable"),
            huge_pages: huge_pages(root),
            transparent: root.fact("/sys/kernel/mm/transparent_hugepage/enabled", chosen),
            // 2 means: unmerged and off.
            merging: root.fact("/sys/kernel/mm/ksm/run", |text| Some(text == "1")),
            numa_balancing: is_on("/proc/sys/kernel/numa_balancing"),
        }
    }
}

/// The chosen word of a file such as `always [madvise] never`.
pub(crate) fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

fn huge_pages(root: &Root) -> Vec<HugePages> {
    let at = "/sys/kernel/mm/hugepages";
    let pages = |name: String| {
        let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?;
        Some(HugePages {
            size: Bytes(kib << 10),
            count: root.fact(&format!("{at}/{name}/nr_hugepages"), |text| text.parse().ok())?,
            free: root.text(&format!("{at}/{name}/free_hugepages"))?.parse().ok()?,
        })
    };
    root.names(at).into_iter().filter_map(pages).collect()
}
