//! Keys seen as a tree of collections and files.
//!
//! A collection is a prefix that ends in a slash. It is there as long as a key begins with it; an
//! empty one is held by a marker, an empty value under the prefix itself (`takes/`), which MKCOL
//! makes. Keys with an empty, `.` or `..` segment have no address here and are not listed.

use std::future::ready;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use dav_server::davpath::DavPath;
use dav_server::fs::{
    DavDirEntry, DavFile, DavFileSystem, DavMetaData, DavProp, FsError, FsFuture, FsResult,
    FsStream, OpenOptions, ReadDirMeta,
};
use futures_util::stream;

use super::super::Door;
use super::file::Incoming;
use super::{moves, properties};
use crate::{Conditions, Key, Meta, Put, Query, ReadError, Store, WriteError};

/// Keys that the door keeps for itself; WebDAV does not show them.
pub(super) const OWN: &str = ".streamdb/";

/// The content type of a collection's marker.
const MARKER: &str = "httpd/unix-directory";

/// What is at an address.
#[derive(Debug, Clone)]
pub(super) enum Node {
    File(Meta),
    /// With the time, in milliseconds since 1970-01-01 UTC, that stands for the collection's own.
    Collection(u64),
}

#[derive(Clone)]
pub(super) struct Tree {
    door: Door,
    kind: Option<String>,
}

impl Tree {
    /// The tree for one request, with the content type that it sends.
    pub(super) fn new(door: Door, kind: Option<String>) -> Self {
        Self { door, kind }
    }

    async fn node(&self, path: &DavPath) -> FsResult<Node> {
        let name = name(path)?;
        self.door.dav(move |store| look(store, &name)).await?.ok_or(FsError::NotFound)
    }

    /// The name of something that may be made: its parent is a collection.
    async fn new_name(&self, path: &DavPath) -> FsResult<String> {
        let name = name(path)?;
        if let Some((parent, _)) = name.rsplit_once('/') {
            let parent = parent.to_owned();
            match self.door.dav(move |store| look(store, &parent)).await? {
                Some(Node::Collection(_)) => {}
                _ => return Err(FsError::NotFound),
            }
        }
        Ok(name)
    }
}

/// The path without slashes at its ends; empty for the root.
fn name(path: &DavPath) -> FsResult<String> {
    let bytes = path.as_bytes();
    let text = std::str::from_utf8(bytes).map_err(|_| FsError::Forbidden)?.trim_matches('/');
    if format!("{text}/").starts_with(OWN) {
        return Err(FsError::Forbidden);
    }
    Ok(text.to_owned())
}

pub(super) fn key(name: &str) -> FsResult<Key> {
    Key::new(name).map_err(|error| match error {
        crate::KeyError::TooLong { .. } => FsError::PathTooLong,
        _ => FsError::Forbidden,
    })
}

fn look(store: &Store, name: &str) -> Result<Option<Node>, ReadError> {
    if name.is_empty() {
        return Ok(Some(Node::Collection(0)));
    }
    let Ok(key) = Key::new(name) else {
        return Ok(None);
    };
    if let Some(meta) = store.stat(&key)? {
        return Ok(Some(Node::File(meta)));
    }
    let query = Query { prefix: format!("{name}/"), limit: 1, ..Query::default() };
    let page = store.list(&query)?;
    Ok(page.entries.first().map(|entry| Node::Collection(entry.meta.modified)))
}

#[derive(Debug, Clone)]
struct Child {
    name: String,
    node: Node,
}

/// What is directly in a collection, by way of the index: below each collection found, the rest of
/// its keys is skipped rather than read.
fn children(store: &Store, folder: &str) -> Result<Vec<Child>, ReadError> {
    let mut found: Vec<Child> = Vec::new();
    let mut query = Query { prefix: folder.to_owned(), limit: 256, ..Query::default() };
    loop {
        let page = store.list(&query)?;
        let mut beyond = None;
        for entry in page.entries {
            let Some(rest) = entry.key.as_str().strip_prefix(folder) else { continue };
            let (child, node) = match rest.split_once('/') {
                None => (rest, Node::File(entry.meta)),
                Some((child, _)) => (child, Node::Collection(entry.meta.modified)),
            };
            let collection = matches!(node, Node::Collection(_));
            // The greatest text that can follow; should a key begin even so, the listing goes on
            // behind that key.
            let end = format!("{folder}{child}/\u{10ffff}");
            beyond = (collection && end.as_str() > entry.key.as_str()).then_some(end);
            let last = found.last();
            let again = collection && last.is_some_and(|last| last.name == child && last.is_dir());
            let hidden = folder.is_empty() && format!("{child}/") == OWN;
            if !again && !hidden && !matches!(child, "" | "." | "..") {
                found.push(Child { name: child.to_owned(), node });
            }
        }
        match (page.next, beyond) {
            (None, _) => return Ok(found),
            (Some(_), Some(beyond)) => query.cursor = Some(beyond),
            (next, None) => query.cursor = next,
        }
    }
}

