//! Who asks, which groups they are in, and what they may take.

use archibald_machine::units::Bytes;

use crate::{Fact, Root};

/// Who asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Number of the user whose rights count.
    pub uid: Option<Fact<u32>>,
    /// Names of the groups that the session is in.
    pub groups: Vec<String>,
    /// Most memory that can be locked (hard limit); `None` inside: without limit.
    pub locked_memory: Option<Fact<Option<Bytes>>>,
    /// Highest real-time priority that can be asked for (hard limit).
    pub rt_priority: Option<Fact<u64>>,
    /// May give itself any priority, whatever the limit (CAP_SYS_NICE).
    pub any_priority: bool,
    /// Whether /dev/vfio/vfio opens.
    pub vfio: Access,
}

/// What became of opening a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// It opened.
    Open,
    /// It is there and did not open; the system's words.
    Refused(String),
    /// It is not there.
    Absent,
}

/// Bit of CAP_SYS_NICE (linux/capability.h).
const SYS_NICE: u32 = 23;

impl Session {
    pub(super) fn read(root: &Root) -> Self {
        let status = |key: &'static str| {
            root.fact("/proc/self/status", move |text| {
                let line = text.lines().find(|line| line.split(':').next() == Some(key))?;
                Some(line.to_owned())
            })
        };
        let numbers = |line: &str| -> Vec<u32> {
            line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect()
        };
        let uid = status("Uid").and_then(|fact| {
            // real, effective, saved, file system
            let value = *numbers(&fact.value).get(1)?;
            Some(Fact { value, file: fact.file, text: fact.value })
        });
        let gids: Vec<u32> = ["Gid", "Groups"]
            .into_iter()
            .filter_map(status)
            .flat_map(|fact| numbers(&fact.value))
            .collect();
        let capabilities = status("CapEff")
            .and_then(|fact| u64::from_str_radix(fact.value.split_whitespace().nth(1)?, 16).ok());
        Self {
            uid,
            groups: group_names(root, &gids),
            locked_memory: limit(root, "Max locked memory", |word| match word {
                "unlimited" => Some(None),
                number => number.parse().ok().map(|bytes| Some(Bytes(bytes))),
            }),
            rt_priority: limit(root, "Max realtime priority", |word| match word {
                "unlimited" => Some(99),
                number => number.parse().ok(),
            }),
            any_priority: capabilities.is_some_and(|bits| bits >> SYS_NICE & 1 == 1),
            vfio: super::virtualization::open(root, "/dev/vfio/vfio"),
        }
    }

    /// Whether this is root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid.as_ref().is_some_and(|fact| fact.value == 0)
    }

    /// Whether the session is in this group.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|name| name == group)
    }
}

/// A row of /proc/self/limits: name, soft limit, hard limit, unit.
fn limit<T>(root: &Root, name: &str, parse: fn(&str) -> Option<T>) -> Option<Fact<T>> {
    root.fact("/proc/self/limits", |text| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        let hard = line[name.len()..].split_whitespace().nth(1)?;
        Some((parse(hard)?, line.split_whitespace().collect::<Vec<_>>().join(" ")))
    })
    .map(|fact| Fact { value: fact.value.0, text: fact.value.1, file: fact.file })
}

fn group_names(root: &Root, gids: &[u32]) -> Vec<String> {
    let file = root.text("/etc/group").unwrap_or_default();
    let group = |line: &str| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?);
        gids.contains(&gid.parse().ok()?).then(|| name.to_owned())
    };
    file.lines().filter_map(group).collect()
}
