//! What the index keeps for one value: its facts, and where its bytes are.
//!
//! This is the layout on disk; a change to it needs a new `FORMAT` and code that still reads the old one.

use std::collections::BTreeMap;

use crate::content::ContentId;
use crate::{Checksum, Key};

/// The facts about one stored value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Meta {
    /// Length of the value in bytes.
    pub size: u64,
    /// SHA-256 of the value; also its entity tag over HTTP. Of an open stream, that of the bytes
    /// acknowledged so far.
    pub checksum: Checksum,
    /// Counts the writes of the whole store: a later write of any key has a higher number, and no
    /// number is given twice, also not after a key was deleted and put anew.
    pub version: u64,
    /// When the key was first put, in milliseconds since 1970-01-01 UTC.
    pub created: u64,
    /// When the value was last put or appended to, in milliseconds since 1970-01-01 UTC.
    pub modified: u64,
    /// What kind of data this is, as in the HTTP header of that name.
    pub content_type: String,
    /// Whether this is a stream that still grows; see [`crate::Store::append`].
    pub open: bool,
    /// From when on the value is no longer there, in milliseconds since 1970-01-01 UTC.
    pub expires: Option<u64>,
    /// What its owner has noted about it; see [`crate::Put::user`].
    pub user: BTreeMap<String, String>,
}

/// Where a value's bytes are; `V` is how those in the record itself are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place<V = Vec<u8>> {
    /// In the record itself: one look-up finds all.
    Record(V),
    /// In the index's table of values, so that listings need not wade through them.
    Table,
    /// In a content file beside the index.
    File(ContentId),
    /// In a content file that is still being appended to.
    Open(ContentId),
}

impl<V> Place<V> {
    /// The content file, where there is one.
    pub(crate) const fn file(&self) -> Option<ContentId> {
        match self {
            Self::File(id) | Self::Open(id) => Some(*id),
            Self::Record(_) | Self::Table => None,
        }
    }
}

/// One entry of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record<V = Vec<u8>> {
    pub(crate) meta: Meta,
    pub(crate) place: Place<V>,
    /// CRC-32 of a value that is in the index, by which a reader verifies it: the SHA-256 costs more
    /// than the look-up. Records of former formats have none, and content files have theirs by chunk.
    pub(crate) sum: Option<u32>,
}

/// The bytes are no record, or not the record of that key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) &'static str);

const FORMAT: u8 = 4;
/// Numbers in eight bytes each, and every field told, also where it says nothing.
const FORMAT_3: u8 = 3;
/// As [`FORMAT_3`], without the sum of the value, and sealed with a part of a SHA-256.
const FORMAT_2: u8 = 2;
/// As [`FORMAT_2`], without expiry and user metadata.
const FORMAT_1: u8 = 1;

// The second byte of a record: the place in the lowest bits, and what follows that most records lack.
const PLACE: u8 = 0x03;
const HAS_KIND: u8 = 0x10;
const HAS_EXPIRY: u8 = 0x20;
const HAS_USER: u8 = 0x40;
const HAS_SUM: u8 = 0x80;

/// The kind of a value of which nothing is told, and of most. It is not written.
pub(crate) const USUAL_KIND: &str = "application/octet-stream";

