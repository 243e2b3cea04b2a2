//! Copies, renames, batches, expiry and metadata.

use super::*;
use crate::{BatchError, Operation, Transfer};

fn put_text(name: &str, text: &str) -> Operation {
    Operation::Put { key: key(name), value: text.into(), put: Put::default() }
}

#[test]
fn copies_and_renames_of_every_size_are_whole_and_keep_the_facts() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    for len in [10, 5000, 300_000] {
        let put = Put {
            content_type: Some("audio/flac".into()),
            user: [("take".to_owned(), "7".to_owned())].into(),
            ..Put::default()
        };
        store.put(&key("from"), &bytes(len, 1), &put).unwrap();
        store.put(&key("in the way"), &bytes(100_000, 2), &Put::default()).unwrap();
        let copy = store.copy(&Transfer::new(key("from"), key("copy"))).unwrap();
        assert!(!copy.replaced);
        assert_eq!((copy.meta.content_type.as_str(), copy.meta.size), ("audio/flac", len as u64));
        let moved = store.rename(&Transfer::new(key("from"), key("in the way"))).unwrap();
        assert!(moved.replaced && moved.meta.version > copy.meta.version);
        assert_eq!(moved.meta.user["take"], "7");
        assert_eq!(value(&store, "from"), None);
        for name in ["copy", "in the way"] {
            assert_eq!(value(&store, name), Some(bytes(len, 1)));
        }
        // The copy does not depend on what it was made from.
        store.delete(&key("in the way"), &Conditions::default()).unwrap();
        assert_eq!(value(&store, "copy"), Some(bytes(len, 1)));
        store.delete(&key("copy"), &Conditions::default()).unwrap();
        assert_eq!(store.check(|_| {}).unwrap().problems, vec![]);
        assert_eq!(blobs(&dir).len(), 0);
    }
}

#[test]
fn transfers_obey_their_conditions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.put(&key("a"), b"1", &Put::default()).unwrap();
    store.put(&key("b"), b"2", &Put::default()).unwrap();
    let absent = Transfer { target: Conditions::absent(), ..Transfer::new(key("a"), key("b")) };
    assert!(matches!(store.rename(&absent), Err(WriteError::Condition { .. })));
    let other = Conditions::unchanged(Checksum::of(b"other"));
    let changed = Transfer { source: other, ..Transfer::new(key("a"), key("c")) };
    assert!(matches!(store.copy(&changed), Err(WriteError::Condition { .. })));
    let missing = store.rename(&Transfer::new(key("none"), key("c")));
    assert!(matches!(missing, Err(WriteError::Missing { .. })));
    store.rename(&Transfer::new(key("a"), key("a"))).unwrap();
    assert_eq!(
        (value(&store, "a").unwrap(), value(&store, "b").unwrap()),
        (b"1".to_vec(), b"2".to_vec())
    );
}

#[test]
fn a_batch_happens_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.put(&key("large"), &bytes(100_000, 1), &Put::default()).unwrap();
    let mut operations = vec![
        put_text("new", "text"),
        Operation::Copy(Transfer::new(key("large"), key("copy"))),
        Operation::Rename(Transfer::new(key("new"), key("newer"))),
        Operation::Delete { key: key("large"), conditions: Conditions::default() },
        Operation::Rename(Transfer::new(key("none"), key("x"))),
    ];
    let failed = store.batch(&operations).unwrap_err();
    assert!(matches!(failed, BatchError::Step { at: 4, error: WriteError::Missing { .. } }));
    assert_eq!(all(&store, "", "", 10), ["large"]);
    assert_eq!(blobs(&dir).len(), 1);
    operations.pop();
    let done = store.batch(&operations).unwrap();
    assert_eq!(done.len(), 4);
    assert_eq!(all(&store, "", "", 10), ["copy", "newer"]);
    assert_eq!(value(&store, "copy"), Some(bytes(100_000, 1)));
    assert_eq!(value(&store, "newer").unwrap(), b"text");
    let long = Operation::Put { key: key("k"), value: bytes(70_000, 0), put: Put::default() };
    let refused = store.batch(&[long]);
    assert!(matches!(refused, Err(BatchError::Step { at: 0, error: WriteError::TooLarge { .. } })));
    assert_eq!(store.check(|_| {}).unwrap().problems, vec![]);
}

#[test]
fn what_has_expired_is_not_there_and_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let until = |at| Put { expires: Some(at), ..Put::default() };
    let soon = store.now() + 1_000_000;
    for (name, len) in [("a", 10), ("b", 5000), ("c", 100_000)] {
        store.put(&key(name), &bytes(len, 1), &until(soon)).unwrap();
    }
    store.open_stream(&key("d"), &until(soon)).unwrap();
    store.append(&key("d"), b"sound", None).unwrap();
    store.put(&key("kept"), b"1", &Put::default()).unwrap();
    store.put(&key("later"), b"1", &until(soon + 2_000_000)).unwrap();
    let mut tail = store.tail(&key("d"), 5).unwrap().unwrap();
    assert_eq!(all(&store, "", "", 10).len(), 6);
    store.inner.clock.advance(1_000_001);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(value(&store, name), None);
        assert_eq!(store.stat(&key(name)).unwrap(), None);
        assert!(store.tail(&key(name), 0).unwrap().is_none());
    }
    assert_eq!(all(&store, "", "", 10), ["kept", "later"]);
    assert_eq!(store.counts().unwrap(), Counts { keys: 2, bytes: 2 });
    assert_eq!(store.usage("k").unwrap(), Counts { keys: 1, bytes: 1 });
    let absent = Put { conditions: Conditions::absent(), ..Put::default() };
    assert!(!store.put(&key("a"), b"new", &absent).unwrap().replaced);
    assert_eq!(store.delete(&key("b"), &Conditions::default()).unwrap(), None);
    assert_eq!(store.sweep_expired().unwrap(), 2);
    assert!(matches!(tail.try_next(), Err(ReadError::Gone { .. })));
    assert_eq!(blobs(&dir).len(), 0);
    assert_eq!(store.counts().unwrap(), Counts { keys: 3, bytes: 5 });
    assert_eq!(store.check(|_| {}).unwrap().problems, vec![]);
}

#[test]
fn metadata_is_kept_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let put = |pairs: &[(&str, &str)]| Put {
        user: pairs.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect(),
        ..Put::default()
    };
    let meta = store.put(&key("k"), b"x", &put(&[("bpm", "120"), ("note", "")])).unwrap().meta;
    assert_eq!(store.stat(&key("k")).unwrap(), Some(meta));
    for pairs in [&[("", "x")], &[("Upper", "x")], &[("a b", "x")], &[("a", "ü")], &[("a", "\n")]]
    {
        let refused = store.put(&key("k"), b"", &put(pairs));
        assert!(matches!(refused, Err(WriteError::User { .. })), "{pairs:?}");
    }
    let long = "x".repeat(4096);
    let refused = store.put(&key("k"), b"", &put(&[("a", &long)]));
    assert!(matches!(refused, Err(WriteError::UserTooLarge { .. })));
}
