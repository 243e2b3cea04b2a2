//! Open streams: what is acknowledged is there, what is not is not, and readers follow.

use super::*;
use crate::{AppendError, Tail, Tailed, Transfer};

fn begin(store: &Store, name: &str) {
    let put = Put { content_type: Some("audio/wav".into()), ..Put::default() };
    store.open_stream(&key(name), &put).unwrap();
}

fn rest(mut tail: Tail) -> Result<Vec<u8>, ReadError> {
    let mut all = Vec::new();
    while let Some(piece) = tail.next_piece()? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

// Pieces that end on both sides of a chunk, and one longer than what is kept in memory.
const PIECES: [usize; 9] = [0, 1, 65_534, 1, 1, 200_000, 7, 1_500_000, 65_536];

#[test]
fn a_stream_grows_is_read_as_it_grows_and_becomes_a_value() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    begin(&store, "take.wav");
    let whole = bytes(PIECES.iter().sum(), 3);
    let mut at = 0;
    for piece in PIECES {
        let meta = store.append(&key("take.wav"), &whole[at..at + piece], None).unwrap();
        at += piece;
        assert!(meta.open);
        assert_eq!((meta.size, meta.checksum), (at as u64, Checksum::of(&whole[..at])));
        assert!(value(&store, "take.wav").unwrap() == whole[..at]);
        assert_eq!(store.counts().unwrap().bytes, at as u64);
        if piece % 2 == 1 {
            drop(store);
            store = open(&dir);
        }
        assert_eq!(store.check(|_| {}).unwrap().problems, vec![]);
    }
    let sealed = store.seal(&key("take.wav")).unwrap();
    assert!(!sealed.open && sealed.content_type == "audio/wav");
    assert_eq!(store.seal(&key("take.wav")).unwrap(), sealed);
    let more = store.append(&key("take.wav"), b"more", None);
    assert!(matches!(more, Err(AppendError::Sealed { .. })));
    drop(store);
    let store = open(&dir);
    assert!(value(&store, "take.wav").unwrap() == whole);
    let tail = store.tail(&key("take.wav"), 5).unwrap().unwrap();
    assert!(rest(tail).unwrap() == whole[5..]);
    assert_eq!(store.check(|_| {}).unwrap().problems, vec![]);
}

#[test]
fn readers_follow_from_anywhere_and_see_every_byte_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    begin(&store, "s");
    let whole = bytes(PIECES.iter().sum(), 9);
    std::thread::scope(|scope| {
        for from in [0, 1, 65_536, 300_000, whole.len() as u64] {
            let (store, whole) = (&store, &whole);
            scope.spawn(move || {
                let tail = store.tail(&key("s"), from).unwrap().unwrap();
                assert!(rest(tail).unwrap() == whole[from as usize..], "from {from}");
            });
        }
        let mut at = 0;
        for piece in PIECES {
            store.append(&key("s"), &whole[at..at + piece], Some(at as u64)).unwrap();
            at += piece;
            // One who comes later reads what is no longer in memory from the file.
            let mut late = store.tail(&key("s"), 0).unwrap().unwrap();
            let mut got = Vec::new();
            while let Tailed::Piece(piece) = late.try_next().unwrap() {
                got.extend_from_slice(&piece);
            }
            assert!(got == whole[..at]);
        }
        store.seal(&key("s")).unwrap();
    });
}

#[test]
fn an_append_that_is_repeated_is_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    begin(&store, "s");
    store.append(&key("s"), b"abc", Some(0)).unwrap();
    let again = store.append(&key("s"), b"abc", Some(0));
    assert!(matches!(again, Err(AppendError::Offset { given: 0, size: 3, .. })));
    store.append(&key("s"), b"def", Some(3)).unwrap();
    assert_eq!(value(&store, "s").unwrap(), b"abcdef");
    let missing = store.append(&key("other"), b"x", None);
    assert!(matches!(missing, Err(AppendError::Missing { .. })));
    let options = Options { max_object: 8, ..Options::default() };
    drop(store);
    let store = Store::open(dir.path(), &options).unwrap();
    let long = store.append(&key("s"), b"ghi", None);
    assert!(matches!(long, Err(AppendError::Write(WriteError::TooLarge { limit: 8 }))));
    assert_eq!(store.append(&key("s"), b"gh", None).unwrap().size, 8);
}

/// Bytes reach the file before the index is committed; a crash in between leaves them.
#[test]
fn what_was_never_acknowledged_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    begin(&store, "s");
    store.append(&key("s"), b"acknowledged", None).unwrap();
    drop(store);
    let file = blobs(&dir).remove(0);
    let excess = File::options().write(true).open(&file).unwrap();
    excess.write_all_at(b"torn", 12).unwrap();
    let store = open(&dir);
    assert_eq!(fs::metadata(&file).unwrap().len(), 12);
    assert_eq!(store.append(&key("s"), b"!", Some(12)).unwrap().size, 13);
    assert_eq!(value(&store, "s").unwrap(), b"acknowledged!");
}

#[test]
fn damage_in_a_stream_is_told_and_not_built_upon() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    begin(&store, "s");
    store.append(&key("s"), &bytes(100_000, 1), None).unwrap();
    drop(store);
    flip(&blobs(&dir)[0], 70_000);
    let store = open(&dir);
    assert!(matches!(store.append(&key("s"), b"x", None), Err(AppendError::Damaged { .. })));
    assert!(matches!(store.seal(&key("s")), Err(AppendError::Damaged { .. })));
    let mut tail = store.tail(&key("s"), 0).unwrap().unwrap();
    assert!(matches!(tail.try_next(), Err(ReadError::Damaged { .. })));
    assert_eq!(store.check(|_| {}).unwrap().problems.len(), 1);
}

#[test]
fn a_stream_keeps_its_readers_when_renamed_and_tells_them_when_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    begin(&store, "a");
    store.append(&key("a"), b"one", None).unwrap();
    let mut tail = store.tail(&key("a"), 0).unwrap().unwrap();
    assert_eq!(tail.next_piece().unwrap().unwrap(), "one");
    store.rename(&Transfer::new(key("a"), key("b"))).unwrap();
    assert!(matches!(store.append(&key("a"), b"x", None), Err(AppendError::Missing { .. })));
    store.append(&key("b"), b"two", None).unwrap();
    assert_eq!(tail.next_piece().unwrap().unwrap(), "two");
    let copy = store.copy(&Transfer::new(key("b"), key("c")));
    assert!(matches!(copy, Err(WriteError::StillOpen { .. })));
    store.put(&key("b"), b"instead", &Put::default()).unwrap();
    assert!(matches!(tail.next_piece(), Err(ReadError::Gone { .. })));
    assert_eq!(value(&store, "b").unwrap(), b"instead");
    assert_eq!(blobs(&dir).len(), 0);
    assert_eq!(store.check(|_| {}).unwrap().problems, vec![]);
}
