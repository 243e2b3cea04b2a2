//! The root file system: written from a directory by mke2fs, read and changed by debugfs, so that
//! neither root nor a mount is needed, and the same input gives the same bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::child::{EPOCH, Isolation, Watched, command, fresh_log};
use crate::error::During;
use crate::guest_files::{Entry, Kind, Overlay};
use crate::{BuildError, Cancel, Tools, space};

const MEASURE: &str = include_str!("ext4/measure.sh");
const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;

/// Written out, so that no host's /etc/mke2fs.conf decides. Every kernel and e2fsprogs that the
/// project meets knows these.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,\
                        flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// mke2fs refuses a type that its configuration does not name.
const CONFIGURATION: &str = "[fs_types]\n\text4 = {\n\t\tinode_size = 256\n\t}\n";

/// Writes file systems.
pub(crate) struct Formatter<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) isolation: Isolation,
    pub(crate) logs: &'a Path,
    pub(crate) cancel: &'a Cancel,
}

impl Formatter<'_> {
    /// Makes `disk` a file system with the content of `root`, bearing ids taken from `key`. `work`
    /// is for files in between.
    pub(crate) fn format(
        &self,
        root: &Path,
        disk: &Path,
        key: &[u8; 32],
        work: &Path,
    ) -> Result<(), BuildError> {
        let size = self.measure(root)?;
        space::require(work, size.content)?;
        let configuration = work.join("mke2fs.conf");
        fs::write(&configuration, CONFIGURATION).during("write", &configuration)?;
        let log = fresh_log(self.logs, "filesystem.log")?;
        let watched = Watched {
            action: "writing the file system",
            program: "mke2fs",
            log: &log,
            cancel: self.cancel,
        };
        let (uuid, seed) = (uuid(key.first_chunk()), uuid(key.last_chunk()));
        let mut command = self.isolation.command(self.tools, "mke2fs")?;
        command
            .args(["-q", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "1", "-L", "archibald"])
            .args(["-O", FEATURES, "-J", "size=64", "-U", &uuid, "-N", &size.inodes.to_string()])
            .args(["-E", &format!("hash_seed={seed},lazy_itable_init=0,lazy_journal_init=0")])
            .arg("-d")
            .arg(root)
            .arg(disk)
            .arg(format!("{}k", size.bytes / 1024))
            .env("MKE2FS_CONFIG", &configuration);
        watched.run(&mut command, |_| Ok(()))?;
        self.settle_times(disk, work)
    }

    fn measure(&self, root: &Path) -> Result<Size, BuildError> {
        let mut command = self.isolation.command(self.tools, "sh")?;
        let output = command.args(["-c", MEASURE, "measure"]).arg(root).output();
        let output = output.during("measure", root)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers: Option<(u64, u64)> = text
            .trim()
            .split_once(' ')
            .and_then(|(blocks, inodes)| Some((blocks.parse().ok()?, inodes.parse().ok()?)));
        let wrong = || io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned());
        let (blocks, inodes) = numbers.ok_or_else(wrong).during("measure", root)?;
        Ok(Size::of(blocks, inodes))
    }

    /// mke2fs copies the change and access times of the directory's files, which nobody can set
    /// there and which are never the same twice.
    fn settle_times(&self, disk: &Path, work: &Path) -> Result<(), BuildError> {
        let mut list = command(self.tools, "dumpe2fs")?;
        let output = list.arg(disk).output().during("read", disk)?;
        let script: String = used_inodes(&String::from_utf8_lossy(&output.stdout))
            .map(|inode| format!("sif <{inode}> ctime @{EPOCH}\nsif <{inode}> atime @{EPOCH}\n"))
            .collect();
        if script.is_empty() {
            return Err(BuildError::Filesystem {
                disk: disk.to_owned(),
                reason: "dumpe2fs lists no inodes".to_owned(),
            });
        }
        Disk { tools: self.tools, path: disk }.change(&script, work)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Size {
    content: u64,
    bytes: u64,
    inodes: u64,
}

impl Size {
    /// Room for the content, the journal, the inode tables, the guest files to come and some work.
    /// Machines stand on a copy-on-write layer that is larger and grow the file system there.
    fn of(blocks: u64, inodes: u64) -> Self {
        let inodes = (inodes * 5 / 4 + 8192).max(blocks * BLOCK / 32768);
        let content = blocks * BLOCK;
        let bytes = content + content / 20 + inodes * 256 + (64 + 320) * MIB;
        Self { content, bytes: bytes.next_multiple_of(64 * MIB), inodes }
    }
}

/// A UUID out of 16 random-looking bytes, marked as version 4 (RFC 9562).
fn uuid(bytes: Option<&[u8; 16]>) -> String {
    let mut bytes = u128::from_be_bytes(bytes.copied().unwrap_or_default());
    bytes = bytes & !(0xf << 76) | (0x4 << 76);
    bytes = bytes & !(0x3 << 62) | (0x2 << 62);
    let hex = format!("{bytes:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default().to_owned();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// The inodes in use, 11 and up, out of dumpe2fs: it lists each group's range of inodes by the
/// number per group, and those that are free.
fn used_inodes(dump: &str) -> impl Iterator<Item = u32> {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let total =
        dump.lines().find_map(|line| number(line.strip_prefix("Inode count:")?)).unwrap_or(0);
    let mut used = vec![true; total as usize + 1];
    for range in dump
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("Free inodes:"))
        .flat_map(|ranges| ranges.split(','))
        // The header's line of the same name is a count.
        .skip(1)
    {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Some(first), Some(last)) = (number(first), number(last)) {
            if let Some(free) = used.get_mut(first as usize..=last as usize) {
                free.fill(false);
            }
        }
    }
    (11..=total).filter(move |inode| used.get(*inode as usize).is_some_and(|used| *used))
}

/// A file system that debugfs works on.
#[derive(Clone, Copy)]
pub(crate) struct Disk<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) path: &'a Path,
}

