//! `streamdb get`: writes a value to a file or to the standard output.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest, Sha256};
use streamdb::{Checksum, Key};
use ureq::BodyReader;

use crate::client::{Client, Server};
use crate::outcome::{Failure, Kind};

/// Write a value to a file or to the standard output
///
/// Compares the checksum; a file only appears under its name once it is whole.
#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    server: Server,
    /// Key to read
    key: Key,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Get {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = self.server.client()?;
        let Some(path) = &self.output else {
            return to_output(&client, &self.key);
        };
        let (mut body, tag) = open(&client, &self.key)?;
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".part-{}", std::process::id()));
        let part = PathBuf::from(part);
        let done = self.write(&mut body, tag, &part, path);
        if done.is_err() {
            let _ = fs::remove_file(&part);
        }
        done
    }

    fn write(
        &self,
        body: &mut dyn Read,
        tag: Option<Checksum>,
        part: &Path,
        path: &Path,
    ) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            Failure::new(
                Kind::Lacking,
                format!("could not write {}: {error}", path.display()),
                "see that the directory exists, may be written, and that its disk has room",
            )
        };
        let mut file = File::create(part).map_err(failed)?;
        copy(&self.key, body, tag, &mut file)?;
        file.sync_all().map_err(failed)?;
        fs::rename(part, path).map_err(failed)
    }
}

/// Writes a value to the standard output.
pub(super) fn to_output(client: &Client, key: &Key) -> Result<(), Failure> {
    let (mut body, tag) = open(client, key)?;
    let mut out = io::stdout().lock();
    copy(key, &mut body, tag, &mut out)?;
    out.flush().map_err(|error| Failure::output(&error))
}

fn open(client: &Client, key: &Key) -> Result<(BodyReader<'static>, Option<Checksum>), Failure> {
    let response = client.send("GET", &client.object(key), &[], None)?;
    let tag = response.headers().get("etag").and_then(|tag| {
        let tag = tag.to_str().ok()?;
        tag.trim_matches('"').parse::<Checksum>().ok()
    });
    Ok((response.into_body().into_reader(), tag))
}

fn copy(
    key: &Key,
    body: &mut dyn Read,
    tag: Option<Checksum>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let broken = |why: String| {
        Failure::new(
            Kind::No,
            format!("the value of {:?} did not come whole: {why}", key),
            "get it again; if it stays so, run `streamdb check` where the store is",
        )
    };
    let mut checksum = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = match body.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(error.to_string())),
        };
        let got = piece.get(..count).unwrap_or_default();
        checksum.update(got);
        out.write_all(got).map_err(|error| Failure::output(&error))?;
    }
    let checksum = Checksum::from_bytes(checksum.finalize().into());
    if tag.is_some_and(|tag| tag != checksum) {
        return Err(broken("its checksum differs".to_owned()));
    }
    Ok(())
}
