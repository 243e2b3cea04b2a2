//! StreamDB for C: the functions of `include/streamdb.h`, and nothing that is not told there.
//!
//! Each checks what C cannot promise, calls the crate `streamdb`, and turns what comes of it into a
//! status. A panic ends at this wall as [`INTERNAL`]: it must not run through C.
#![allow(unsafe_code, reason = "pointers from C can be used in no other way")]

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::{ptr, slice};

use streamdb::{
    Conditions, Key, KeyError, OpenError, Options, Put, Query, ReadError, Store, WriteError,
};

/// Done.
pub const OK: c_int = 0;
/// The system refused something.
pub const IO: c_int = -1;
/// There is no value under the key.
pub const NOT_FOUND: c_int = -2;
/// An argument is none that the function takes.
pub const INVALID: c_int = -3;
/// A defect of the library.
pub const INTERNAL: c_int = -4;
/// The stored bytes are not those that were written.
pub const CORRUPTED: c_int = -5;

/// A store, as C holds it.
#[derive(Debug)]
pub struct Handle(Store);

/// `streamdb_results`: keys found, in memory that [`streamdb_free_search_results`] takes back.
#[repr(C)]
#[derive(Debug)]
pub struct Results {
    keys: *mut *mut c_char,
    lengths: *mut usize,
    count: usize,
    more: c_int,
}

/// `streamdb_stats_t`: how much the store holds.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Stats {
    keys: u64,
    bytes: u64,
}

/// Why a call did not succeed.
struct Status(c_int);

impl From<KeyError> for Status {
    fn from(_: KeyError) -> Self {
        Self(INVALID)
    }
}

impl From<OpenError> for Status {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Damaged { .. } | OpenError::IndexMissing { .. } => Self(CORRUPTED),
            _ => Self(IO),
        }
    }
}

impl From<ReadError> for Status {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged { .. } | ReadError::DamagedIndex { .. } => Self(CORRUPTED),
            _ => Self(IO),
        }
    }
}

impl From<WriteError> for Status {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::DamagedIndex { .. } => Self(CORRUPTED),
            WriteError::TooLarge { .. } => Self(INVALID),
            _ => Self(IO),
        }
    }
}

fn status(call: impl FnOnce() -> Result<(), Status>) -> c_int {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => OK,
        Ok(Err(Status(status))) => status,
        Err(_) => INTERNAL,
    }
}

/// # Safety
/// `store` is NULL or comes from `streamdb_open` and has not been closed.
unsafe fn store<'a>(store: *const Handle) -> Result<&'a Store, Status> {
    // SAFETY: as the caller promises.
    unsafe { store.as_ref() }.map(|handle| &handle.0).ok_or(Status(INVALID))
}

/// # Safety
/// `start` is NULL or has `length` bytes that nobody changes meanwhile.
unsafe fn bytes<'a>(start: *const u8, length: usize) -> Result<&'a [u8], Status> {
    if length == 0 {
        return Ok(&[]);
    }
    if start.is_null() || isize::try_from(length).is_err() {
        return Err(Status(INVALID));
    }
    // SAFETY: it is not NULL, and the rest is as the caller promises.
    Ok(unsafe { slice::from_raw_parts(start, length) })
}

/// # Safety
/// As for [`bytes`].
unsafe fn key(start: *const c_char, length: usize) -> Result<Key, Status> {
    // SAFETY: as the caller promises.
    Ok(Key::from_bytes(unsafe { bytes(start.cast(), length) }?)?)
}

/// Opens the store in a directory, and makes it if there is none.
///
/// # Safety
/// `directory` ends in NUL; `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn streamdb_open(directory: *const c_char, out: *mut *mut Handle) -> c_int {
    status(|| {
        if directory.is_null() || out.is_null() {
            return Err(Status(INVALID));
        }
        // SAFETY: not NULL, and ends in NUL as the caller promises.
        let directory = unsafe { CStr::from_ptr(directory) };
        let store =
            Store::open(Path::new(OsStr::from_bytes(directory.to_bytes())), &Options::default())?;
        // SAFETY: not NULL, and may be written to as the caller promises.
        unsafe { out.write(Box::into_raw(Box::new(Handle(store)))) };
        Ok(())
    })
}

/// Closes a store.
///
/// # Safety
/// `handle` is NULL or comes from `streamdb_open`, and is not used from now on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn streamdb_close(handle: *mut Handle) {
    if !handle.is_null() {
        status(|| {
            // SAFETY: it was made by `Box::into_raw` and is given back once.
            drop(unsafe { Box::from_raw(handle) });
            Ok(())
        });
    }
}

/// Stores a value.
///
/// # Safety
/// The pointers have as many bytes as their lengths say; the store is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn streamdb_insert(
    handle: *mut Handle,
    name: *const c_char,
    name_length: usize,
    value: *const u8,
    length: usize,
) -> c_int {
    status(|| {
        // SAFETY: as the caller promises.
        let (store, key, value) =
            unsafe { (store(handle)?, key(name, name_length)?, bytes(value, length)?) };
        store.put(&key, value, &Put::default())?;
        Ok(())
    })
}

