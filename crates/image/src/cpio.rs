//! Writing the "newc" cpio archive that Linux takes as an initial file system (kernel,
//! Documentation/driver-api/early-userspace/buffer-format.rst). Times are 0 and inodes are counted,
//! so that the same files give the same archive.

/// An archive in memory: an initrd that is worth unpacking quickly is small.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

impl Archive {
    pub(crate) fn directory(&mut self, name: &str, mode: u32) {
        self.entry(name, DIRECTORY | mode, 2, (0, 0), &[]);
    }

    pub(crate) fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, REGULAR | mode, 1, (0, 0), content);
    }

    pub(crate) fn symlink(&mut self, name: &str, target: &str) {
        self.entry(name, SYMLINK | 0o777, 1, (0, 0), target.as_bytes());
    }

    pub(crate) fn character_device(&mut self, name: &str, mode: u32, major: u32, minor: u32) {
        self.entry(name, CHARACTER | mode, 1, (major, minor), &[]);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.header("TRAILER!!!", 0, 1, (0, 0), 0);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, links: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        self.header(name, mode, links, device, content.len());
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn header(&mut self, name: &str, mode: u32, links: u32, device: (u32, u32), length: usize) {
        let fields = [
            self.entries as usize,
            mode as usize,
            0, // uid
            0, // gid
            links as usize,
            0, // mtime
            length,
            0, // major and minor of the device the file lies on
            0,
            device.0 as usize,
            device.1 as usize,
            name.len() + 1,
            0, // checksum, which newc does not use
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.directory("dev", 0o755);
        archive.character_device("dev/console", 0o600, 5, 1);
        archive.file("init", 0o755, b"#!/bin/sh\n");
        archive.finish()
    }

    #[test]
    fn header_is_as_the_kernel_documents_it() {
        let bytes = sample();
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[14..22], b"000041ED");
        assert_eq!(bytes.len() % 4, 0);
    }

    /// Reads the archive back by the documented field positions.
    #[test]
    fn entries_follow_each_other_at_multiples_of_four() {
        let bytes = sample();
        let field = |at: usize, index: usize| {
            let start = at + 6 + index * 8;
            let digits = std::str::from_utf8(&bytes[start..start + 8]).unwrap();
            usize::from_str_radix(digits, 16).unwrap()
        };
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let (size, name_length) = (field(at, 6), field(at, 11));
            let name = &bytes[at + 110..at + 110 + name_length - 1];
            names.push(String::from_utf8(name.to_vec()).unwrap());
            at = (at + 110 + name_length).next_multiple_of(4) + size.next_multiple_of(4);
        }
        assert_eq!(names, ["dev", "dev/console", "init", "TRAILER!!!"]);
        assert_eq!(at, bytes.len());
    }
}