impl Record {
    pub(crate) fn encode(&self, key: &Key) -> Vec<u8> {
        let Meta {
            size, checksum, version, created, modified, content_type, expires, user, ..
        } = &self.meta;
        let inline: &[u8] = if let Place::Record(bytes) = &self.place { bytes } else { &[] };
        let mut out = Vec::with_capacity(96 + inline.len());
        let place = match self.place {
            Place::Record(_) => 0,
            Place::Table => 1,
            Place::File(_) => 2,
            Place::Open(_) => 3,
        };
        let has = |flag: u8, told: bool| if told { flag } else { 0 };
        let unusual = content_type != USUAL_KIND;
        out.push(FORMAT);
        out.push(
            place
                | has(HAS_KIND, unusual)
                | has(HAS_EXPIRY, expires.is_some())
                | has(HAS_USER, !user.is_empty())
                | has(HAS_SUM, self.sum.is_some()),
        );
        push_number(&mut out, *size);
        push_number(&mut out, *version);
        push_number(&mut out, *created);
        // Most values are as old as their keys.
        push_number(&mut out, zigzag(modified.wrapping_sub(*created)));
        out.extend_from_slice(checksum.as_bytes());
        if unusual {
            // `store` admits content types of at most 255 bytes.
            out.push(content_type.len().min(255) as u8);
            out.extend(content_type.bytes().take(255));
        }
        if let Some(expires) = expires {
            push_number(&mut out, *expires);
        }
        if !user.is_empty() {
            // `store` admits far less metadata than these lengths can tell.
            out.push(user.len().min(255) as u8);
            for (name, value) in user.iter().take(255) {
                for text in [name, value] {
                    out.extend_from_slice(&(text.len().min(0xffff) as u16).to_le_bytes());
                    out.extend(text.bytes().take(0xffff));
                }
            }
        }
        if let Some(id) = self.place.file() {
            out.extend_from_slice(&id.to_bytes());
        }
        if let Some(sum) = self.sum {
            out.extend_from_slice(&sum.to_le_bytes());
        }
        let seal = seal(key, &out);
        out.extend_from_slice(&seal);
        out.extend_from_slice(inline);
        out
    }

    pub(crate) fn decode(key: &Key, bytes: &[u8]) -> Result<Self, Unreadable> {
        let Record { meta, place, sum } = Record::read(key, bytes)?;
        let place = match place {
            Place::Record(value) => Place::Record(value.to_vec()),
            Place::Table => Place::Table,
            Place::File(id) => Place::File(id),
            Place::Open(id) => Place::Open(id),
        };
        Ok(Self { meta, place, sum })
    }
}

impl<'a> Record<&'a [u8]> {
    /// The record in these bytes, without a copy of the value.
    pub(crate) fn read(key: &Key, bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut rest = bytes;
        let [format, told] = take::<2>(&mut rest)?;
        let (mut meta, kind) = head(format, told, &mut rest)?;
        let place = told & PLACE;
        let file = match place {
            2 | 3 => Some(ContentId::from_bytes(take::<16>(&mut rest)?)),
            _ => None,
        };
        let summed = told & HAS_SUM != 0 && format >= FORMAT_3;
        let sum = if summed { Some(u32::from_le_bytes(take::<4>(&mut rest)?)) } else { None };
        let sealed = bytes.get(..bytes.len() - rest.len()).ok_or(CUT)?;
        let intact = if format >= FORMAT_3 {
            take::<4>(&mut rest)? == seal(key, sealed)
        } else {
            take::<8>(&mut rest)? == former_seal(key, sealed)
        };
        if !intact {
            return Err(Unreadable("its record does not match its own checksum"));
        }
        let place = match (place, file) {
            (0, _) => Place::Record(rest),
            (1, _) => Place::Table,
            (2, Some(id)) => Place::File(id),
            (_, Some(id)) => Place::Open(id),
            _ => return Err(CUT),
        };
        // Not before the seal has said that these are the bytes that were written.
        meta.content_type = String::from_utf8(kind.to_vec())
            .map_err(|_| Unreadable("the content type in its record is not text"))?;
        meta.open = matches!(place, Place::Open(_));
        Ok(Self { meta, place, sum })
    }
}

/// The facts at the head of a record, the content type apart.
fn head<'a>(format: u8, told: u8, rest: &mut &'a [u8]) -> Result<(Meta, &'a [u8]), Unreadable> {
    let told = match format {
        FORMAT => told,
        FORMAT_2 | FORMAT_3 => HAS_KIND | HAS_EXPIRY | HAS_USER,
        FORMAT_1 => HAS_KIND,
        _ => return Err(Unreadable("its record has a format this program does not know")),
    };
    let number = if format == FORMAT { number } else { long_number };
    let [size, version, created, modified] =
        [number(rest)?, number(rest)?, number(rest)?, number(rest)?];
    let modified =
        if format == FORMAT { created.wrapping_add(unzigzag(modified)) } else { modified };
    let checksum = Checksum::from_bytes(take::<32>(rest)?);
    let kind = if told & HAS_KIND == 0 { USUAL_KIND.as_bytes() } else { short_bytes(rest)? };
    let expires = if told & HAS_EXPIRY == 0 { None } else { Some(number(rest)?) };
    let expires = expires.filter(|at| format == FORMAT || *at != NEVER);
    let user = if told & HAS_USER == 0 { BTreeMap::new() } else { notes(rest)? };
    let content_type = String::new();
    let facts = Meta {
        size,
        checksum,
        version,
        created,
        modified,
        content_type,
        open: false,
        expires,
        user,
    };
    Ok((facts, kind))
}