/// What debugfs says stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Nothing,
    Directory,
    Other,
}

impl Disk<'_> {
    /// The names in a directory.
    pub(crate) fn list(&self, dir: &str) -> Result<Vec<String>, BuildError> {
        let output = self.ask(&format!("ls -p \"{dir}\""))?;
        // /inode/mode/uid/gid/name/size/
        let names = output.lines().filter_map(|line| line.split('/').nth(5));
        Ok(names.filter(|name| !matches!(*name, "" | "." | "..")).map(str::to_owned).collect())
    }

    /// The content of a file; `None` if there is no such file.
    pub(crate) fn read(&self, path: &str, work: &Path) -> Result<Option<Vec<u8>>, BuildError> {
        let to = work.join("dumped");
        if self.copy_out(&[(path.to_owned(), to.clone())], work).is_err() {
            return Ok(None);
        }
        let content = fs::read(&to).during("read", &to)?;
        fs::remove_file(&to).during("remove", &to)?;
        Ok(Some(content))
    }

    /// Copies files out of the file system.
    pub(crate) fn copy_out(
        &self,
        files: &[(String, PathBuf)],
        work: &Path,
    ) -> Result<(), BuildError> {
        let script: String = files
            .iter()
            .map(|(from, to)| format!("dump \"{from}\" \"{}\"\n", to.display()))
            .collect();
        self.run(&script, work, false).map(|_| ())
    }

    /// Lays guest files over what is there. `work` is for files in between.
    pub(crate) fn overlay(&self, overlay: &Overlay, work: &Path) -> Result<(), BuildError> {
        let staged = work.join("guest");
        fs::create_dir(&staged).during("create", &staged)?;
        for (index, entry) in overlay.entries.iter().enumerate() {
            if let Kind::File(content) = &entry.kind {
                let path = staged.join(index.to_string());
                fs::write(&path, content).during("write", &path)?;
            }
        }
        let script = overlay_script(overlay, &staged, |path| self.standing(path))?;
        if !script.is_empty() {
            self.change(&script, work)?;
        }
        fs::remove_dir_all(&staged).during("remove", &staged)
    }

    /// Fails unless e2fsck finds nothing to complain about.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let mut check = command(self.tools, "e2fsck")?;
        let output = check.arg("-fn").arg(self.path).output().during("check", self.path)?;
        if output.status.success() {
            return Ok(());
        }
        Err(self.wrong(String::from_utf8_lossy(&output.stdout).trim()))
    }

    fn standing(&self, path: &str) -> Result<Standing, BuildError> {
        let output = self.ask(&format!("stat \"{path}\""))?;
        let first = output.lines().next().unwrap_or_default();
        Ok(match first.split_once("Type: ") {
            None => Standing::Nothing,
            Some((_, kind)) if kind.starts_with("directory") => Standing::Directory,
            Some(_) => Standing::Other,
        })
    }

    fn ask(&self, request: &str) -> Result<String, BuildError> {
        let mut debugfs = command(self.tools, "debugfs")?;
        let output = debugfs.args(["-R", request]).arg(self.path).output();
        Ok(String::from_utf8_lossy(&output.during("read", self.path)?.stdout).into_owned())
    }

    fn change(&self, script: &str, work: &Path) -> Result<(), BuildError> {
        self.run(script, work, true).map(|_| ())
    }

    /// debugfs ends with status 0 whatever happened; complaints go to its standard error, after a
    /// line with its version.
    fn run(&self, script: &str, work: &Path, writable: bool) -> Result<(), BuildError> {
        let file = work.join("debugfs.script");
        fs::write(&file, script).during("write", &file)?;
        let mut debugfs = command(self.tools, "debugfs")?;
        if writable {
            debugfs.arg("-w");
        }
        let output = debugfs.arg("-f").arg(&file).arg(self.path).output();
        let output = output.during("change", self.path)?;
        let complaints: Vec<String> = String::from_utf8_lossy(&output.stderr)
            .lines()
            .filter(|line| !line.starts_with("debugfs 1."))
            .map(str::to_owned)
            .collect();
        if complaints.is_empty() { Ok(()) } else { Err(self.wrong(&complaints.join("; "))) }
    }

    fn wrong(&self, reason: &str) -> BuildError {
        BuildError::Filesystem { disk: self.path.to_owned(), reason: reason.to_owned() }
    }
}

