//! A builder that is killed at any moment leaves no process, no mount and no half image, and the
//! next build is right.

use std::thread;
use std::time::Duration;

use crate::builder::Building;
use crate::workshop::{Told, Workshop, assert_no_process, disk_sum, initrd, request};

#[test]
fn killed_at_every_stage_the_next_build_is_right() {
    let workshop = Workshop::with_downloads();
    // In this order each build gets as far as its own stage by doing the ones before again, until
    // the base is sealed; from then on it is taken from the cache.
    for (stage, nth, delay) in [
        ("stage installing packages", 1, 1000),
        ("stage installing packages", 1, 9000),
        ("stage writing the file system", 1, 200),
        ("stage sealing", 1, 300),
        ("stage adding guest files", 1, 50),
        ("stage extracting kernel and initrd", 1, 5),
        ("stage sealing", 1, 1),
    ] {
        let mut building = Building::start(workshop.path(), None, Some(workshop.path()));
        building.wait_for(stage, nth);
        thread::sleep(Duration::from_millis(delay));
        building.child.kill().unwrap();
        building.child.wait().unwrap();
        assert_no_process(&workshop.path().join("partial"));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(workshop.path().to_str().unwrap()), "after {stage}: {mounts}");
    }

    Building::start(workshop.path(), None, Some(workshop.path())).finish();
    workshop.assert_nothing_left();
    let mut same = request(Vec::new());
    same.initrd = Some(initrd(workshop.path()));
    let image = workshop.build(&same, &Told::default()).unwrap();
    let elsewhere = Workshop::with_base().build(&same, &Told::default()).unwrap();
    assert_eq!(disk_sum(&image), disk_sum(&elsewhere));
}
