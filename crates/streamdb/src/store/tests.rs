//! The store against a simple model, and the stories of particular failures.

mod moves;
mod power;
mod quota;
mod rows;
mod stream;
#[cfg(feature = "server")]
mod together;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{Checksum, Key, Operation, Transfer, WriteError};

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), &Options::default()).unwrap()
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ seed).collect()
}

fn value(store: &Store, name: &str) -> Option<Vec<u8>> {
    store.get(&key(name)).unwrap().map(|object| object.into_bytes().unwrap())
}

fn blobs(dir: &TempDir) -> Vec<PathBuf> {
    fs::read_dir(dir.path().join("blobs"))
        .unwrap()
        .flat_map(|group| fs::read_dir(group.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect()
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Put(String, usize, u8),
    PutAbsent(String, u8),
    PutUnchanged(String, u8),
    Delete(String),
    Range(String, u64, u64),
    Append(String, usize, u8),
    Seal(String),
    Copy(String, String),
    Rename(String, String),
    Batch(String, String, String, u8),
    PutBrief(String, usize),
    LetTimePass,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || {
        prop::sample::select(vec!["a", "a.wav", "b.wav", "a/b.wav", "..", "é.wav", "z\u{10ffff}"])
            .prop_map(str::to_owned)
    };
    // Both sides of every line at which a value changes its place.
    let size = prop::sample::select(vec![
        0,
        1,
        IN_RECORD,
        IN_RECORD + 1,
        IN_INDEX - 1,
        IN_INDEX,
        IN_INDEX + 1,
        200_000,
    ]);
    let step = prop_oneof![
        6 => (name(), size, any::<u8>()).prop_map(|(k, n, s)| Step::Put(k, n, s)),
        1 => (name(), any::<u8>()).prop_map(|(k, s)| Step::PutAbsent(k, s)),
        1 => (name(), any::<u8>()).prop_map(|(k, s)| Step::PutUnchanged(k, s)),
        2 => name().prop_map(Step::Delete),
        2 => (name(), 0..210_000_u64, 0..210_000_u64).prop_map(|(k, a, b)| Step::Range(k, a, b)),
        4 => (name(), 0..140_000_usize, any::<u8>()).prop_map(|(k, n, s)| Step::Append(k, n, s)),
        1 => name().prop_map(Step::Seal),
        2 => (name(), name()).prop_map(|(a, b)| Step::Copy(a, b)),
        2 => (name(), name()).prop_map(|(a, b)| Step::Rename(a, b)),
        1 => (name(), name(), name(), any::<u8>()).prop_map(|(a, b, c, s)| Step::Batch(a, b, c, s)),
        1 => (name(), 0..70_000_usize).prop_map(|(k, n)| Step::PutBrief(k, n)),
        1 => Just(Step::LetTimePass),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..30)
}

fn all(store: &Store, prefix: &str, suffix: &str, limit: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut query =
        Query { prefix: prefix.into(), suffix: suffix.into(), limit, ..Query::default() };
    loop {
        let page = store.list(&query).unwrap();
        names.extend(page.entries.into_iter().map(|entry| entry.key.as_str().to_owned()));
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => return names,
        }
    }
}

fn expect_same(store: &Store, model: &BTreeMap<String, Vec<u8>>) {
    for (prefix, suffix) in
        [("", ""), ("a", ""), ("", ".wav"), ("a", ".wav"), ("x", ""), ("", "b.wav")]
    {
        let mut want: Vec<_> = model
            .keys()
            .filter(|name| name.starts_with(prefix) && name.ends_with(suffix))
            .cloned()
            .collect();
        if prefix.is_empty() && !suffix.is_empty() {
            want.sort_by_key(|name| crate::key::reversed(name.as_bytes()));
        }
        for limit in [1, 2, 1000] {
            assert_eq!(all(store, prefix, suffix, limit), want, "{prefix:?} {suffix:?}");
        }
    }
    let counts = store.counts().unwrap();
    assert_eq!(counts.keys, model.len() as u64);
    assert_eq!(counts.bytes, model.values().map(|value| value.len() as u64).sum::<u64>());
}

const HOUR: u64 = 3_600_000;

fn pass_on(marked: &mut BTreeSet<String>, is: bool, name: String) {
    if is {
        marked.insert(name);
    } else {
        marked.remove(&name);
    }
}

fn let_go(model: &mut BTreeMap<String, Vec<u8>>, from: &str, to: &str) -> bool {
    let value = model.remove(from);
    value.is_some_and(|value| {
        model.insert(to.to_owned(), value);
        true
    })
}

impl Inner {
    fn place(&self, key: &Key) -> crate::record::Place {
        use crate::record::Record;
        let raw = self.index.read(|txn| {
            Ok(txn.open_table(OBJECTS)?.get(key.as_bytes())?.unwrap().value().to_vec())
        });
        Record::decode(key, &raw.unwrap()).unwrap().place
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_a_map_does(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(&dir);
        let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut version = 0;
        // Open streams, and values that expire when time next passes.
        let mut passed = 0;
        let (mut streams, mut brief) = (BTreeSet::new(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Put(name, len, seed) => {
                    let done = store.put(&key(&name), &bytes(len, seed), &Put::default()).unwrap();
                    prop_assert!(done.meta.version > version);
                    version = done.meta.version;
                    streams.remove(&name);
                    brief.remove(&name);
                    let before = model.insert(name, bytes(len, seed));
                    prop_assert_eq!(done.replaced, before.is_some());
                }
                Step::Append(name, len, seed) => {
                    if !model.contains_key(&name) {
                        store.open_stream(&key(&name), &Put::default()).unwrap();
                        model.insert(name.clone(), Vec::new());
                        streams.insert(name.clone());
                    }
                    let whole = model.get_mut(&name).unwrap();
                    let done = store.append(&key(&name), &bytes(len, seed), Some(whole.len() as u64));
                    prop_assert_eq!(done.is_ok(), streams.contains(&name));
                    if done.is_ok() {
                        whole.extend(bytes(len, seed));
                    }
                }
                Step::Seal(name) => {
                    let done = store.seal(&key(&name));
                    prop_assert_eq!(done.is_ok(), model.contains_key(&name));
                    streams.remove(&name);
                }
                Step::Copy(from, to) => {
                    let done = store.copy(&Transfer::new(key(&from), key(&to)));
                    let can = model.contains_key(&from) && !streams.contains(&from);
                    prop_assert_eq!(done.is_ok(), can);
                    if can {
                        model.insert(to.clone(), model[&from].clone());
                        streams.remove(&to);
                        let short = brief.contains(&from);
                        pass_on(&mut brief, short, to);
                    }
                }
                Step::Rename(from, to) => {
                    let done = store.rename(&Transfer::new(key(&from), key(&to)));
                    prop_assert_eq!(done.is_ok(), model.contains_key(&from));
                    if from != to && let_go(&mut model, &from, &to) {
                        let (open, short) = (streams.remove(&from), brief.remove(&from));
                        pass_on(&mut streams, open, to.clone());
                        pass_on(&mut brief, short, to);
                    }
                }
                Step::Batch(put, delete, absent, seed) => {
                    let conditions = Conditions::absent();
                    let done = store.batch(&[
                        Operation::Put { key: key(&put), value: bytes(2000, seed), put: Put::default() },
                        Operation::Delete { key: key(&delete), conditions: Conditions::default() },
                        Operation::Put {
                            key: key(&absent),
                            value: vec![seed],
                            put: Put { conditions, ..Put::default() },
                        },
                    ]);
                    let there = absent == put || model.contains_key(&absent);
                    prop_assert_eq!(done.is_ok(), !there || absent == delete);
                    if done.is_ok() {
                        for name in [&put, &delete, &absent] {
                            streams.remove(name);
                            brief.remove(name);
                        }
                        model.insert(put, bytes(2000, seed));
                        model.remove(&delete);
                        model.insert(absent, vec![seed]);
                    }
                }
                Step::PutBrief(name, len) => {
                    let put = Put { expires: Some(store.now() + HOUR), ..Put::default() };
                    store.put(&key(&name), &bytes(len, 1), &put).unwrap();
                    model.insert(name.clone(), bytes(len, 1));
                    streams.remove(&name);
                    brief.insert(name);
                }
                Step::LetTimePass => {
                    store.inner.clock.advance(2 * HOUR);
                    passed += 2 * HOUR;
                    for name in std::mem::take(&mut brief) {
                        model.remove(&name);
                        streams.remove(&name);
                    }
                }
                Step::PutAbsent(name, seed) => {
                    let put = Put { conditions: Conditions::absent(), ..Put::default() };
                    let done = store.put(&key(&name), &bytes(100_000, seed), &put);
                    prop_assert_eq!(done.is_ok(), !model.contains_key(&name));
                    model.entry(name).or_insert_with(|| bytes(100_000, seed));
                }
                Step::PutUnchanged(name, seed) => {
                    streams.remove(&name);
                    brief.remove(&name);
                    let before = Checksum::of(model.get(&name).map_or(&[], Vec::as_slice));
                    let put = Put { conditions: Conditions::unchanged(before), ..Put::default() };
                    let done = store.put(&key(&name), &[seed], &put);
                    prop_assert_eq!(done.is_ok(), model.contains_key(&name));
                    model.entry(name).and_modify(|value| *value = vec![seed]);
                }
                Step::Delete(name) => {
                    streams.remove(&name);
                    brief.remove(&name);
                    let gone = store.delete(&key(&name), &Conditions::default()).unwrap();
                    prop_assert_eq!(gone.is_some(), model.remove(&name).is_some());
                }
                Step::Range(name, from, to) => {
                    let Some(object) = store.get(&key(&name)).unwrap() else { continue };
                    let whole = &model[&name];
                    let mut got = Vec::new();
                    object.into_range(from..to).read_to_end(&mut got).unwrap();
                    let to = whole.len().min(to as usize);
                    prop_assert_eq!(&got, &whole[to.min(from as usize)..to]);
                }
                Step::Reopen => {
                    drop(store);
                    let ahead = passed;
                    store = open(&dir);
                    store.inner.clock.advance(ahead);
                }
            }
            for (name, want) in &model {
                let got = value(&store, name);
                prop_assert_eq!(got.as_ref(), Some(want));
            }
        }
        expect_same(&store, &model);
        store.sweep_expired().unwrap();
        let large = model
            .keys()
            .filter(|name| store.inner.place(&key(name)).file().is_some())
            .count();
        prop_assert_eq!(blobs(&dir).len(), large, "a content file for each large value and no other");
        prop_assert_eq!(store.check(|_| {}).unwrap().problems, vec![]);
    }
}

#[test]
fn facts_are_kept_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let put = |kind: &str| Put { content_type: Some(kind.into()), ..Put::default() };
    let first = store.put(&key("k"), b"one", &put("audio/wav")).unwrap().meta;
    let second = store.put(&key("k"), b"two", &put("audio/flac")).unwrap().meta;
    assert_eq!(second.created, first.created);
    assert_eq!(second.checksum, Checksum::of(b"two"));
    assert_eq!(store.stat(&key("k")).unwrap().unwrap(), second);
    for kind in ["", "a\nb", "ü/x", &"x".repeat(256)] {
        let refused = store.put(&key("k"), b"", &put(kind));
        assert!(matches!(refused, Err(WriteError::ContentType { .. })), "{kind:?}");
    }
}

#[test]
fn a_reader_keeps_its_value_while_it_is_replaced_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let old = bytes(1 << 20, 1);
    store.put(&key("k"), &old, &Put::default()).unwrap();
    let object = store.get(&key("k")).unwrap().unwrap();
    store.put(&key("k"), &bytes(1 << 20, 2), &Put::default()).unwrap();
    store.delete(&key("k"), &Conditions::default()).unwrap();
    assert_eq!(object.into_bytes().unwrap(), old);
}