/// The debugfs commands that lay `overlay` over a file system in which `standing` says what is
/// there. Only what is there is removed and only what is missing is made, since debugfs does not
/// tell an expected failure from another.
fn overlay_script(
    overlay: &Overlay,
    staged: &Path,
    standing: impl Fn(&str) -> Result<Standing, BuildError>,
) -> Result<String, BuildError> {
    let mut script = String::new();
    let mut made: Vec<String> = Vec::new();
    for (index, entry) in overlay.entries.iter().enumerate() {
        for (slash, _) in entry.path.match_indices('/').skip(1) {
            let parent = entry.path.get(..slash).unwrap_or_default();
            if made.iter().any(|dir| dir == parent) || overlay_has_directory(overlay, parent) {
                continue;
            }
            if standing(parent)? == Standing::Nothing {
                script += &make_directory(parent, 0o755, 0, 0, true);
            }
            made.push(parent.to_owned());
        }
        let is_made = made.contains(&entry.path);
        let there = if is_made { Standing::Directory } else { standing(&entry.path)? };
        let conflict = match (&entry.kind, there) {
            (Kind::Directory, Standing::Other) => Some("there is a file of that name"),
            (Kind::File(_) | Kind::Symlink(_), Standing::Directory) => {
                Some("there is a directory of that name")
            }
            _ => None,
        };
        if let Some(reason) = conflict {
            let (path, reason) = (entry.path.clone(), reason.to_owned());
            return Err(BuildError::GuestFile { path, reason });
        }
        if there == Standing::Other {
            let (dir, name) = split(&entry.path);
            script += &format!("cd \"{dir}\"\nrm \"{name}\"\n");
        }
        script += &place(entry, &staged.join(index.to_string()), there == Standing::Nothing);
        if matches!(entry.kind, Kind::Directory) {
            made.push(entry.path.clone());
        }
    }
    Ok(script)
}

fn overlay_has_directory(overlay: &Overlay, path: &str) -> bool {
    overlay.entries.iter().any(|entry| entry.path == path && matches!(entry.kind, Kind::Directory))
}

fn place(entry: &Entry, staged: &Path, missing: bool) -> String {
    let Entry { path, mode, uid, gid, kind } = entry;
    let (dir, name) = split(path);
    match kind {
        Kind::Directory => make_directory(path, *mode, *uid, *gid, missing),
        Kind::File(_) => {
            format!("cd \"{dir}\"\nwrite \"{}\" \"{name}\"\n", staged.display())
                + &attributes(path, 0o100_000 | mode, *uid, *gid)
        }
        Kind::Symlink(target) => {
            format!("cd \"{dir}\"\nsymlink \"{name}\" \"{target}\"\n")
                + &attributes(path, 0o120_777, *uid, *gid)
        }
    }
}

