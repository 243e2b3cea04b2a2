//! Two builds in one cache: one wins, the other says who or waits and takes what was built.

use archibald_image::{BuildError, Contention};

use crate::builder::Building;
use crate::workshop::{Told, Workshop, request};

#[test]
fn the_second_names_the_first_or_waits_for_it() {
    let workshop = Workshop::with_base();
    let tree = workshop.path().join("tree/etc");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("archibald"), "both want this\n").unwrap();
    let tree = tree.parent();

    let mut first = Building::start(workshop.path(), tree, None);
    first.wait_for("stage adding guest files", 1);
    let told = Told::default();
    let refused = workshop.cache.build(&request(Vec::new()), Contention::Fail, &told, &told.cancel);
    let Err(BuildError::Busy { pid, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(pid, Some(first.child.id()));

    let second = Building::start(workshop.path(), tree, None).finish();
    let first = first.finish();
    assert_eq!(first.last(), second.last(), "the same image");
    assert!(second.iter().any(|line| line == "stage waiting for another build"), "{second:?}");
    assert!(!second.iter().any(|line| line == "stage adding guest files"), "{second:?}");
    workshop.assert_nothing_left();
}
