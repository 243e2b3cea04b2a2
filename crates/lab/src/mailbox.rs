//! The host's side of the mailbox: a request with a folder goes in, a reply with what was collected
//! comes out.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use archibald_mailbox::{
    ParcelReader, ParcelWriter, REPLY_AT, REQUEST_AT, REQUEST_ROOM, Reply, Request,
};

use crate::LabError;
use crate::error::During;

/// A file of a program's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FolderFile {
    /// Path inside the folder.
    pub(crate) path: PathBuf,
    /// Whether it may be run.
    pub(crate) executable: bool,
    /// Content.
    pub(crate) content: Vec<u8>,
}

/// Puts a request into the mailbox at `path`, which is made.
pub(crate) fn post(path: &Path, request: &Request, folder: &[FolderFile]) -> Result<(), LabError> {
    let file = crate::snapshot::empty_mailbox(path)?;
    let write = || -> io::Result<()> {
        let parcel = ParcelWriter::new(&file, REQUEST_AT, REQUEST_ROOM);
        let mut archive = tar::Builder::new(BufWriter::new(parcel));
        let text = serde_json::to_vec(request)?;
        append(&mut archive, Path::new(Request::FILE), &text, 0o644)?;
        for file in folder {
            let path = Path::new(Request::FOLDER).join(&file.path);
            let mode = if file.executable { 0o755 } else { 0o644 };
            append(&mut archive, &path, &file.content, mode)?;
        }
        let mut buffered = archive.into_inner()?;
        buffered.flush()?;
        buffered.into_inner().map_err(io::IntoInnerError::into_error)?.finish()
    };
    write().during("write", path)
}

/// Owner, time and order are fixed: the same folder is the same parcel.
fn append<W: io::Write>(
    archive: &mut tar::Builder<W>,
    path: &Path,
    content: &[u8],
    mode: u32,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(1_577_836_800);
    archive.append_data(&mut header, path, content)
}

/// Takes the reply out of the mailbox at `path`; everything beside it is put into `dir`.
pub(crate) fn collect(path: &Path, dir: &Path) -> Result<Reply, LabError> {
    let file = File::open(path).during("open", path)?;
    let parcel = ParcelReader::open(&file, REPLY_AT)?;
    let mut archive = tar::Archive::new(parcel);
    let wrong = |error: io::Error| LabError::Reply(error.to_string());
    let mut reply = None;
    fs::create_dir_all(dir).during("create", dir)?;
    for entry in archive.entries().map_err(wrong)? {
        let mut entry = entry.map_err(wrong)?;
        if entry.path().map_err(wrong)? == Path::new(Reply::FILE) {
            let mut text = Vec::new();
            entry.read_to_end(&mut text).map_err(wrong)?;
            let read = serde_json::from_slice(&text);
            reply = Some(read.map_err(|error| LabError::Reply(error.to_string()))?);
        } else {
            // Refuses paths that lead out of `dir`.
            entry.set_preserve_mtime(false);
            entry.unpack_in(dir).map_err(wrong)?;
        }
    }
    reply.ok_or_else(|| LabError::Reply("it has no reply.json".to_owned()))
}
