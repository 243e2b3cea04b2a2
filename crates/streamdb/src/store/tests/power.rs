//! The power is cut at every write of a workload: what was acknowledged is there, and nothing torn.
//!
//! Everything that the store writes is noted in order. For each prefix, disks are made that a cut
//! at that moment may leave: nothing that was not synced, all of it, or parts of it in sectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::disk::Disk;
use crate::disk::noted::{Event, Log};
use crate::{Operation, Transfer};

/// What a cut leaves of what was not synced.
#[derive(Debug, Clone, Copy)]
enum Left {
    Nothing,
    All,
    Parts(u64),
}

#[derive(Default)]
struct Inode {
    lasting: Vec<u8>,
    unsynced: Vec<Event>,
}

/// A disk as the log has it: files by number, and names of them that last or do not yet.
#[derive(Default)]
struct Simulated {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    lasting: BTreeMap<PathBuf, usize>,
    unsynced: Vec<(PathBuf, Option<usize>)>,
    dirs: Vec<PathBuf>,
}

impl Simulated {
    fn of(root: &Path) -> Self {
        let mut disk = Self::default();
        for name in ["index.redb", "lock"] {
            let path = root.join(name);
            let lasting = fs::read(&path).unwrap();
            disk.inodes.push(Inode { lasting, unsynced: Vec::new() });
            disk.names.insert(path, disk.inodes.len() - 1);
        }
        disk.lasting = disk.names.clone();
        disk.dirs = vec![root.join("blobs"), root.join("staging")];
        disk
    }

    fn name(&mut self, path: &Path, inode: Option<usize>) {
        match inode {
            Some(inode) => self.names.insert(path.into(), inode),
            None => self.names.remove(path),
        };
        self.unsynced.push((path.into(), inode));
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Make(path) => {
                self.inodes.push(Inode::default());
                self.name(path, Some(self.inodes.len() - 1));
            }
            Event::Write(path, ..) | Event::SetLen(path, _) => {
                let inode = self.names[path];
                self.inodes[inode].unsynced.push(event.clone());
            }
            Event::Sync(path) => {
                let inode = &mut self.inodes[self.names[path]];
                for event in std::mem::take(&mut inode.unsynced) {
                    apply(&mut inode.lasting, &event, |_| true);
                }
            }
            // A directory is there as soon as anything in it can be; its loss is that of its files.
            Event::MakeDir(path) => self.dirs.push(path.clone()),
            Event::Rename(from, to) => {
                let inode = self.names[from];
                self.name(to, Some(inode));
                self.name(from, None);
            }
            Event::Link(from, to) => self.name(to, Some(self.names[from])),
            Event::Remove(path) => self.name(path, None),
            Event::SyncDir(dir) => {
                let lasting = &mut self.lasting;
                self.unsynced.retain(|(path, inode)| {
                    let here = path.parent() == Some(dir);
                    if here {
                        change(lasting, path, *inode);
                    }
                    !here
                });
            }
        }
    }

    /// What a cut now leaves, written below another root.
    fn cut(&self, left: Left, from: &Path, to: &Path) {
        let mut chance = Chance(match left {
            Left::Parts(seed) => seed | 1,
            _ => 1,
        });
        let mut keeps = |_: usize| match left {
            Left::Nothing => false,
            Left::All => true,
            Left::Parts(_) => chance.flip(),
        };
        let mut names = self.lasting.clone();
        for (path, inode) in &self.unsynced {
            if keeps(0) {
                change(&mut names, path, *inode);
            }
        }
        let below = |path: &Path| to.join(path.strip_prefix(from).unwrap());
        for dir in &self.dirs {
            fs::create_dir_all(below(dir)).unwrap();
        }
        for (path, inode) in names {
            let inode = &self.inodes[inode];
            let mut content = inode.lasting.clone();
            for event in &inode.unsynced {
                apply(&mut content, event, &mut keeps);
            }
            fs::write(below(&path), content).unwrap();
        }
    }
}

