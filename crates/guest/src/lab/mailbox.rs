//! The mailbox as the guest sees it: the second persistent-memory device.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use archibald_mailbox::{
    ParcelReader, ParcelWriter, REPLY_AT, REPLY_ROOM, REQUEST_AT, Reply, Request,
};

use crate::GuestError;

const DEVICE: &str = "/dev/pmem1";

fn open(write: bool) -> io::Result<File> {
    // Past the page cache: the kernel has read the device's first blocks before the snapshot.
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap_or(0);
    OpenOptions::new().read(true).write(write).custom_flags(flags).open(DEVICE)
}

/// Reads the request and puts its folder at `folder`.
pub(super) fn receive(folder: &Path) -> Result<Request, String> {
    let told = |error: io::Error| format!("the request cannot be read: {error}");
    let device = open(false).map_err(told)?;
    let parcel = ParcelReader::open(&device, REQUEST_AT).map_err(|error| error.to_string())?;
    let mut archive = tar::Archive::new(parcel);
    fs::create_dir_all(folder).map_err(told)?;
    let mut request = None;
    for entry in archive.entries().map_err(told)? {
        let mut entry = entry.map_err(told)?;
        let path = entry.path().map_err(told)?.into_owned();
        if path == Path::new(Request::FILE) {
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(told)?;
            request = Some(serde_json::from_str(&text).map_err(|error| error.to_string())?);
        } else if let Ok(inside) = path.strip_prefix(Request::FOLDER) {
            if inside.components().next().is_some() {
                let path = folder.join(inside);
                // Only files were sent, not the folders that they lie in.
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(told)?;
                }
                entry.unpack(path).map_err(told)?;
            }
        }
    }
    request.ok_or_else(|| "the parcel holds no request".to_owned())
}

/// Sends the reply with everything that was collected.
pub(super) fn send(reply: &Reply, collected: &Path) -> Result<(), GuestError> {
    let write = || -> io::Result<()> {
        let device = open(true)?;
        let mut archive =
            tar::Builder::new(BufWriter::new(ParcelWriter::new(&device, REPLY_AT, REPLY_ROOM)));
        let text = serde_json::to_vec(reply)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, Reply::FILE, text.as_slice())?;
        archive.follow_symlinks(false);
        archive.append_dir_all("", collected)?;
        let mut buffered = archive.into_inner()?;
        buffered.flush()?;
        buffered.into_inner().map_err(io::IntoInnerError::into_error)?.finish()
    };
    write().map_err(GuestError::file("write", DEVICE))
}
