//! What QEMU needs beside the disk to start the guest directly: the kernel as packaged, the same
//! uncompressed for PVH, the distribution's initrd and the project's own. How the guest is started
//! is the `vm` crate's business.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use object::Endianness;
use object::elf::{FileHeader64, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::child::command;
use crate::cpio::Archive;
use crate::error::During;
use crate::ext4::Disk;
use crate::guest_files::{Kind, Overlay};
use crate::{BuildError, Tools};

/// A kernel note with the 32-bit entry point that QEMU's `-kernel` jumps to when it is given an ELF
/// file (Xen, public/elfnote.h).
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;

/// Puts `vmlinuz`, `vmlinux` and `initrd.stock` into `dir`, as far as the file system has them, and
/// says the kernel's release.
pub(crate) fn extract_kernel(
    disk: Disk<'_>,
    dir: &Path,
    work: &Path,
) -> Result<Option<String>, BuildError> {
    let names = disk.list("/boot")?;
    let Some(release) = names.iter().filter_map(|name| name.strip_prefix("vmlinuz-")).max() else {
        return Ok(None);
    };
    let vmlinuz = dir.join("vmlinuz");
    let mut files = vec![(format!("/boot/vmlinuz-{release}"), vmlinuz.clone())];
    let initrd = format!("initrd.img-{release}");
    if names.contains(&initrd) {
        files.push((format!("/boot/{initrd}"), dir.join("initrd.stock")));
    }
    disk.copy_out(&files, work)?;
    uncompress(disk.tools, &vmlinuz, &dir.join("vmlinux"), &work.join("payload"))?;
    Ok(Some(release.to_owned()))
}

/// Writes the ELF kernel inside a bzImage, if it has one that starts by PVH; leaves nothing if not.
pub(crate) fn uncompress(
    tools: &Tools,
    vmlinuz: &Path,
    vmlinux: &Path,
    compressed: &Path,
) -> Result<(), BuildError> {
    let image = fs::read(vmlinuz).during("read", vmlinuz)?;
    let Some(payload) = payload(&image) else { return Ok(()) };
    let Some(program) = decompressor(payload) else { return Ok(()) };
    fs::write(compressed, payload).during("write", compressed)?;
    decompress(tools, program, compressed, vmlinux)?;
    let kernel = fs::read(vmlinux).during("read", vmlinux)?;
    if !starts_by_pvh(&kernel) {
        fs::remove_file(vmlinux).during("remove", vmlinux)?;
    }
    Ok(())
}

/// The compressed kernel inside a bzImage (kernel, Documentation/arch/x86/boot.rst), without the
/// four bytes of its unpacked length that the build appends; gzip has them in its own format.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(*image.get(at..)?.first_chunk()?) as usize);
    let version = u16::from_le_bytes(*image.get(0x206..)?.first_chunk()?);
    if image.get(0x202..0x206)? != b"HdrS" || version < 0x0208 {
        return None;
    }
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + word(0x248)?;
    let payload = image.get(start..start.checked_add(word(0x24c)?)?)?;
    match payload {
        [0x1f, 0x8b, ..] => Some(payload),
        _ => payload.get(..payload.len().checked_sub(4)?),
    }
}

/// The program that unpacks what starts with these bytes.
fn decompressor(content: &[u8]) -> Option<&'static str> {
    match content {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        _ => None,
    }
}

fn decompress(
    tools: &Tools,
    program: &'static str,
    from: &Path,
    to: &Path,
) -> Result<(), BuildError> {
    let input = File::open(from).during("read", from)?;
    let output = File::create(to).during("write", to)?;
    let mut unpack = command(tools, program)?;
    let result = unpack
        .args(["--decompress", "--stdout"])
        .stdin(input)
        .stdout(output)
        .stderr(Stdio::piped())
        .output()
        .during("unpack", from)?;
    if result.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&result.stderr).trim().to_owned();
    Err(std::io::Error::other(message)).during("unpack", from)
}

