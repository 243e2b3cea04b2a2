//! One tracefs instance: rings, chosen events, and the copy of their raw pages. Source: the kernel's
//! `Documentation/trace/ftrace.rst` and `events.rst`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use archibald_trace::capture::{FORMATS, RAW, Ring};

use crate::{GuestError, Root};

/// CLOCK_MONOTONIC, which the xruns are stamped with.
pub(super) const CLOCK: &str = "mono";
const TRACEFS: &str = "/sys/kernel/tracing";

/// A tracefs instance; removed when dropped.
#[derive(Debug)]
pub(super) struct Instance {
    folder: PathBuf,
    tracefs: PathBuf,
}

impl Instance {
    /// Makes it with a ring of so many KiB on each CPU.
    pub(super) fn make(root: &Root, name: &str, kib: u32) -> Result<Self, GuestError> {
        let tracefs = root.path(TRACEFS);
        mount(&tracefs)?;
        let folder = tracefs.join("instances").join(name);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(GuestError::file("make the tracing instance", folder)(error));
            }
            _ => {}
        }
        let instance = Self { folder, tracefs };
        instance.switch(false)?;
        // A ring left from another recording would keep its events.
        instance.set("trace", "")?;
        instance.set("set_event", "")?;
        let trigger = instance.folder.join("events/sched/sched_switch/trigger");
        if fs::read_to_string(&trigger).is_ok_and(|text| text.contains("stacktrace:")) {
            instance.set("events/sched/sched_switch/trigger", "!stacktrace")?;
        }
        instance.set("trace_clock", CLOCK)?;
        instance.set("buffer_size_kb", &kib.to_string())?;
        Ok(instance)
    }

    /// Has the kernel look at these events from now on, which costs time wherever they happen.
    pub(super) fn choose(&self, events: &[&str]) -> Result<(), GuestError> {
        events.iter().try_for_each(|event| self.set(&format!("events/{event}/enable"), "1"))
    }

    /// Records the events of these threads and of what they start from now on, no others.
    pub(super) fn only(&self, threads: &[u32]) -> Result<(), GuestError> {
        self.set("options/event-fork", "1")?;
        let list: Vec<String> = threads.iter().map(u32::to_string).collect();
        self.set("set_event_pid", &list.join(" "))
    }

    /// Records the kernel's stack whenever one of these threads goes into uninterruptible sleep.
    pub(super) fn stacks_of(&self, threads: &[u32]) -> Result<(), GuestError> {
        // One trigger of a kind an event takes, of at most a page of text; a graph with more threads
        // than fit goes without the others' stacks. TASK_UNINTERRUPTIBLE is 2.
        let list: Vec<String> =
            threads.iter().take(100).map(|tid| format!("prev_pid == {tid}")).collect();
        let trigger = format!("stacktrace if prev_state & 2 && ({})", list.join(" || "));
        self.set("events/sched/sched_switch/trigger", &trigger)
    }

    pub(super) fn switch(&self, on: bool) -> Result<(), GuestError> {
        self.set("tracing_on", if on { "1" } else { "0" })
    }

    /// Bytes of a ring page, as the kernel's own description has it.
    pub(super) fn page_bytes(&self) -> usize {
        let text = fs::read_to_string(self.tracefs.join("events/header_page")).unwrap_or_default();
        let number = |line: &str, key: &str| -> Option<usize> {
            line.split(key).nth(1)?.split(';').next()?.parse().ok()
        };
        text.lines()
            .find(|line| line.contains(" data;"))
            .and_then(|line| Some(number(line, "offset:")? + number(line, "size:")?))
            .unwrap_or(4096)
    }

    /// Copies the rings of every CPU into `folder` under `name`.
    pub(super) fn copy(&self, folder: &Path, name: &str) -> Result<Vec<Ring>, GuestError> {
        let mut rings = Vec::new();
        let cpus = self.folder.join("per_cpu");
        let list = fs::read_dir(&cpus).map_err(GuestError::file("list", &cpus))?;
        let mut numbers: Vec<u32> = list
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("cpu")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        for cpu in numbers {
            let own = cpus.join(format!("cpu{cpu}"));
            // The counts are of what was recorded, so they come before the pages are taken out.
            let stats = fs::read_to_string(own.join("stats")).unwrap_or_default();
            let count = |key: &str| -> u64 {
                let line = stats.lines().find_map(|line| line.strip_prefix(key));
                line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
            };
            let file = format!("{RAW}/{name}.cpu{cpu}");
            copy_pages(&own.join("trace_pipe_raw"), &folder.join(&file), self.page_bytes())?;
            rings.push(Ring {
                file,
                cpu,
                overrun: count("overrun:"),
                dropped: count("dropped events:") + count("commit overrun:"),
            });
        }
        Ok(rings)
    }

    /// Copies the description of `event` ("system/name").
    pub(super) fn copy_format(&self, folder: &Path, event: &str) -> Result<(), GuestError> {
        let from = self.tracefs.join("events").join(event).join("format");
        let text = fs::read(&from).map_err(GuestError::file("read", &from))?;
        let to = folder.join(FORMATS).join(event.replace('/', "."));
        fs::write(&to, text).map_err(GuestError::file("write", to))
    }

    fn set(&self, file: &str, value: &str) -> Result<(), GuestError> {
        let path = self.folder.join(file);
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .map_err(GuestError::file("set", path))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The kernel's name for it is rmdir, though the folder is full of files.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Mounts tracefs where nobody has done so yet.
fn mount(tracefs: &Path) -> Result<(), GuestError> {
    if tracefs.join("instances").is_dir() {
        return Ok(());
    }
    rustix::mount::mount("tracefs", tracefs, "tracefs", rustix::mount::MountFlags::empty(), None)
        .map_err(|error| GuestError::file("mount tracefs on", tracefs)(error.into()))
}

/// Copies raw pages until the kernel says that there are no more.
fn copy_pages(from: &Path, to: &Path, page: usize) -> Result<(), GuestError> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut pages = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(from)
        .map_err(GuestError::file("open", from))?;
    let mut copy = File::create(to).map_err(GuestError::file("create", to))?;
    let mut buffer = vec![0; page];
    loop {
        match pages.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => copy
                .write_all(buffer.get(..length).unwrap_or_default())
                .map_err(GuestError::file("write", to))?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(GuestError::file("read", from)(error)),
        }
    }
}
