//! Calling a build off ends its children at once and leaves nothing.

use std::thread;
use std::time::{Duration, Instant};

use archibald_image::BuildError;

use crate::workshop::{Told, Workshop, request};

#[test]
fn calling_off_ends_the_children_and_removes_their_work() {
    let workshop = Workshop::with_downloads();
    let told = Told::default();
    let cancel = told.cancel.clone();
    let waiter = thread::spawn(move || {
        thread::sleep(Duration::from_secs(5));
        cancel.cancel();
        Instant::now()
    });
    let error = workshop.build(&request(Vec::new()), &told).unwrap_err();
    let took = waiter.join().unwrap().elapsed();
    assert!(matches!(error, BuildError::Cancelled), "{error}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    workshop.assert_nothing_left();
    assert!(workshop.cache.list().unwrap().is_empty());
}
