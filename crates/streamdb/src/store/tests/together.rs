//! Values that are committed in one transaction are taken or refused as if each had come alone.

use std::io::ErrorKind;
use std::sync::Arc;

use super::*;
use crate::disk::Disk;
use crate::disk::noted::Log;
use crate::store::{Small, commit_together};
use crate::{Conditions, Tags, WriteError};

fn small(store: &Store, name: &str, value: &[u8], conditions: Conditions) -> Small {
    let mut upload = store.upload();
    upload.write(value).unwrap();
    Small { upload, key: key(name), put: Put { conditions, ..Put::default() } }
}

fn absent() -> Conditions {
    Conditions { matches: None, differs: Some(Tags::Any) }
}

#[test]
fn each_is_taken_or_refused_for_itself_and_in_order() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.put(&key("there"), b"before", &Put::default()).unwrap();
    let done = commit_together(vec![
        small(&store, "a", b"one", Conditions::default()),
        small(&store, "there", b"refused", absent()),
        small(&store, "a", b"refused too", absent()),
        small(&store, "b", &bytes(5000, 3), absent()),
        small(&store, "b", b"last", Conditions::default()),
    ]);
    let told: Vec<_> = done.iter().map(|one| one.as_ref().ok().map(|one| one.replaced)).collect();
    assert_eq!(told, [Some(false), None, None, Some(false), Some(true)]);
    for refused in &done[1..3] {
        assert!(matches!(refused, Err(WriteError::Condition { .. })), "{refused:?}");
    }
    let versions: Vec<_> = done.iter().flatten().map(|one| one.meta.version).collect();
    assert!(versions.windows(2).all(|two| two[0] < two[1]), "{versions:?}");
    drop(store);
    let store = open(&dir);
    assert_eq!(value(&store, "there").unwrap(), b"before");
    assert_eq!(value(&store, "a").unwrap(), b"one");
    assert_eq!(value(&store, "b").unwrap(), b"last");
    assert_eq!(store.counts().unwrap().bytes, 6 + 3 + 4);
}

#[test]
fn a_quota_refuses_only_what_is_too_much() {
    let dir = TempDir::new().unwrap();
    let quota = Quota { prefix: String::new(), bytes: 10 };
    let options = Options { quotas: vec![quota], ..Options::default() };
    let store = Store::open(dir.path(), &options).unwrap();
    let done = commit_together(vec![
        small(&store, "a", b"12345", Conditions::default()),
        small(&store, "b", b"123456", Conditions::default()),
        small(&store, "c", b"12345", Conditions::default()),
    ]);
    assert!(matches!(done[..], [Ok(_), Err(WriteError::Quota { .. }), Ok(_)]), "{done:?}");
}

/// The disk failed in a shared commit that had reached it all the same. Each value was then tried again
/// alone, found itself there, and its client was told that its condition does not hold.
#[test]
fn what_may_be_stored_is_not_refused_by_itself() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    let log = Arc::new(Log::default());
    let disk = Disk { log: Some(Arc::clone(&log)) };
    let store = Store::open_on(dir.path(), &Options::default(), disk).unwrap();
    store.put(&key("there"), b"before", &Put::default()).unwrap();
    *log.fails.lock().unwrap() = Some(ErrorKind::Other);
    let done = commit_together(vec![
        small(&store, "a", b"one", absent()),
        small(&store, "there", b"two", Conditions::default()),
        small(&store, "b", &bytes(5000, 3), absent()),
    ]);
    assert!(log.fails.lock().unwrap().is_none(), "nothing was synced");
    for one in &done {
        assert!(matches!(one, Err(WriteError::Io { .. })), "{one:?}");
    }
    // All of them or none, now and from then on.
    let held = |store: &Store| ["a", "there", "b"].map(|name| value(store, name));
    let all = [Some(b"one".to_vec()), Some(b"two".to_vec()), Some(bytes(5000, 3))];
    let none = [None, Some(b"before".to_vec()), None];
    let now = held(&store);
    assert!(now == all || now == none, "{now:?}");
    store.put(&key("after"), b"well", &Put::default()).unwrap();
    drop(store);
    let store = open(&dir);
    assert_eq!(held(&store), now);
    assert_eq!(value(&store, "after").unwrap(), b"well");
}

/// A deletion is tried again when the disk is full. The first attempt had reached the disk all the same,
/// and who asked for it was told that there had been nothing to delete, or nothing that he meant.
#[test]
fn what_is_deleted_at_the_second_attempt_was_there() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    let log = Arc::new(Log::default());
    let disk = Disk { log: Some(Arc::clone(&log)) };
    let store = Store::open_on(dir.path(), &Options::default(), disk).unwrap();
    for conditions in
        [Conditions::default(), Conditions { matches: Some(Tags::Any), differs: None }]
    {
        let stored = store.put(&key("a"), b"one", &Put::default()).unwrap();
        *log.fails.lock().unwrap() = Some(ErrorKind::StorageFull);
        let gone = store.delete(&key("a"), &conditions).unwrap();
        assert!(log.fails.lock().unwrap().is_none(), "nothing was synced");
        assert_eq!(gone, Some(stored.meta));
        assert_eq!(store.stat(&key("a")).unwrap(), None);
    }
}
