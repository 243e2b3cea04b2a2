//! Values that are committed in one transaction are taken or refused as if each had come alone.

use super::*;
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
