//! Rows in the index that nobody wrote: what a flipped bit or a stray write of the disk leaves.
//! Nothing may end in a panic, what is whole is served, and a repair makes the store whole.

use super::*;
use crate::index::{COUNTERS, EXPIRES, FILES, OBJECTS, OPEN, SUFFIXES, SUMS, VALUES};
use crate::key::reversed;
use crate::record::Record;

#[derive(Debug, Clone)]
enum Row {
    Object(Vec<u8>, Vec<u8>),
    Changed(usize, usize, u8),
    Suffix(Vec<u8>),
    NoSuffix(usize),
    Value(Vec<u8>, Vec<u8>),
    NoValue(usize),
    File([u8; 16], Vec<u8>),
    Open([u8; 16], u64),
    Sum([u8; 16], u64, Vec<u8>),
    Expires(u64, Vec<u8>, u64),
    Bytes(u64),
}

const NAMES: [&str; 5] = ["brief", "large", "s", "small", "table"];

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let name = || {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..6),
            prop::sample::select(NAMES.map(|name| name.as_bytes().to_vec()).to_vec()),
            // Not UTF-8, longer than a key, with a NUL.
            Just(vec![0xff, b'a']),
            Just(vec![b'k'; 1025]),
            Just(b"a\0b".to_vec()),
        ]
    };
    let bytes = || prop::collection::vec(any::<u8>(), 0..80);
    let id = || any::<[u8; 16]>();
    let row = prop_oneof![
        (name(), bytes()).prop_map(|(name, bytes)| Row::Object(name, bytes)),
        (0_usize..5, 0_usize..200, 1_u8..).prop_map(|(of, at, by)| Row::Changed(of, at, by)),
        name().prop_map(Row::Suffix),
        (0_usize..5).prop_map(Row::NoSuffix),
        (name(), bytes()).prop_map(|(name, bytes)| Row::Value(name, bytes)),
        (0_usize..5).prop_map(Row::NoValue),
        (id(), bytes()).prop_map(|(id, bytes)| Row::File(id, bytes)),
        (id(), any::<u64>()).prop_map(|(id, size)| Row::Open(id, size)),
        (id(), any::<u64>(), bytes()).prop_map(|(id, block, bytes)| Row::Sum(id, block, bytes)),
        (any::<u64>(), name(), any::<u64>())
            .prop_map(|(at, name, size)| Row::Expires(at, name, size)),
        any::<u64>().prop_map(Row::Bytes),
    ];
    prop::collection::vec(row, 1..8)
}

fn spoil(store: &Store, rows: &[Row]) {
    let done = store.inner.index.write(|txn| {
        for row in rows {
            match row {
                Row::Object(name, bytes) => {
                    txn.open_table(OBJECTS)?.insert(&**name, &**bytes)?;
                }
                Row::Changed(of, at, by) => {
                    let mut objects = txn.open_table(OBJECTS)?;
                    let name = NAMES[*of].as_bytes();
                    let record = objects.get(name)?.map(|record| record.value().to_vec());
                    let Some(mut record) = record.filter(|record| !record.is_empty()) else {
                        continue;
                    };
                    let at = at % record.len();
                    record[at] ^= by;
                    objects.insert(name, &*record)?;
                }
                Row::Suffix(name) => drop(txn.open_table(SUFFIXES)?.insert(&**name, ())?),
                Row::NoSuffix(of) => {
                    let back = reversed(NAMES[*of].as_bytes());
                    txn.open_table(SUFFIXES)?.remove(&*back)?;
                }
                Row::Value(name, bytes) => {
                    txn.open_table(VALUES)?.insert(&**name, &**bytes)?;
                }
                Row::NoValue(of) => {
                    txn.open_table(VALUES)?.remove(NAMES[*of].as_bytes())?;
                }
                Row::File(id, bytes) => drop(txn.open_table(FILES)?.insert(id, &**bytes)?),
                Row::Open(id, size) => drop(txn.open_table(OPEN)?.insert(id, size)?),
                Row::Sum(id, block, bytes) => {
                    txn.open_table(SUMS)?.insert((id, *block), &**bytes)?;
                }
                Row::Expires(at, name, size) => {
                    txn.open_table(EXPIRES)?.insert((*at, &**name), size)?;
                }
                Row::Bytes(bytes) => drop(txn.open_table(COUNTERS)?.insert("bytes", bytes)?),
            }
        }
        Ok(Ok::<_, WriteError>(()))
    });
    done.unwrap().unwrap();
}