fn notes(rest: &mut &[u8]) -> Result<BTreeMap<String, String>, Unreadable> {
    let [count] = take::<1>(rest)?;
    (0..count).map(|_| Ok((short_text(rest)?, short_text(rest)?))).collect()
}

/// What stands for no expiry in former formats.
const NEVER: u64 = u64::MAX;

const CUT: Unreadable = Unreadable("its record is cut short");

/// Ties a record to its key. The engine checks its pages only when it repairs, so a flipped bit in
/// a size or a content type would otherwise be believed.
fn seal(key: &Key, record: &[u8]) -> [u8; 4] {
    let mut sum = crc32fast::Hasher::new();
    for part in [key.as_bytes(), &[0], record] {
        sum.update(part);
    }
    sum.finalize().to_le_bytes()
}

/// What records of former formats are sealed with.
fn former_seal(key: &Key, record: &[u8]) -> [u8; 8] {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new()
        .chain_update(key.as_bytes())
        .chain_update([0])
        .chain_update(record)
        .finalize();
    let mut seal = [0; 8];
    for (to, from) in seal.iter_mut().zip(digest) {
        *to = from;
    }
    seal
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Unreadable> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(CUT)?;
    *rest = tail;
    Ok(*head)
}

/// A number of seven bits a byte, the lowest first; the highest bit says that more follow (LEB128).
fn number(rest: &mut &[u8]) -> Result<u64, Unreadable> {
    let mut number = 0;
    for place in (0..64).step_by(7) {
        let [byte] = take::<1>(rest)?;
        number |= u64::from(byte & 0x7f) << place;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Unreadable("a number in its record does not end"))
}

/// A number as former formats have it.
fn long_number(rest: &mut &[u8]) -> Result<u64, Unreadable> {
    take::<8>(rest).map(u64::from_le_bytes)
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A small difference of either sign, as wrapping subtraction gives it, as a small number.
const fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ (if difference >> 63 == 1 { u64::MAX } else { 0 })
}

const fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (if number & 1 == 1 { u64::MAX } else { 0 })
}

fn short_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Unreadable> {
    let [length] = take::<1>(rest)?;
    let (bytes, after) = rest.split_at_checked(length.into()).ok_or(CUT)?;
    *rest = after;
    Ok(bytes)
}