fn change(names: &mut BTreeMap<PathBuf, usize>, path: &Path, inode: Option<usize>) {
    match inode {
        Some(inode) => names.insert(path.into(), inode),
        None => names.remove(path),
    };
}

/// Does to a file what the event did, in those of its sectors that are kept.
fn apply(content: &mut Vec<u8>, event: &Event, mut keeps: impl FnMut(usize) -> bool) {
    match event {
        Event::SetLen(_, length) if keeps(0) => content.resize(*length as usize, 0),
        Event::Write(_, at, bytes) => {
            for (n, sector) in bytes.chunks(512).enumerate() {
                if keeps(n) {
                    let at = *at as usize + n * 512;
                    if content.len() < at + sector.len() {
                        content.resize(at + sector.len(), 0);
                    }
                    content[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        _ => {}
    }
}

struct Chance(u64);

impl Chance {
    fn flip(&mut self) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 & 0x100 != 0
    }
}

type Model = BTreeMap<String, Vec<u8>>;

/// Does the workload, and returns how far the log was when each step was acknowledged, and what
/// the store then held.
fn work(store: &Store, log: &Log) -> Vec<(usize, Model)> {
    let mut model = Model::new();
    let mut acknowledged = vec![(0, model.clone())];
    let mut done = |model: &Model| acknowledged.push((log.len(), model.clone()));
    for (name, len) in [("a", 10), ("b", 5000), ("c", 150_000), ("a", 70_000), ("c", 90_000)] {
        let mut upload = store.upload();
        bytes(len, 1).chunks(40_000).for_each(|piece| upload.write(piece).unwrap());
        upload.commit(&key(name), &Put::default()).unwrap();
        model.insert(name.into(), bytes(len, 1));
        done(&model);
    }
    store.open_stream(&key("s"), &Put::default()).unwrap();
    model.insert("s".into(), Vec::new());
    done(&model);
    for len in [100, 65_436, 3000, 70_000] {
        store.append(&key("s"), &bytes(len, 9), None).unwrap();
        model.get_mut("s").unwrap().extend(bytes(len, 9));
        done(&model);
    }
    store.rename(&Transfer::new(key("s"), key("c"))).unwrap();
    let stream = model.remove("s").unwrap();
    model.insert("c".into(), stream);
    done(&model);
    store.append(&key("c"), b"more", None).unwrap();
    model.get_mut("c").unwrap().extend(b"more");
    done(&model);
    store.seal(&key("c")).unwrap();
    done(&model);
    store.copy(&Transfer::new(key("c"), key("d"))).unwrap();
    model.insert("d".into(), model["c"].clone());
    done(&model);
    let delete = Operation::Delete { key: key("c"), conditions: Conditions::default() };
    let put = Operation::Put { key: key("e"), value: bytes(3000, 4), put: Put::default() };
    let copy = Operation::Copy(Transfer::new(key("a"), key("f")));
    store.batch(&[delete, put, copy]).unwrap();
    model.remove("c");
    model.insert("e".into(), bytes(3000, 4));
    model.insert("f".into(), model["a"].clone());
    done(&model);
    store.delete(&key("a"), &Conditions::default()).unwrap();
    model.remove("a");
    done(&model);
    shared_commits(store, &mut model, &mut done);
    let brief = Put { expires: Some(store.now() + HOUR), ..Put::default() };
    for (name, len) in [("x", 10), ("y", 5000), ("z", 90_000), ("b", 100_000)] {
        store.put(&key(name), &bytes(len, 5), &brief).unwrap();
        model.insert(name.into(), bytes(len, 5));
        done(&model);
    }
    store.inner.clock.advance(2 * HOUR);
    store.sweep_expired().unwrap();
    let_expire(&mut model);
    done(&model);
    acknowledged
}

/// Values of several clients in one commit: new ones, one in place of another, one that is refused.
#[cfg(feature = "server")]
fn shared_commits(store: &Store, model: &mut Model, done: &mut impl FnMut(&Model)) {
    use crate::store::{Small, commit_together};
    for round in 1..=3 {
        let values = [("f", 900), ("g", 4096), ("f", 20_000 * round), ("h", 40), ("b", 300)];
        let smalls = values.map(|(name, len)| {
            let mut upload = store.upload();
            upload.write(&bytes(len, round as u8)).unwrap();
            let absent = Conditions { matches: None, differs: Some(crate::Tags::Any) };
            let conditions = if name == "b" { absent } else { Conditions::default() };
            Small { upload, key: key(name), put: Put { conditions, ..Put::default() } }
        });
        let told = commit_together(smalls.into());
        let taken: Vec<_> = told.iter().map(Result::is_ok).collect();
        assert_eq!(taken, [true, true, true, true, false]);
        for (name, len) in &values[..4] {
            model.insert((*name).into(), bytes(*len, round as u8));
        }
        done(model);
    }
}

#[cfg(not(feature = "server"))]
fn shared_commits(_: &Store, _: &mut Model, _: &mut impl FnMut(&Model)) {}

const HOUR: u64 = 3_600_000;

fn let_expire(model: &mut Model) {
    // Where the workload has come that far, and not before.
    let brief = |name: &str, value: &[u8]| {
        matches!(name, "x" | "y" | "z") || (name == "b" && value.len() == 100_000)
    };
    model.retain(|name, value| !brief(name, value));
}

fn held(store: &Store) -> Model {
    all(store, "", "", 100)
        .into_iter()
        .map(|name| {
            let value = value(store, &name).unwrap();
            (name, value)
        })
        .collect()
}

/// Where there is one, a disk in memory: the cut is simulated, the syncs need not be real.
fn quick_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn whatever_a_power_cut_leaves_is_all_that_was_acknowledged() {
    let dir = quick_dir();
    let options = Options { reserve: 0, cache: 4 << 20, ..Options::default() };
    drop(Store::open(dir.path(), &options).unwrap());
    let mut disk = Simulated::of(dir.path());
    let log = Arc::new(Log::default());
    let recorded = Disk { log: Some(Arc::clone(&log)) };
    let store = Store::open_on(dir.path(), &options, recorded).unwrap();
    let opened = log.len();
    let acknowledged = work(&store, &log);
    let events = log.take();
    drop(store);

    let (mut cuts, mut step) = (0, 0);
    for (at, event) in events.iter().enumerate() {
        disk.happens(event);
        while acknowledged.get(step + 1).is_some_and(|(length, _)| *length <= at + 1) {
            step += 1;
        }
        if at < opened {
            continue;
        }
        let may_be = &acknowledged[step..acknowledged.len().min(step + 2)];
        for left in
            [Left::Nothing, Left::All, Left::Parts(at as u64 * 2 + 3), Left::Parts(!at as u64)]
        {
            let after = quick_dir();
            disk.cut(left, dir.path(), after.path());
            let store = Store::open(after.path(), &options);
            let store = store.unwrap_or_else(|error| panic!("{at}: {left:?}: {error}"));
            let holds = held(&store);
            assert!(
                may_be.iter().any(|(_, model)| *model == holds),
                "cut {at} after {event:.60?}, {left:?}: {:?}",
                holds.iter().map(|(name, value)| (name, value.len())).collect::<Vec<_>>()
            );
            assert_eq!(store.check(|_| {}).unwrap().problems, vec![], "{at}: {left:?}");
            // And what has expired goes from whatever was left.
            store.inner.clock.advance(2 * HOUR);
            store.sweep_expired().unwrap();
            let mut left_over = holds;
            let_expire(&mut left_over);
            assert_eq!(held(&store), left_over, "{at}: {left:?}");
            assert_eq!(store.check(|_| {}).unwrap().problems, vec![], "{at}: {left:?}");
            cuts += 1;
        }
    }
    println!("{} writes and syncs, {cuts} cuts, {} steps", events.len(), acknowledged.len());
}
