//! A cut or flipped file is noticed by its checksum, told, and built again.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use archibald_image::{BuildError, Cancel, Content, GuestFile, OpenError, Quiet, Stage};

use crate::workshop::{Told, Workshop, disk_sum, request};

fn damage(path: &Path, change: impl Fn(&fs::File)) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    change(&OpenOptions::new().write(true).open(path).unwrap());
}

fn flip(file: &fs::File) {
    let middle = file.metadata().unwrap().len() / 2;
    file.write_all_at(b"!", middle).unwrap();
}

fn cut(file: &fs::File) {
    let length = file.metadata().unwrap().len();
    file.set_len(length / 2).unwrap();
}

#[test]
fn a_damaged_disk_is_built_again() {
    let workshop = Workshop::with_base();
    let whole = workshop.build(&request(Vec::new()), &Told::default()).unwrap();
    for change in [flip, cut] {
        damage(&whole.disk(), change);
        let opened = workshop.cache.inspect(whole.id(), &Quiet, &Cancel::new());
        assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{opened:?}");

        let told = Told::default();
        let again = workshop.build(&request(Vec::new()), &told).unwrap();
        assert!(told.warnings.lock().unwrap()[0].contains("disk.qcow2 is damaged"));
        assert!(!told.stages.lock().unwrap().contains(&Stage::Packages), "from the base");
        assert_eq!(disk_sum(&again), disk_sum(&whole));
        workshop.cache.inspect(whole.id(), &Quiet, &Cancel::new()).unwrap();
    }
}

#[test]
fn a_damaged_base_does_not_become_an_image() {
    let workshop = Workshop::with_base();
    let base = fs::read_dir(workshop.path().join("base")).unwrap().next().unwrap().unwrap().path();
    damage(&base.join("disk.raw"), flip);
    let content = Content::Bytes(b"new".to_vec());
    let file = GuestFile { path: "/etc/new".into(), mode: 0o644, uid: 0, gid: 0, content };
    // That it starts over is what matters; the packages themselves are installed elsewhere.
    let told = Told { cancel_at: Some(Stage::Packages), ..Told::default() };
    let error = workshop.build(&request(vec![file]), &told).unwrap_err();
    assert!(matches!(error, BuildError::Cancelled), "{error}");
    let warnings = told.warnings.lock().unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("disk.raw is damaged"), "{warnings:?}");
    assert!(workshop.cache.list().unwrap().is_empty());
    workshop.assert_nothing_left();
}

#[test]
fn an_image_is_no_better_than_the_base_under_it() {
    let workshop = Workshop::with_base();
    let image = workshop.build(&request(Vec::new()), &Told::default()).unwrap();
    let base = workshop.path().join("base").join(&image.manifest().base);
    let opened = || workshop.cache.inspect(image.id(), &Quiet, &Cancel::new());
    opened().unwrap();
    let away = workshop.path().join("away");
    fs::rename(&base, &away).unwrap();
    assert!(opened().unwrap_err().to_string().contains("the base that it is a layer over is gone"));
    fs::rename(&away, &base).unwrap();
    damage(&base.join("disk.raw"), flip);
    let error = opened().unwrap_err().to_string();
    assert!(error.contains("base") && error.contains("disk.raw is damaged"), "{error}");
}