fn short_text(rest: &mut &[u8]) -> Result<String, Unreadable> {
    let length = u16::from_le_bytes(take::<2>(rest)?);
    let (text, after) = rest.split_at_checked(length.into()).ok_or(CUT)?;
    *rest = after;
    String::from_utf8(text.to_vec())
        .map_err(|_| Unreadable("the metadata in its record is not text"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(place: Place) -> Record {
        let in_index = place.file().is_none();
        Record {
            sum: in_index.then(|| crc32fast::hash(b"abc")),
            meta: Meta {
                size: 3,
                checksum: Checksum::of(b"abc"),
                version: 7,
                created: 1,
                modified: 2,
                content_type: "audio/wav".into(),
                open: matches!(place, Place::Open(_)),
                expires: Some(9),
                user: [("take".into(), "3".into())].into(),
            },
            place,
        }
    }

    #[test]
    fn every_place_comes_back() {
        let key = Key::new("k").unwrap();
        for place in [
            Place::Record(b"abc".to_vec()),
            Place::Record(Vec::new()),
            Place::Table,
            Place::File(ContentId::from_bytes([9; 16])),
            Place::Open(ContentId::from_bytes([9; 16])),
        ] {
            let record = record(place);
            assert_eq!(Record::decode(&key, &record.encode(&key)), Ok(record.clone()));
            // As one that was read in a former format is written again.
            let without = Record { sum: None, ..record };
            assert_eq!(Record::decode(&key, &without.encode(&key)), Ok(without));
        }
    }

    /// A store written before values could expire, or had a sum of their own, is read as it stands.
    #[test]
    fn records_of_former_formats_are_still_read() {
        let key = Key::new("k").unwrap();
        for format in [FORMAT_1, FORMAT_2, FORMAT_3] {
            let mut old = vec![format, if format == FORMAT_3 { HAS_SUM } else { 0 }];
            for number in [3_u64, 7, 1, 2] {
                old.extend_from_slice(&number.to_le_bytes());
            }
            old.extend_from_slice(Checksum::of(b"abc").as_bytes());
            old.push(3);
            old.extend_from_slice(b"a/b");
            if format != FORMAT_1 {
                old.extend_from_slice(&9_u64.to_le_bytes());
                old.extend_from_slice(&[1, 1, 0, b'n', 1, 0, b'v']);
            }
            if format == FORMAT_3 {
                old.extend_from_slice(&5_u32.to_le_bytes());
                let seal = seal(&key, &old);
                old.extend_from_slice(&seal);
            } else {
                let seal = former_seal(&key, &old);
                old.extend_from_slice(&seal);
            }
            old.extend_from_slice(b"abc");
            let read = Record::decode(&key, &old).unwrap();
            assert_eq!((read.place, read.meta.size), (Place::Record(b"abc".to_vec()), 3));
            assert_eq!(read.sum, (format == FORMAT_3).then_some(5));
            assert_eq!((read.meta.version, read.meta.created, read.meta.modified), (7, 1, 2));
            assert_eq!(read.meta.content_type, "a/b");
            let told = (read.meta.expires, read.meta.user.len());
            assert_eq!(told, if format == FORMAT_1 { (None, 0) } else { (Some(9), 1) });
            for at in 0..old.len() - 3 {
                let mut changed = old.clone();
                changed[at] ^= 0x10;
                assert!(Record::decode(&key, &changed).is_err(), "format {format}, byte {at}");
            }
        }
    }

    #[test]
    fn what_most_values_lack_takes_no_room() {
        let key = Key::new("k").unwrap();
        let mut usual = record(Place::Record(Vec::new()));
        usual.meta.size = 100;
        usual.meta.version = 100_000;
        (usual.meta.created, usual.meta.modified) = (1_800_000_000_000, 1_800_000_000_000);
        usual.meta.content_type = USUAL_KIND.to_owned();
        usual.meta.expires = None;
        usual.meta.user.clear();
        let bytes = usual.encode(&key);
        assert_eq!(bytes.len(), 2 + 1 + 3 + 6 + 1 + 32 + 4 + 4);
        assert_eq!(Record::decode(&key, &bytes), Ok(usual));
    }

    proptest! {
        #[test]
        fn any_facts_come_back(
            [size, version, created, modified] in any::<[u64; 4]>(),
            back in 0..5000_u64,
            expires in any::<Option<u64>>(),
            content_type in "[ -~]{0,255}",
            user in prop::collection::btree_map("[a-z]{1,9}", "[ -~]{0,300}", 0..4),
            sum in any::<Option<u32>>(),
        ) {
            let key = Key::new("k").unwrap();
            // Also of a clock that was set back.
            for modified in [modified, created.wrapping_sub(back), created.wrapping_add(back)] {
                let mut any = record(Place::Table);
                let open = false;
                let (checksum, content_type, user) =
                    (any.meta.checksum, content_type.clone(), user.clone());
                any.meta = Meta {
                    size, checksum, version, created, modified, content_type, open, expires, user,
                };
                any.sum = sum;
                prop_assert_eq!(Record::decode(&key, &any.encode(&key)), Ok(any));
            }
        }
    }

    #[test]
    fn no_changed_or_missing_byte_goes_unnoticed() {
        let key = Key::new("k").unwrap();
        let file = record(Place::File(ContentId::from_bytes([9; 16]))).encode(&key);
        for whole in [file, record(Place::Table).encode(&key)] {
            for at in 0..whole.len() {
                for bit in 0..8 {
                    let mut changed = whole.clone();
                    changed[at] ^= 1 << bit;
                    assert!(Record::decode(&key, &changed).is_err(), "byte {at}, bit {bit}");
                }
                assert!(Record::decode(&key, &whole[..at]).is_err(), "cut at {at}");
            }
        }
        let whole = record(Place::Table).encode(&key);
        assert!(Record::decode(&Key::new("other").unwrap(), &whole).is_err());
    }
}
