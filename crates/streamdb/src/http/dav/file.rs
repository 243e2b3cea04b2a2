//! A value on its way in through WebDAV: gathered, written, and stored when the body has ended.
//!
//! Reading values is done by the door to objects.

use std::fmt;
use std::future::ready;
use std::io::SeekFrom;

use bytes::{Buf, Bytes};
use dav_server::fs::{DavFile, DavMetaData, FsError, FsFuture};

use super::super::Door;
use super::super::upload::{GATHERED, write_all};
use super::tree::Node;
use crate::{Key, Meta, Put, Upload};

pub(super) struct Incoming {
    door: Door,
    key: Key,
    put: Put,
    upload: Option<Upload>,
    gathered: Vec<Bytes>,
    length: usize,
    stored: Option<Meta>,
}

impl Incoming {
    pub(super) fn new(door: Door, key: Key, put: Put, upload: Upload) -> Self {
        let upload = Some(upload);
        Self { door, key, put, upload, gathered: Vec::new(), length: 0, stored: None }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("key", &self.key).finish_non_exhaustive()
    }
}

impl DavFile for Incoming {
    fn metadata(&mut self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let meta = self.stored.clone().ok_or(FsError::NotFound);
        Box::pin(ready(meta.map(|meta| Box::new(Node::File(meta)) as Box<dyn DavMetaData>)))
    }

    fn write_buf(&mut self, mut buf: Box<dyn Buf + Send>) -> FsFuture<'_, ()> {
        let bytes = buf.copy_to_bytes(buf.remaining());
        self.write_bytes(bytes)
    }

    fn write_bytes(&mut self, bytes: Bytes) -> FsFuture<'_, ()> {
        self.length += bytes.len();
        self.gathered.push(bytes);
        Box::pin(async move {
            if self.length < GATHERED {
                return Ok(());
            }
            self.length = 0;
            let pieces = std::mem::take(&mut self.gathered);
            let upload = self.upload.take().ok_or(FsError::GeneralFailure)?;
            let upload = self.door.dav(move |_| write_all(upload, pieces)).await?;
            self.upload = Some(upload);
            Ok(())
        })
    }

    fn read_bytes(&mut self, _count: usize) -> FsFuture<'_, Bytes> {
        Box::pin(ready(Err(FsError::NotImplemented)))
    }

    fn seek(&mut self, _position: SeekFrom) -> FsFuture<'_, u64> {
        Box::pin(ready(Err(FsError::NotImplemented)))
    }

    fn flush(&mut self) -> FsFuture<'_, ()> {
        Box::pin(async move {
            let upload = self.upload.take().ok_or(FsError::GeneralFailure)?;
            let pieces = std::mem::take(&mut self.gathered);
            let (key, put) = (self.key.clone(), self.put.clone());
            let stored =
                self.door.dav_write(move |_| write_all(upload, pieces)?.commit(&key, &put)).await?;
            self.stored = Some(stored.meta);
            Ok(())
        })
    }
}
