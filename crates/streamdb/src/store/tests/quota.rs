//! Quotas against a model that only adds up lengths.

use super::*;
use crate::Quota;

fn quotas(all: u64, below_a: u64) -> Vec<Quota> {
    vec![
        Quota { prefix: String::new(), bytes: all },
        Quota { prefix: "a/".into(), bytes: below_a },
        // Of two on one prefix the smaller holds.
        Quota { prefix: "a/".into(), bytes: below_a + 1 },
    ]
}

fn limited(dir: &TempDir, all: u64, below_a: u64) -> Store {
    let options = Options { quotas: quotas(all, below_a), ..Options::default() };
    Store::open(dir.path(), &options).unwrap()
}

fn sum(model: &BTreeMap<String, usize>, prefix: &str) -> usize {
    model.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, length)| length).sum()
}

#[derive(Debug, Clone)]
enum Act {
    Put(&'static str, usize),
    Append(&'static str, usize),
    Delete(&'static str),
    Copy(&'static str, &'static str),
    Rename(&'static str, &'static str),
    Swap(&'static str, &'static str, usize),
    Reopen,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let name = || prop::sample::select(vec!["a/1", "a/2", "b", "c"]);
    let act = prop_oneof![
        4 => (name(), 0_usize..3000).prop_map(|(name, len)| Act::Put(name, len)),
        1 => (name(), 60_000_usize..70_000).prop_map(|(name, len)| Act::Put(name, len)),
        2 => (0_usize..2000).prop_map(|len| Act::Append("a/s", len)),
        2 => name().prop_map(Act::Delete),
        1 => (name(), name()).prop_map(|(from, to)| Act::Copy(from, to)),
        1 => (name(), name()).prop_map(|(from, to)| Act::Rename(from, to)),
        1 => (name(), name(), 0_usize..3000).prop_map(|(gone, put, len)| Act::Swap(gone, put, len)),
        1 => Just(Act::Reopen),
    ];
    prop::collection::vec(act, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn no_change_gets_past_a_quota_and_none_within_is_refused(acts in acts()) {
        let (all, below_a) = (75_000, 6000);
        let dir = tempfile::tempdir().unwrap();
        let mut store = limited(&dir, all, below_a);
        let mut model = BTreeMap::new();
        for act in acts {
            let mut after: BTreeMap<String, usize> = model.clone();
            let done = match &act {
                Act::Put(name, len) => {
                    after.insert((*name).to_owned(), *len);
                    store.put(&key(name), &bytes(*len, 1), &Put::default()).map(drop)
                }
                Act::Append(name, len) => {
                    if !after.contains_key(*name) {
                        store.open_stream(&key(name), &Put::default()).unwrap();
                        after.insert((*name).to_owned(), 0);
                        model = after.clone();
                    }
                    *after.get_mut(*name).unwrap() += len;
                    store.append(&key(name), &bytes(*len, 1), None).map(drop).map_err(|error| {
                        match error {
                            crate::AppendError::Write(error) => error,
                            other => panic!("{other}"),
                        }
                    })
                }
                Act::Delete(name) => {
                    after.remove(*name);
                    store.delete(&key(name), &Conditions::default()).map(drop)
                }
                Act::Copy(from, to) => {
                    let Some(len) = after.get(*from).copied() else { continue };
                    after.insert((*to).to_owned(), len);
                    store.copy(&Transfer::new(key(from), key(to))).map(drop)
                }
                Act::Rename(from, to) => {
                    let Some(len) = after.remove(*from) else { continue };
                    after.insert((*to).to_owned(), len);
                    store.rename(&Transfer::new(key(from), key(to))).map(drop)
                }
                // Within a batch only what is left at its end counts.
                Act::Swap(gone, put, len) => {
                    after.remove(*gone);
                    after.insert((*put).to_owned(), *len);
                    let value = bytes(*len, 1);
                    let put = Operation::Put { key: key(put), value, put: Put::default() };
                    let conditions = Conditions::default();
                    let gone = Operation::Delete { key: key(gone), conditions };
                    store.batch(&[gone, put]).map(drop)
                        .map_err(|error| match error {
                            crate::BatchError::Write(error) => error,
                            other => panic!("{other}"),
                        })
                }
                Act::Reopen => {
                    drop(store);
                    store = limited(&dir, all, below_a);
                    Ok(())
                }
            };
            let fits = sum(&after, "") as u64 <= all && sum(&after, "a/") as u64 <= below_a;
            match done {
                Ok(()) => model = after,
                Err(WriteError::Quota { .. }) if !fits => {}
                other => panic!("{act:?}: {other:?}, {fits}"),
            }
            let held = |prefix: &str| store.usage(prefix).unwrap().bytes;
            prop_assert_eq!((held(""), held("a/")), (sum(&model, "") as u64, sum(&model, "a/") as u64));
            prop_assert!(held("") <= all && held("a/") <= below_a, "{:?}", act);
            let left = (below_a - held("a/")).min(all - held(""));
            prop_assert_eq!(store.room(&key("a/new")).unwrap(), left);
        }
        prop_assert_eq!(store.check(|_| {}).unwrap().problems, vec![]);
    }
}

#[test]
fn what_is_over_a_new_quota_may_shrink_but_not_grow() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.put(&key("a/1"), &bytes(5000, 1), &Put::default()).unwrap();
    drop(store);
    let store = limited(&dir, u64::MAX, 1000);
    let put = |name: &str, len| store.put(&key(name), &bytes(len, 2), &Put::default());
    assert_eq!(store.room(&key("a/1")).unwrap(), 5000);
    assert!(matches!(put("a/2", 1), Err(WriteError::Quota { limit: 1000, .. })));
    put("a/1", 4000).unwrap();
    put("b", 100_000).unwrap();
    assert!(put("a/1", 4001).is_err());
    put("a/1", 10).unwrap();
    put("a/2", 990).unwrap();
    // While it was open without the quota, nobody kept its sum.
    drop(store);
    open(&dir).put(&key("a/3"), &bytes(7, 2), &Put::default()).unwrap();
    let store = limited(&dir, u64::MAX, 1010);
    assert_eq!(store.room(&key("a/4")).unwrap(), 3);
}

#[test]
fn an_upload_is_refused_while_it_comes_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = limited(&dir, 100_000, 50_000);
    let mut upload = store.upload_for(&key("a/1")).unwrap();
    upload.write(&bytes(50_000, 1)).unwrap();
    assert!(matches!(upload.write(&[0]), Err(WriteError::Quota { limit: 50_000, .. })));
    drop(upload);
    // Two that begin where there is room for one: the second is refused in its commit.
    let mut uploads: Vec<_> = ["b", "c"].map(|name| store.upload_for(&key(name)).unwrap()).into();
    uploads.iter_mut().for_each(|upload| upload.write(&bytes(70_000, 1)).unwrap());
    uploads.remove(0).commit(&key("b"), &Put::default()).unwrap();
    let refused = uploads.remove(0).commit(&key("c"), &Put::default());
    assert!(matches!(refused, Err(WriteError::Quota { limit: 100_000, .. })));
    assert_eq!(blobs(&dir).len(), 1);
    assert_eq!(fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);
}

#[test]
fn what_has_expired_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = limited(&dir, 200_000, 100_000);
    let brief = Put { expires: Some(store.now() + 1000), ..Put::default() };
    store.put(&key("a/brief"), &bytes(90_000, 1), &brief).unwrap();
    let (full, copy) = (key("a/full"), Transfer::new(key("b"), key("a/copy")));
    assert!(store.put(&full, &bytes(80_000, 2), &Put::default()).is_err());
    store.put(&key("b"), &bytes(80_000, 2), &Put::default()).unwrap();
    store.inner.clock.advance(2000);
    // The copy is made twice, once before the sweep; one content file stays.
    store.copy(&copy).unwrap();
    assert_eq!(value(&store, "a/copy"), Some(bytes(80_000, 2)));
    assert_eq!(blobs(&dir).len(), 2);
    assert_eq!(store.check(|_| {}).unwrap().problems, vec![]);
}