#[test]
fn too_long_a_value_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_object: 100_000, ..Options::default() };
    let store = Store::open(dir.path(), &options).unwrap();
    let put = store.put_from(&key("k"), &mut io::repeat(7).take(100_001), &Put::default());
    assert!(matches!(put, Err(WriteError::TooLarge { limit: 100_000 })));
    assert_eq!(fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);
    store.put_from(&key("k"), &mut io::repeat(7).take(100_000), &Put::default()).unwrap();
}

#[test]
fn the_second_opener_is_told_who_holds_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let error = Store::open(dir.path(), &Options::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    assert!(text.contains(&std::process::id().to_string()), "{text}");
    drop(store);
    open(&dir);
}

#[test]
fn a_lost_index_does_not_sweep_away_the_values() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).put(&key("k"), &bytes(100_000, 0), &Put::default()).unwrap();
    fs::rename(dir.path().join("index.redb"), dir.path().join("elsewhere")).unwrap();
    let error = Store::open(dir.path(), &Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::IndexMissing { .. }), "{error}");
    fs::rename(dir.path().join("elsewhere"), dir.path().join("index.redb")).unwrap();
    assert_eq!(value(&open(&dir), "k"), Some(bytes(100_000, 0)));
}

#[test]
fn no_store_is_made_where_none_was_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { create: false, ..Options::default() };
    let error = Store::open(&dir.path().join("none"), &options).unwrap_err();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    assert!(!dir.path().join("none").exists());
}