/// The directory to go to and the name to work on there: `write` takes a path for a name, slashes
/// and all, and nothing follows a link at the end of a path, such as /bin, but for the dot.
fn split(path: &str) -> (String, &str) {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    (format!("{dir}/."), name)
}

fn make_directory(path: &str, mode: u32, uid: u32, gid: u32, missing: bool) -> String {
    let (dir, name) = split(path);
    let make = if missing { format!("cd \"{dir}\"\nmkdir \"{name}\"\n") } else { String::new() };
    make + &attributes(path, 0o040_000 | mode, uid, gid)
}

fn attributes(path: &str, mode: u32, uid: u32, gid: u32) -> String {
    let mut lines = format!("sif \"{path}\" mode 0{mode:o}\n");
    for (field, value) in [("uid", uid), ("gid", gid)] {
        lines += &format!("sif \"{path}\" {field} {value}\n");
    }
    for field in ["atime", "ctime", "mtime", "crtime"] {
        lines += &format!("sif \"{path}\" {field} @{EPOCH}\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, GuestFile};

    fn file(path: &str, content: Content) -> GuestFile {
        GuestFile { path: path.to_owned(), mode: 0o644, uid: 0, gid: 7, content }
    }

    fn script(files: &[GuestFile], there: &[(&str, Standing)]) -> Result<String, BuildError> {
        let overlay = Overlay::load(files).unwrap();
        overlay_script(&overlay, Path::new("/stage"), |path| {
            Ok(there.iter().find(|(p, _)| *p == path).map_or(Standing::Nothing, |(_, s)| *s))
        })
    }

    fn commands(script: &str) -> Vec<&str> {
        script.lines().filter(|line| !line.starts_with("sif")).collect()
    }

    #[test]
    fn missing_directories_are_made_and_files_replaced() {
        let files = [
            file("/etc/new dir/a", Content::Bytes(b"1".to_vec())),
            file("/etc/old", Content::Bytes(b"2".to_vec())),
        ];
        let there = [("/etc", Standing::Directory), ("/etc/old", Standing::Other)];
        let script = script(&files, &there).unwrap();
        assert_eq!(
            commands(&script),
            [
                "cd \"/etc/.\"",
                "mkdir \"new dir\"",
                "cd \"/etc/new dir/.\"",
                "write \"/stage/0\" \"a\"",
                "cd \"/etc/.\"",
                "rm \"old\"",
                "cd \"/etc/.\"",
                "write \"/stage/1\" \"old\"",
            ]
        );
        assert!(script.contains("sif \"/etc/old\" mode 0100644\nsif \"/etc/old\" uid 0\n"));
        assert!(script.contains("sif \"/etc/old\" gid 7\n"));
    }

    #[test]
    fn a_directory_that_is_there_only_gets_its_attributes() {
        let there = [("/var", Standing::Directory)];
        let script = script(&[file("/var", Content::Directory)], &there).unwrap();
        assert!(commands(&script).is_empty());
        assert!(script.starts_with("sif \"/var\" mode 040644\n"));
    }

    #[test]
    fn a_file_does_not_replace_a_directory() {
        let there = [("/etc", Standing::Directory)];
        let error = script(&[file("/etc", Content::Bytes(Vec::new()))], &there).unwrap_err();
        assert!(error.to_string().contains("directory of that name"), "{error}");
    }

    #[test]
    fn used_inodes_are_those_that_are_not_free() {
        let dump = "Inode count:              24\nFree inodes:              9\n\
                    Group 0: (Blocks 0-32767)\n  Free inodes: 13-15, 17\n\
                    Group 1: (Blocks 32768-65535)\n  Free inodes: 20-24\n";
        assert_eq!(used_inodes(dump).collect::<Vec<_>>(), [11, 12, 16, 18, 19]);
    }

    #[test]
    fn uuids_are_of_version_4() {
        let uuid = uuid(Some(&[0xff; 16]));
        assert_eq!(uuid, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn there_is_room_for_the_guest_files() {
        let size = Size::of(1000, 100);
        assert!(size.bytes > 1000 * BLOCK + 384 * MIB);
        assert_eq!(size.bytes % (64 * MIB), 0);
        assert!(size.inodes > 8000);
    }
}