/// Reads a value into a buffer of its own.
///
/// # Safety
/// As for [`streamdb_insert`]; `value` and `length` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn streamdb_get(
    handle: *mut Handle,
    name: *const c_char,
    name_length: usize,
    value: *mut *mut u8,
    length: *mut usize,
) -> c_int {
    status(|| {
        if value.is_null() || length.is_null() {
            return Err(Status(INVALID));
        }
        // SAFETY: as the caller promises.
        let (store, key) = unsafe { (store(handle)?, key(name, name_length)?) };
        let object = store.get(&key)?.ok_or(Status(NOT_FOUND))?;
        let whole = object.into_bytes()?.into_boxed_slice();
        // SAFETY: not NULL, and may be written to as the caller promises.
        unsafe {
            length.write(whole.len());
            value.write(Box::into_raw(whole).cast());
        }
        Ok(())
    })
}

/// Whether there is a value.
///
/// # Safety
/// As for [`streamdb_insert`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn streamdb_exists(
    handle: *mut Handle,
    name: *const c_char,
    name_length: usize,
) -> c_int {
    status(|| {
        // SAFETY: as the caller promises.
        let (store, key) = unsafe { (store(handle)?, key(name, name_length)?) };
        store.stat(&key)?.map(|_| ()).ok_or(Status(NOT_FOUND))
    })
}

/// Deletes a value.
///
/// # Safety
/// As for [`streamdb_insert`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn streamdb_delete(
    handle: *mut Handle,
    name: *const c_char,
    name_length: usize,
) -> c_int {
    status(|| {
        // SAFETY: as the caller promises.
        let (store, key) = unsafe { (store(handle)?, key(name, name_length)?) };
        store.delete(&key, &Conditions::default())?.map(|_| ()).ok_or(Status(NOT_FOUND))
    })
}

/// Finds keys by their end.
///
/// # Safety
/// As for [`streamdb_insert`]; `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn streamdb_suffix_search(
    handle: *mut Handle,
    suffix: *const c_char,
    suffix_length: usize,
    limit: usize,
    out: *mut *mut Results,
) -> c_int {
    status(|| {
        if out.is_null() || limit == 0 {
            return Err(Status(INVALID));
        }
        // SAFETY: as the caller promises.
        let (store, suffix) = unsafe { (store(handle)?, bytes(suffix.cast(), suffix_length)?) };
        let suffix = std::str::from_utf8(suffix).map_err(|_| Status(INVALID))?;
        let (mut found, mut query) = (Vec::new(), Query::default());
        suffix.clone_into(&mut query.suffix);
        let more = loop {
            query.limit = (limit - found.len()).min(Query::MAX_LIMIT);
            let page = store.list(&query)?;
            // A key has no NUL, so each becomes a C string.
            found.extend(
                page.entries.iter().filter_map(|entry| CString::new(entry.key.as_str()).ok()),
            );
            query.cursor = page.next;
            if query.cursor.is_none() || found.len() >= limit {
                break query.cursor.is_some();
            }
        };
        let lengths: Box<[usize]> = found.iter().map(|key| key.as_bytes().len()).collect();
        let keys: Box<[*mut c_char]> = found.into_iter().map(CString::into_raw).collect();
        let results = Box::new(Results {
            count: keys.len(),
            keys: Box::into_raw(keys).cast(),
            lengths: Box::into_raw(lengths).cast(),
            more: c_int::from(more),
        });
        // SAFETY: not NULL, and may be written to as the caller promises.
        unsafe { out.write(Box::into_raw(results)) };
        Ok(())
    })
}

/// Takes results back.
///
/// # Safety
/// `results` is NULL or comes from `streamdb_suffix_search`, unchanged, and is not used from now on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn streamdb_free_search_results(results: *mut Results) {
    if results.is_null() {
        return;
    }
    // SAFETY: all of it was made by `into_raw` in `streamdb_suffix_search` and is given back once.
    unsafe {
        let results = Box::from_raw(results);
        let keys = Box::from_raw(ptr::slice_from_raw_parts_mut(results.keys, results.count));
        for key in keys {
            drop(CString::from_raw(key));
        }
        drop(Box::from_raw(ptr::slice_from_raw_parts_mut(results.lengths, results.count)));
    }
}

/// Tells whether the store can still be read; there is never anything to flush.
///
/// # Safety
/// The store is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn streamdb_flush(handle: *mut Handle) -> c_int {
    status(|| {
        // SAFETY: as the caller promises.
        unsafe { store(handle) }?.counts()?;
        Ok(())
    })
}

/// How much the store holds.
///
/// # Safety
/// The store is open; `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn streamdb_stats(handle: *mut Handle, out: *mut Stats) -> c_int {
    status(|| {
        if out.is_null() {
            return Err(Status(INVALID));
        }
        // SAFETY: as the caller promises.
        let counts = unsafe { store(handle) }?.counts()?;
        // SAFETY: not NULL, and may be written to as the caller promises.
        unsafe { out.write(Stats { keys: counts.keys, bytes: counts.bytes }) };
        Ok(())
    })
}

/// The number of keys, or a negative status.
///
/// # Safety
/// The store is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn streamdb_len(handle: *mut Handle) -> i64 {
    let mut stats = Stats { keys: 0, bytes: 0 };
    // SAFETY: as the caller promises; `stats` is ours.
    match unsafe { streamdb_stats(handle, &raw mut stats) } {
        OK => i64::try_from(stats.keys).unwrap_or(i64::MAX),
        status => status.into(),
    }
}

/// Takes a buffer back.
///
/// # Safety
/// `buffer` is NULL or comes from `streamdb_get` with this length, and is not used from now on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn streamdb_free_buffer(buffer: *mut u8, length: usize) {
    if !buffer.is_null() {
        // SAFETY: it was made by `Box::into_raw` with this length and is given back once.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(buffer, length)) });
    }
}

/// The version, ending in NUL.
#[unsafe(no_mangle)]
pub extern "C" fn streamdb_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
