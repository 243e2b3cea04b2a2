//! Small values that come at one time are committed in one transaction: what the disk takes its time
//! for is the commit, and it takes hardly longer over thirty values than over one.
//!
//! Who comes while a commit is under way shares the next one. Who comes alone waits for nobody; but
//! clients that were answered together most often come again together, and a commit that did not wait
//! for the last of them would leave it to a commit of its own. So after a commit of several the next
//! one waits for as many, for a part of the time that a commit takes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::sync::oneshot;

use super::reply::Refusal;
use crate::store::{Small, commit_together};
use crate::{Stored, WriteError};

/// The most values of one commit: that of a batch would keep the first of them waiting.
const MOST: usize = 64;

/// The longest wait for company, whatever the last commit took.
const PATIENCE: Duration = Duration::from_millis(1);

#[derive(Clone, Default)]
pub(super) struct Together {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    came: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a thread takes care of them.
    at_work: bool,
}

struct Waiting {
    small: Small,
    answer: oneshot::Sender<Result<Stored, WriteError>>,
}

impl Together {
    /// Commits the value, alone or with others. It is on the disk when this returns.
    pub(super) async fn commit(&self, small: Small) -> Result<Stored, Refusal> {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.shared.lock();
            queue.waiting.push(Waiting { small, answer });
            if queue.at_work {
                self.shared.came.notify_one();
            } else {
                queue.at_work = true;
                let shared = Arc::clone(&self.shared);
                // On a thread of its own: others rely on it even if this client goes away.
                tokio::task::spawn_blocking(move || shared.work());
            }
        }
        match answered.await {
            Ok(done) => Ok(done?),
            // The engine panics where it meets pages that contradict each other.
            Err(_) => Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the store met something it cannot read and gave this request up",
                "stop the server and run `streamdb check`",
            )),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits what waits, until for a moment nothing has come.
    fn work(&self) {
        let (mut company, mut patience) = (1, Duration::ZERO);
        while let Some(waiting) = self.take(company, patience) {
            company = waiting.len();
            let (smalls, answers): (Vec<_>, Vec<_>) =
                waiting.into_iter().map(|one| (one.small, one.answer)).unzip();
            let begun = Instant::now();
            let done = catch_unwind(AssertUnwindSafe(|| commit_together(smalls)));
            patience = (begun.elapsed() / 2).min(PATIENCE);
            for (answer, done) in answers.into_iter().zip(done.unwrap_or_default()) {
                // A client that has gone away needs no answer.
                let _ = answer.send(done);
            }
        }
    }

    fn take(&self, company: usize, patience: Duration) -> Option<Vec<Waiting>> {
        let few = |queue: &mut Queue| queue.waiting.len() < company;
        let waited = self.came.wait_timeout_while(self.lock(), patience, few);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let count = queue.waiting.len().min(MOST);
        queue.at_work = count > 0;
        queue.at_work.then(|| queue.waiting.drain(..count).collect())
    }
}
