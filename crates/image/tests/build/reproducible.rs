//! The same packages give the same bytes, found by a recipe or held to by a lock, in any cache; and
//! the lock refuses others.

use archibald_image::{BuildError, Cancel, Content, GuestFile, Lock, Quiet, Stage};

use crate::workshop::{Told, Workshop, disk_sum, request, tools};

#[test]
fn two_builds_from_one_lock_have_the_same_checksum() {
    let first = Workshop::with_base();
    let image = first.build(&request(Vec::new()), &Told::default()).unwrap();
    let lock_file = first.path().join("archibald.lock");
    Lock::from_manifest(image.manifest()).write(&lock_file).unwrap();

    let second = Workshop::with_downloads();
    let mut locked = request(Vec::new());
    locked.lock = Some(Lock::read(&lock_file).unwrap());
    locked.locked = true;
    let told = Told::default();
    let again = second.build(&locked, &told).unwrap();

    assert!(told.stages.lock().unwrap().contains(&Stage::Packages), "it was really built");
    assert_eq!(disk_sum(&again), disk_sum(&image));
    assert_eq!(again.id(), image.id());
    assert_eq!(again.manifest().packages, image.manifest().packages);
    second.assert_nothing_left();

    let busybox = again.manifest().packages.iter().find(|p| p.name == "busybox-static").unwrap();
    assert_eq!(busybox.architecture, "amd64");
    assert_eq!(busybox.sha256.len(), 64);

    // The unlocked recipe's base is the very one that the lock names: nothing is built.
    let told = Told::default();
    first.build(&locked, &told).unwrap();
    assert!(told.stages.lock().unwrap().is_empty());
}

#[test]
fn nothing_in_the_image_belongs_to_a_machine_or_a_person() {
    let workshop = Workshop::with_base();
    let image = workshop.build(&request(Vec::new()), &Told::default()).unwrap();
    let found = image.impurities(&tools(), &workshop.path().join("scratch")).unwrap();
    assert_eq!(found, []);
}

#[test]
fn a_lock_that_the_mirror_cannot_meet_is_refused_by_name_before_installing() {
    let shared = Workshop::with_base();
    let image = shared.build(&request(Vec::new()), &Told::default()).unwrap();
    let lock_file = shared.path().join("archibald.lock");
    Lock::from_manifest(image.manifest()).write(&lock_file).unwrap();
    let text = std::fs::read_to_string(&lock_file).unwrap();
    let changed: String = text
        .lines()
        .map(|line| match line.strip_prefix("busybox-static ") {
            Some(rest) => {
                let rest = rest.split_once(' ').unwrap().1;
                format!("busybox-static 0.1-1 {rest}\n")
            }
            None => format!("{line}\n"),
        })
        .collect();
    std::fs::write(&lock_file, changed).unwrap();

    let workshop = Workshop::with_downloads();
    let mut locked = request(Vec::new());
    locked.lock = Some(Lock::read(&lock_file).unwrap());
    locked.locked = true;
    let error = workshop.build(&locked, &Told::default()).unwrap_err();
    let BuildError::Drift { packages } = &error else { panic!("{error}") };
    assert_eq!(packages.len(), 1);
    assert!(error.to_string().contains("busybox-static: expected 0.1-1, found 1:1."), "{error}");
    workshop.assert_nothing_left();
    assert!(workshop.cache.list().unwrap().is_empty());
    let log = std::fs::read_to_string(workshop.path().join("log/packages.log")).unwrap();
    assert!(!log.contains("Setting up"), "it was refused early");
}

#[test]
fn a_listed_image_opens_by_the_beginning_of_its_name() {
    let workshop = Workshop::with_base();
    let image = workshop.build(&request(Vec::new()), &Told::default()).unwrap();
    let listed = workshop.cache.list().unwrap();
    assert_eq!(listed, std::slice::from_ref(&image));
    let opened = workshop.cache.inspect(&image.id()[..6], &Quiet, &Cancel::new()).unwrap();
    assert_eq!(opened, image);

    let in_use = [image.id().to_owned()].into();
    assert!(workshop.cache.remove(image.id(), &in_use).is_err());
    // Not of any machine's, but held by the values here.
    assert!(workshop.cache.remove(image.id(), &Default::default()).is_err());
    assert!(image.disk().exists());
    let id = image.id().to_owned();
    drop((image, opened));
    let freed = workshop.cache.remove(&id, &Default::default()).unwrap();
    assert!(freed > 100 << 20, "{freed}");
    assert!(workshop.cache.list().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(workshop.path().join("base")).unwrap().count(), 0);
}

#[test]
fn pruning_keeps_the_newest_and_what_is_used() {
    let workshop = Workshop::with_base();
    let build = |name: &str| {
        let content = Content::Bytes(Vec::new());
        let file = GuestFile { path: format!("/etc/{name}"), mode: 0o644, uid: 0, gid: 0, content };
        // Images are as old as their second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        workshop.build(&request(vec![file]), &Told::default()).unwrap().id().to_owned()
    };
    let (used, idle, newest) = (build("a"), build("b"), build("c"));
    workshop.cache.prune(1, &[used.clone()].into()).unwrap();
    let left: Vec<String> =
        workshop.cache.list().unwrap().iter().map(|image| image.id().to_owned()).collect();
    assert_eq!(left, [newest, used]);
    assert!(!left.contains(&idle));
}