fn starts_by_pvh(kernel: &[u8]) -> bool {
    let search = || -> object::Result<bool> {
        let header = FileHeader64::<Endianness>::parse(kernel)?;
        let endian = header.endian()?;
        for segment in header.program_headers(endian, kernel)? {
            if segment.p_type(endian) != PT_NOTE {
                continue;
            }
            let Some(mut notes) = segment.notes(endian, kernel)? else { continue };
            while let Some(note) = notes.next()? {
                if note.name() == b"Xen" && note.n_type(endian) == XEN_ELFNOTE_PHYS32_ENTRY {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    };
    search().unwrap_or(false)
}

/// What an initrd of the project holds beside busybox.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    /// `/init`.
    pub(crate) init: &'a [u8],
    /// Kernel modules by name.
    pub(crate) modules: &'a [String],
    /// Further files.
    pub(crate) files: &'a Overlay,
}

/// Where kernel modules come from.
#[derive(Clone, Copy)]
pub(crate) enum ModuleSource<'a> {
    /// The file system with the kernel of this release.
    Disk(Disk<'a>, &'a str),
    /// A directory that stands for `/`, with the kernel of this release.
    Tree(&'a Tools, &'a Path, &'a str),
}

impl ModuleSource<'_> {
    fn dir(&self) -> String {
        let (Self::Disk(_, release) | Self::Tree(_, _, release)) = self;
        format!("/usr/lib/modules/{release}")
    }

    fn tools(&self) -> &Tools {
        let (Self::Disk(Disk { tools, .. }, _) | Self::Tree(tools, ..)) = self;
        tools
    }

    fn read(&self, path: &str, work: &Path) -> Result<Option<Vec<u8>>, BuildError> {
        match self {
            Self::Disk(disk, _) => disk.read(path, work),
            Self::Tree(_, root, _) => {
                let path = root.join(path.trim_start_matches('/'));
                match fs::read(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    content => content.during("read", &path).map(Some),
                }
            }
        }
    }

    /// A text file of the modules' directory.
    fn text(&self, name: &str, work: &Path) -> Result<String, BuildError> {
        let path = format!("{}/{name}", self.dir());
        let content = self.read(&path, work)?;
        let reason = || BuildError::Initrd { reason: format!("there is no {path}") };
        Ok(String::from_utf8_lossy(&content.ok_or_else(reason)?).into_owned())
    }

    /// What `wanted` need, in the form of modules.dep. An installation writes that file; of a package
    /// that was only unpacked, the modules themselves are asked.
    fn dependencies(&self, wanted: &[String], work: &Path) -> Result<String, BuildError> {
        let Self::Tree(tools, root, _) = self else { return self.text("modules.dep", work) };
        let top = root.join(self.dir().trim_start_matches('/'));
        let mut known = BTreeMap::new();
        find_modules(&top, Path::new("kernel"), &mut known)?;
        let mut text = String::new();
        for module in wanted {
            let name = module.replace('-', "_");
            let Some(path) = known.get(&name) else { continue };
            let mut order = Vec::new();
            needs_of(tools, &top, &known, &name, &mut order, work)?;
            order.pop();
            let needs: Vec<&str> =
                order.iter().rev().filter_map(|name| known.get(name)).map(String::as_str).collect();
            text += &format!("{path}: {}\n", needs.join(" "));
        }
        Ok(text)
    }

    /// Copies files out of it, each to the path that stands beside it.
    fn copy_out(&self, files: &[(String, PathBuf)], work: &Path) -> Result<(), BuildError> {
        match self {
            Self::Disk(disk, _) => disk.copy_out(files, work),
            Self::Tree(_, root, _) => files.iter().try_for_each(|(from, to)| {
                let from = root.join(from.trim_start_matches('/'));
                fs::copy(&from, to).during("copy", &from).map(drop)
            }),
        }
    }
}

/// Writes the project's own initrd: `init` as `/init`, busybox, and in `/modules` the kernel modules
/// with a file `load` that lists them in the order in which they go in. Not compressed, since
/// unpacking is slower than reading where the processor is emulated.
pub(crate) fn write_initrd(
    disk: Disk<'_>,
    kernel: Option<ModuleSource<'_>>,
    contents: &Contents<'_>,
    to: &Path,
    work: &Path,
) -> Result<(), BuildError> {
    let missing = |what: &str| BuildError::Initrd {
        reason: format!("the image has no {what}; add the package to the recipe"),
    };
    let busybox = disk.read("/usr/bin/busybox", work)?;
    let busybox = busybox.ok_or_else(|| missing("/usr/bin/busybox (busybox-static)"))?;
    let mut archive = Archive::default();
    for (name, mode) in
        [("bin", 0o755), ("dev", 0o755), ("modules", 0o755), ("proc", 0o555), ("sys", 0o555)]
    {
        archive.directory(name, mode);
    }
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.character_device("dev/null", 0o666, 1, 3);
    archive.file("bin/busybox", 0o755, &busybox);
    archive.file("init", 0o755, contents.init);
    let mut load = String::new();
    if !contents.modules.is_empty() {
        let kernel = kernel.ok_or_else(|| missing("kernel (linux-image-rt-amd64)"))?;
        for (name, content) in read_modules(kernel, contents.modules, work)? {
            archive.file(&format!("modules/{name}"), 0o644, &content);
            load += &format!("{name}\n");
        }
    }
    archive.file("modules/load", 0o644, load.as_bytes());
    let mut made: BTreeSet<&str> = BTreeSet::new();
    for entry in &contents.files.entries {
        let path = entry.path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            if let Some(parent) = path.get(..at).filter(|parent| made.insert(parent)) {
                archive.directory(parent, 0o755);
            }
        }
        match &entry.kind {
            Kind::File(bytes) => archive.file(path, entry.mode, bytes),
            Kind::Directory => archive.directory(path, entry.mode),
            Kind::Symlink(target) => archive.symlink(path, target),
        }
    }
    fs::write(to, archive.finish()).during("write", to)
}