impl Child {
    fn is_dir(&self) -> bool {
        matches!(self.node, Node::Collection(_))
    }
}

impl DavDirEntry for Child {
    fn name(&self) -> Vec<u8> {
        self.name.as_bytes().to_vec()
    }

    fn metadata(&self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        Box::pin(ready(Ok(Box::new(self.node.clone()) as Box<dyn DavMetaData>)))
    }
}

fn moment(millis: u64) -> FsResult<SystemTime> {
    // What cannot be written as an HTTP date is held to be missing.
    let most = Duration::from_secs(253_402_300_799);
    Ok(UNIX_EPOCH + Duration::from_millis(millis).min(most))
}

impl DavMetaData for Node {
    fn len(&self) -> u64 {
        match self {
            Self::File(meta) => meta.size,
            Self::Collection(_) => 0,
        }
    }

    fn modified(&self) -> FsResult<SystemTime> {
        match self {
            Self::File(meta) => moment(meta.modified),
            Self::Collection(millis) => moment(*millis),
        }
    }

    fn created(&self) -> FsResult<SystemTime> {
        match self {
            Self::File(meta) => moment(meta.created),
            Self::Collection(millis) => moment(*millis),
        }
    }

    fn is_dir(&self) -> bool {
        matches!(self, Self::Collection(_))
    }

    fn etag(&self) -> Option<String> {
        match self {
            Self::File(meta) => Some(meta.checksum.to_string()),
            Self::Collection(_) => None,
        }
    }
}

