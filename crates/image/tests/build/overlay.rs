//! Guest files over the distribution's, without installing anything again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use archibald_image::{Content, GuestFile, Stage, guest_tree};

use crate::workshop::{Told, Workshop, initrd, raw, request};

fn debugfs(disk: &Path, request: &str) -> String {
    let output = Command::new("debugfs").args(["-R", request]).arg(disk).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn files_replace_and_join_those_of_the_distribution() {
    let workshop = Workshop::with_base();
    let tree = workshop.path().join("tree");
    fs::create_dir_all(tree.join("etc/archibald deep/er")).unwrap();
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::write(tree.join("etc/issue"), "replaced\n").unwrap();
    fs::write(tree.join("etc/archibald deep/er/file"), "new\n").unwrap();
    // /bin is a link to /usr/bin in the image.
    fs::write(tree.join("bin/hello"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.join("bin/hello"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("/run/somewhere", tree.join("etc/link")).unwrap();
    let mut guest = guest_tree(&tree).unwrap();
    let directory = Content::Directory;
    guest.push(GuestFile {
        path: "/srv/kept".into(),
        mode: 0o2770,
        uid: 7,
        gid: 8,
        content: directory,
    });

    let mut request = request(guest);
    request.initrd = Some(initrd(workshop.path()));
    let told = Told::default();
    let id = workshop.cache.id_of(&request).unwrap();
    let image = workshop.build(&request, &told).unwrap();
    assert_eq!(id.as_deref(), Some(image.id()), "known before it is built");
    assert!(!told.stages.lock().unwrap().contains(&Stage::Packages));

    let disk = raw(&image, workshop.path());
    assert_eq!(debugfs(&disk, "cat /etc/issue"), "replaced\n");
    assert_eq!(debugfs(&disk, "cat \"/etc/archibald deep/er/file\""), "new\n");
    let hello = debugfs(&disk, "stat /usr/bin/hello");
    assert!(hello.contains("Type: regular    Mode:  0755"), "{hello}");
    assert!(debugfs(&disk, "stat /etc/link").contains("Fast link dest: \"/run/somewhere\""));
    let kept = debugfs(&disk, "stat /srv/kept");
    assert!(kept.contains("Type: directory    Mode:  02770"), "{kept}");
    assert!(kept.contains("User:     7   Group:     8"), "{kept}");
    assert!(fs::read(image.initrd().unwrap()).unwrap().starts_with(b"070701"));

    let again = Told::default();
    assert_eq!(workshop.build(&request, &again).unwrap(), image);
    assert!(again.stages.lock().unwrap().is_empty(), "it was in the cache");
}

/// Every file under `from` of a file system, by path.
fn files(disk: &Path, from: &str, to: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fs::create_dir_all(to).unwrap();
    debugfs(disk, &format!("rdump {from} {}", to.display()));
    let mut found = BTreeMap::new();
    let mut directories = vec![to.to_owned()];
    while let Some(dir) = directories.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_file() {
                let content = fs::read(&path).unwrap();
                found.insert(path.strip_prefix(to).unwrap().to_owned(), content);
            }
        }
    }
    found
}

/// The disk is a layer made without the files' content at hand. It must be what writing to the
/// whole file system would have given: new content whole, zeros and all, and the rest untouched.
#[test]
fn the_layer_changes_the_guest_files_and_nothing_else() {
    let workshop = Workshop::with_base();
    let pieces = |kinds: &[bool]| -> Vec<u8> {
        let mut noise = 1_u32;
        let mut byte = |random: bool| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if random { (noise >> 24) as u8 } else { 0 }
        };
        (0..kinds.len() * 4096).map(|at| byte(kinds[at / 4096])).collect()
    };
    let large = pieces(&[true; 1500]);
    let holes = pieces(&[true, false, true, false, false, true, false]);
    let zeros = vec![0; 50_000];
    let new = [
        ("/etc/large", large),
        ("/etc/holes", holes),
        ("/etc/zeros", zeros),
        ("/etc/passwd", b"replaced\n".to_vec()),
        ("/etc/empty", Vec::new()),
    ];
    let guest = new.iter().map(|(path, content)| GuestFile {
        path: (*path).to_owned(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        content: Content::Bytes(content.clone()),
    });
    let image = workshop.build(&request(guest.collect()), &Told::default()).unwrap();
    let disk = raw(&image, workshop.path());
    let checked = Command::new("e2fsck").arg("-fn").arg(&disk).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));

    let base = workshop.path().join("base").join(&image.manifest().base).join("disk.raw");
    let mut expected = files(&base, "/", &workshop.path().join("before"));
    let found = files(&disk, "/", &workshop.path().join("after"));
    assert!(expected.len() > 500, "{} files", expected.len());
    for (path, content) in new {
        expected.insert(path.trim_start_matches('/').into(), content);
    }
    let differ: Vec<_> =
        expected.keys().chain(found.keys()).filter(|p| expected.get(*p) != found.get(*p)).collect();
    assert!(differ.is_empty(), "{differ:?}");
}