/// The modules and what they depend on, uncompressed, in the order in which they must be loaded.
fn read_modules(
    kernel: ModuleSource<'_>,
    wanted: &[String],
    work: &Path,
) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let dir = kernel.dir();
    let (dep, builtin) =
        (kernel.dependencies(wanted, work)?, kernel.text("modules.builtin", work)?);
    let paths =
        load_order(&dep, &builtin, wanted).map_err(|reason| BuildError::Initrd { reason })?;
    let dumped = work.join("modules");
    fs::create_dir(&dumped).during("create", &dumped)?;
    let files: Vec<(String, PathBuf)> =
        paths.iter().map(|path| (format!("{dir}/{path}"), dumped.join(file_name(path)))).collect();
    kernel.copy_out(&files, work)?;
    let mut modules = Vec::new();
    for (_, file) in &files {
        let mut content = fs::read(file).during("read", file)?;
        if let Some(program) = decompressor(&content) {
            let plain = file.with_extension("plain");
            decompress(kernel.tools(), program, file, &plain)?;
            content = fs::read(&plain).during("read", &plain)?;
        }
        let name = module_name(&file.to_string_lossy());
        modules.push((format!("{name}.ko"), content));
    }
    fs::remove_dir_all(&dumped).during("remove", &dumped)?;
    Ok(modules)
}

/// The modules below a directory by name, each with its path below `top`.
fn find_modules(
    top: &Path,
    inside: &Path,
    known: &mut BTreeMap<String, String>,
) -> Result<(), BuildError> {
    let dir = top.join(inside);
    for entry in fs::read_dir(&dir).during("read", &dir)? {
        let entry = entry.during("read", &dir)?;
        let path = inside.join(entry.file_name());
        let text = path.to_string_lossy().into_owned();
        if entry.file_type().during("read", &dir)?.is_dir() {
            find_modules(top, &path, known)?;
        } else if file_name(&text).contains(".ko") {
            known.insert(module_name(&text), text);
        }
    }
    Ok(())
}

/// Puts a module behind all that it needs, by its own `depends=` (modinfo(8)).
fn needs_of(
    tools: &Tools,
    top: &Path,
    known: &BTreeMap<String, String>,
    name: &str,
    order: &mut Vec<String>,
    work: &Path,
) -> Result<(), BuildError> {
    if order.iter().any(|there| there == name) {
        return Ok(());
    }
    if let Some(path) = known.get(name) {
        let file = top.join(path);
        let mut content = fs::read(&file).during("read", &file)?;
        if let Some(program) = decompressor(&content) {
            let plain = work.join("plain");
            decompress(tools, program, &file, &plain)?;
            content = fs::read(&plain).during("read", &plain)?;
        }
        for need in depends(&content) {
            needs_of(tools, top, known, &need, order, work)?;
        }
    }
    order.push(name.to_owned());
    Ok(())
}

/// The names after `depends=` among a module's strings.
fn depends(module: &[u8]) -> Vec<String> {
    let Some(line) =
        module.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(b"depends="))
    else {
        return Vec::new();
    };
    let names = String::from_utf8_lossy(line).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The kernel takes `-` and `_` for the same and so does modprobe.
fn module_name(path: &str) -> String {
    let name = file_name(path);
    name.split_once(".ko").map_or(name, |(name, _)| name).replace('-', "_")
}