impl DavFileSystem for Tree {
    fn open<'a>(
        &'a self,
        path: &'a DavPath,
        options: OpenOptions,
    ) -> FsFuture<'a, Box<dyn DavFile>> {
        Box::pin(async move {
            // Reading is done by the door to values, and parts are not written.
            if !options.write || options.append {
                return Err(FsError::NotImplemented);
            }
            let name = self.new_name(path).await?;
            let of = name.clone();
            match self.door.dav(move |store| look(store, &of)).await? {
                Some(Node::Collection(_)) => return Err(FsError::Exists),
                None if path.is_collection() => return Err(FsError::Forbidden),
                None if !options.create => return Err(FsError::NotFound),
                Some(_) if options.create_new => return Err(FsError::Exists),
                _ => {}
            }
            let kind = self
                .kind
                .clone()
                .or_else(|| mime_guess::from_path(&name).first_raw().map(str::to_owned));
            let conditions =
                if options.create_new { Conditions::absent() } else { Conditions::default() };
            let put = Put { content_type: kind, conditions, ..Put::default() };
            if !options.truncate {
                // LOCK of a name that is not there makes an empty file (RFC 4918, 7.3) and writes
                // nothing to it.
                let (key, mut put) = (key(&name)?, put.clone());
                put.conditions = Conditions::absent();
                self.door.dav_write(move |store| store.put(&key, b"", &put)).await?;
            }
            let key = key(&name)?;
            let of = key.clone();
            let upload = self.door.dav(move |store| store.upload_for(&of)).await?;
            let file = Incoming::new(self.door.clone(), key, put, upload);
            Ok(Box::new(file) as Box<dyn DavFile>)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a DavPath,
        _meta: ReadDirMeta,
    ) -> FsFuture<'a, FsStream<Box<dyn DavDirEntry>>> {
        Box::pin(async move {
            let name = name(path)?;
            let folder = if name.is_empty() { name } else { name + "/" };
            let found = self.door.dav(move |store| children(store, &folder)).await?;
            let entries =
                found.into_iter().map(|child| Ok(Box::new(child) as Box<dyn DavDirEntry>));
            Ok(Box::pin(stream::iter(entries)) as FsStream<Box<dyn DavDirEntry>>)
        })
    }

    fn metadata<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, Box<dyn DavMetaData>> {
        Box::pin(async move {
            let node = self.node(path).await?;
            Ok(Box::new(node) as Box<dyn DavMetaData>)
        })
    }

    fn create_dir<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, ()> {
        Box::pin(async move {
            let name = self.new_name(path).await?;
            if self.node(path).await.is_ok() {
                return Err(FsError::Exists);
            }
            let marker = key(&format!("{name}/"))?;
            let put = Put {
                content_type: Some(MARKER.to_owned()),
                conditions: Conditions::absent(),
                ..Put::default()
            };
            self.door.dav_write(move |store| store.put(&marker, b"", &put)).await?;
            Ok(())
        })
    }

    fn remove_dir<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, ()> {
        Box::pin(async move {
            let name = name(path)?;
            if name.is_empty() {
                return Err(FsError::Forbidden);
            }
            let folder = format!("{name}/");
            let marker = key(&folder)?;
            let of = folder.clone();
            self.door
                .dav_write(move |store| {
                    store.delete(&marker, &Conditions::default())?;
                    properties::forget(store, &of)
                })
                .await?;
            let query = Query { prefix: folder, limit: 1, ..Query::default() };
            let left = self.door.dav(move |store| store.list(&query)).await?;
            // Keys that have no address here are not WebDAV's to delete.
            if left.entries.is_empty() { Ok(()) } else { Err(FsError::Forbidden) }
        })
    }

    fn remove_file<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, ()> {
        Box::pin(async move {
            let name = name(path)?;
            let key = key(&name)?;
            let gone = self.door.dav_write(move |store| {
                let gone = store.delete(&key, &Conditions::default())?;
                properties::forget(store, &name)?;
                Ok::<_, WriteError>(gone)
            });
            gone.await?.map(|_| ()).ok_or(FsError::NotFound)
        })
    }

    fn rename<'a>(&'a self, from: &'a DavPath, to: &'a DavPath) -> FsFuture<'a, ()> {
        Box::pin(async move {
            let to = self.new_name(to).await?;
            let node = self.node(from).await?;
            let from = name(from)?;
            // A collection cannot become a part of itself.
            if format!("{to}/").starts_with(&format!("{from}/")) {
                return Err(FsError::Forbidden);
            }
            self.door
                .dav_write(move |store| match node {
                    Node::File(_) => moves::rename(store, &from, &to),
                    Node::Collection(_) => moves::rename_all(store, &from, &to),
                })
                .await
        })
    }

    fn copy<'a>(&'a self, from: &'a DavPath, to: &'a DavPath) -> FsFuture<'a, ()> {
        Box::pin(async move {
            let to = self.new_name(to).await?;
            let from = name(from)?;
            self.door.dav_write(move |store| moves::copy(store, &from, &to)).await
        })
    }

    fn have_props<'a>(
        &'a self,
        _path: &'a DavPath,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(ready(true))
    }

    fn patch_props<'a>(
        &'a self,
        path: &'a DavPath,
        patch: Vec<(bool, DavProp)>,
    ) -> FsFuture<'a, Vec<(StatusCode, DavProp)>> {
        Box::pin(async move {
            let name = self.place_of_properties(path).await?;
            self.door.dav_write(move |store| properties::patch(store, &name, patch)).await
        })
    }

    fn get_props<'a>(&'a self, path: &'a DavPath, content: bool) -> FsFuture<'a, Vec<DavProp>> {
        Box::pin(async move {
            let name = self.place_of_properties(path).await?;
            let mut found = self.door.dav(move |store| properties::all(store, &name)).await?;
            if !content {
                found.iter_mut().for_each(|property| property.xml = None);
            }
            Ok(found)
        })
    }

    fn get_prop<'a>(&'a self, path: &'a DavPath, wanted: DavProp) -> FsFuture<'a, Vec<u8>> {
        Box::pin(async move {
            let name = self.place_of_properties(path).await?;
            let found = self.door.dav(move |store| properties::all(store, &name)).await?;
            let found = found.into_iter().find(|property| properties::same(property, &wanted));
            found.and_then(|property| property.xml).ok_or(FsError::NotFound)
        })
    }

    fn get_quota(&self) -> FsFuture<'_, (u64, Option<u64>)> {
        Box::pin(async move {
            let counts = self.door.dav(|store| store.counts()).await?;
            Ok((counts.bytes, self.door.store.quota()))
        })
    }
}

impl Tree {
    /// Properties of a collection are kept under its name with the slash.
    async fn place_of_properties(&self, path: &DavPath) -> FsResult<String> {
        let name = name(path)?;
        Ok(match path.is_collection() && !name.is_empty() {
            true => name + "/",
            false => name,
        })
    }
}
