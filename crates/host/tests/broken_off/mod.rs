//! Work that is killed between two of its steps.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// kill -9 before the step of this number: nothing more is done, not even the undoing of a failed start.
/// Whether it came to that.
pub(crate) fn broken_off(steps: usize, work: impl FnOnce(&mut dyn FnMut(&str))) -> bool {
    let mut left = steps;
    let killed = catch_unwind(AssertUnwindSafe(|| {
        work(&mut |_| {
            if left == 0 {
                resume_unwind(Box::new("killed"));
            }
            left -= 1;
        });
    }));
    match killed {
        Ok(()) => false,
        Err(why) if why.downcast_ref() == Some(&"killed") => true,
        Err(panic) => resume_unwind(panic),
    }
}