/// Paths of the wanted modules and of all they depend on, dependencies first. `modules.dep` lists
/// all dependencies of a module, the direct ones first, so that they are loaded from the last to
/// the first (modules.dep(5)). What is built into the kernel is passed over.
fn load_order(dep: &str, builtin: &str, wanted: &[String]) -> Result<Vec<String>, String> {
    let mut known: BTreeMap<String, (&str, Vec<&str>)> = BTreeMap::new();
    for (path, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
        known.insert(module_name(path), (path, needs.split_ascii_whitespace().collect()));
    }
    let mut order: Vec<String> = Vec::new();
    for module in wanted {
        let name = module.replace('-', "_");
        let Some((path, needs)) = known.get(&name) else {
            if builtin.lines().any(|path| module_name(path) == name) {
                continue;
            }
            return Err(format!("the kernel has no module `{module}`"));
        };
        for path in needs.iter().rev().chain([path]) {
            if !order.iter().any(|there| there == path) {
                order.push((*path).to_owned());
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A boot sector, one setup sector, and `payload` at 16 bytes into the kernel.
    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024 + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend_from_slice(payload);
        image.extend_from_slice(b"more");
        image
    }

    #[test]
    fn the_payload_comes_without_the_length_behind_it() {
        let zstd = b"\x28\xb5\x2f\xfdcontent";
        let image = bzimage(&[zstd.as_slice(), &[7, 0, 0, 0]].concat());
        assert_eq!(payload(&image), Some(zstd.as_slice()));
        let gzip = b"\x1f\x8bcontent with length";
        assert_eq!(payload(&bzimage(gzip)), Some(gzip.as_slice()));
    }

    #[test]
    fn what_is_no_bzimage_has_no_payload() {
        assert_eq!(payload(b"MZ"), None);
        assert_eq!(payload(&[0; 4096]), None);
        let mut cut = bzimage(b"\x28\xb5\x2f\xfdcontent");
        cut.truncate(1050);
        assert_eq!(payload(&cut), None);
        let mut old = bzimage(b"\x28\xb5\x2f\xfdcontent");
        old[0x206] = 7;
        assert_eq!(payload(&old), None);
    }

    /// An ELF file with one note segment that holds one note.
    fn elf(owner: &[u8; 4], kind: u32) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16..18].copy_from_slice(&2_u16.to_le_bytes());
        elf[18..20].copy_from_slice(&62_u16.to_le_bytes());
        elf[20] = 1;
        elf[32] = 64; // program headers
        elf[52] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64] = 4; // PT_NOTE
        elf[72] = 120; // offset
        elf[96] = 20; // size in the file
        elf[112] = 4; // alignment
        for word in [4, 4, kind] {
            elf.extend_from_slice(&u32::to_le_bytes(word));
        }
        elf.extend_from_slice(owner);
        elf.extend_from_slice(&[0; 4]);
        elf
    }

    #[test]
    fn only_the_xen_entry_note_makes_a_pvh_kernel() {
        assert!(starts_by_pvh(&elf(b"Xen\0", 18)));
        assert!(!starts_by_pvh(&elf(b"Xen\0", 6)));
        assert!(!starts_by_pvh(&elf(b"GNU\0", 18)));
        assert!(!starts_by_pvh(b"MZ and no ELF"));
    }

    const DEP: &str = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz\n\
                       kernel/fs/jbd2/jbd2.ko.xz:\n\
                       kernel/lib/crc16.ko.xz:\n\
                       kernel/drivers/block/virtio_blk.ko.xz:\n";

    #[test]
    fn a_module_tells_itself_what_it_needs() {
        let module = b"\x7fELF\0license=GPL\0depends=nd-btt,libnvdimm\0name=nd_pmem\0";
        assert_eq!(depends(module), ["nd_btt", "libnvdimm"]);
        assert!(depends(b"license=GPL\0depends=\0").is_empty());
    }

    #[test]
    fn dependencies_go_first_and_each_once() {
        let wanted = ["ext4".to_owned(), "virtio-blk".to_owned(), "jbd2".to_owned()];
        let order = load_order(DEP, "", &wanted).unwrap();
        let names: Vec<String> = order.iter().map(|path| module_name(path)).collect();
        assert_eq!(names, ["crc16", "jbd2", "ext4", "virtio_blk"]);
    }

    #[test]
    fn what_is_built_in_is_passed_over_and_what_is_unknown_is_told() {
        let builtin = "kernel/drivers/virtio/virtio_pci.ko\n";
        assert!(load_order(DEP, builtin, &["virtio_pci".to_owned()]).unwrap().is_empty());
        assert!(load_order(DEP, builtin, &["nvme".to_owned()]).unwrap_err().contains("nvme"));
    }
}