fn filled(dir: &TempDir) -> (Store, BTreeMap<&'static str, Vec<u8>>) {
    let store = open(dir);
    let mut model = BTreeMap::new();
    for (name, len) in [("large", 150_000), ("small", 20), ("table", 5000), ("brief", 3000)] {
        let expires = (name == "brief").then(|| store.now() + 3_600_000);
        store.put(&key(name), &bytes(len, 3), &Put { expires, ..Put::default() }).unwrap();
        model.insert(name, bytes(len, 3));
    }
    store.open_stream(&key("s"), &Put::default()).unwrap();
    store.append(&key("s"), &bytes(70_000, 3), None).unwrap();
    model.insert("s", bytes(70_000, 3));
    (store, model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_row_of_the_index_ends_in_a_panic_or_in_what_nobody_wrote(rows in rows()) {
        let dir = tempfile::tempdir().unwrap();
        let (store, model) = filled(&dir);
        spoil(&store, &rows);
        for again in [false, true] {
            let store = if again { open(&dir) } else { store.clone() };
            for (name, bytes) in &model {
                let read = store.get(&key(name)).and_then(|found| {
                    found.map(crate::Object::into_bytes).transpose()
                });
                if let Ok(Some(read)) = read {
                    prop_assert_eq!(&read, bytes, "{} is served wrong", name);
                }
                let _ = store.tail(&key(name), 0).map(|tail| tail.map(|tail| tail.progress()));
            }
            let _ = (store.list(&Query { suffix: "e".into(), ..Query::default() }), store.counts());
            let _ = (store.usage(""), store.append(&key("s"), b"", None));
            if !again {
                drop(store);
                break;
            }
        }
        let found = store.check(|_| {}).unwrap();
        let repair = store.repair(|_| {}).unwrap();
        prop_assert_eq!(&repair.found, &found);
        prop_assert_eq!(store.check(|_| {}).unwrap().problems, vec![], "{:?}", repair);
        // What is left is what was put; what is not left was set aside.
        for (name, bytes) in &model {
            match value(&store, name) {
                Some(read) => prop_assert_eq!(&read, bytes),
                None => prop_assert!(
                    repair.quarantined.iter().any(|one| one.key.as_deref() == Some(name)),
                    "{} is gone: {:?}", name, repair
                ),
            }
        }
        let listed = all(&store, "", "", 100);
        prop_assert!(listed.iter().all(|name| model.contains_key(name.as_str())), "{:?}", listed);
    }

    /// Half of all single bytes of a record are its checksum's or covered by it; none changes what
    /// is read without being noticed, and no text of any length is taken for a record.
    #[test]
    fn records_are_read_or_refused(noise in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
        let name = key("k");
        prop_assert!(Record::decode(&name, &noise).is_err());
        let mut begun = vec![2, 1];
        begun.extend(&noise[..cut.min(noise.len())]);
        prop_assert!(Record::decode(&name, &begun).is_err());
    }
}

/// A name that is not UTF-8 once stood in the index for good: a repair left it, and every listing
/// ended at it.
#[test]
fn a_name_that_is_no_key_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (store, model) = filled(&dir);
    let row = vec![0xff, 0xfe];
    spoil(
        &store,
        &[Row::Object(row.clone(), b"was a record".to_vec()), Row::Suffix(reversed(&row))],
    );
    assert!(store.list(&Query::default()).is_err());
    let repair = store.repair(|_| {}).unwrap();
    let [set_aside] = &*repair.quarantined else { panic!("{repair:?}") };
    assert_eq!(fs::read(set_aside.path.join("key")).unwrap(), row);
    assert_eq!(fs::read(set_aside.path.join("record")).unwrap(), b"was a record");
    assert_eq!(all(&store, "", "", 100), Vec::from_iter(model.keys().copied()));
    assert_eq!(store.check(|_| {}).unwrap().problems, vec![]);
}