#[test]
fn a_damaged_large_value_is_told_and_the_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.put(&key("bad"), &bytes(300_000, 0), &Put::default()).unwrap();
    let file = blobs(&dir).remove(0);
    store.put(&key("good"), &bytes(300_000, 0), &Put::default()).unwrap();
    flip(&file, 299_999);
    let read = store.get(&key("bad")).unwrap().unwrap().into_bytes();
    assert!(matches!(read, Err(ReadError::Damaged { .. })));
    assert_eq!(value(&store, "good"), Some(bytes(300_000, 0)));
    let check = store.check(|_| {}).unwrap();
    assert_eq!((check.keys, check.bytes), (2, 300_000));
    assert_eq!(check.problems.len(), 1);
    assert_eq!(check.problems[0].key.as_deref(), Some("bad"));
    fs::remove_file(&file).unwrap();
    assert!(matches!(store.get(&key("bad")), Err(ReadError::Damaged { .. })));
    store.put(&key("bad"), b"again", &Put::default()).unwrap();
    assert_eq!(store.check(|_| {}).unwrap().problems, vec![]);
}

/// Every value in the index file is found by its own bytes, one of them flipped, and the read tried.
#[test]
fn a_damaged_small_value_is_told() {
    for len in [100, 5000] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let needle = bytes(len, 0x5a);
        store.put(&key("k"), &needle, &Put::default()).unwrap();
        drop(store);
        let index = dir.path().join("index.redb");
        let file = fs::read(&index).unwrap();
        let found: Vec<_> = file
            .windows(50)
            .enumerate()
            .filter(|(_, window)| *window == &needle[..50])
            .map(|(at, _)| at)
            .collect();
        assert!(!found.is_empty());
        for at in found {
            flip(&index, at as u64 + 10);
        }
        let store = open(&dir);
        assert!(matches!(store.get(&key("k")), Err(ReadError::Damaged { .. })), "{len}");
    }
}
