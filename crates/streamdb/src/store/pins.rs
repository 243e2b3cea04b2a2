//! Pins: content files that must stay although no value names them any more, while a backup that
//! began before copies them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::content::{ContentDir, ContentId};

/// Who keeps content files from going.
#[derive(Debug, Default)]
pub(super) struct Pins {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    holders: u64,
    waiting: Vec<ContentId>,
}

impl Pins {
    /// From now on nothing goes, until [`Pins::release`].
    pub(super) fn hold(&self) {
        self.lock().holders += 1;
    }

    /// Lets go; the last one to do so removes what has waited.
    pub(super) fn release(&self, content: &ContentDir) {
        let mut held = self.lock();
        held.holders = held.holders.saturating_sub(1);
        if held.holders == 0 {
            held.waiting.drain(..).for_each(|id| content.remove(id));
        }
    }

    /// Removes a file, now or when it is let go. A crash before leaves it to the sweep at opening.
    pub(super) fn remove(&self, content: &ContentDir, id: ContentId) {
        let mut held = self.lock();
        if held.holders == 0 {
            content.remove(id);
        } else {
            held.waiting.push(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
