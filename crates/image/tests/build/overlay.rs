//! Guest files over the distribution's, without installing anything again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use archibald_image::{Content, GuestFile, Stage, guest_tree};

use crate::workshop::{Told, Workshop, initrd, request};

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
    let image = workshop.build(&request, &told).unwrap();
    assert!(!told.stages.lock().unwrap().contains(&Stage::Packages));

    let disk = image.disk();
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
