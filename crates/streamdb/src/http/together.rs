//! Small values that come at one time are committed in one transaction: what the disk takes its time
//! for is the commit, and it takes no longer over thirty values than over one.
//!
//! Nobody waits for company. Who comes while a commit is under way shares the next one.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use tokio::sync::oneshot;

use super::reply::Refusal;
use crate::store::{Small, commit_together};
use crate::{Stored, WriteError};

/// The most values of one commit: that of a batch would keep the first of them waiting.
const MOST: usize = 64;

#[derive(Clone, Default)]
pub(super) struct Together {
    waiting: Arc<Mutex<Vec<Waiting>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Waiting {
    small: Small,
    answer: oneshot::Sender<Result<Stored, WriteError>>,
}

impl Together {
    /// Commits the value, alone or with others. It is on the disk when this returns.
    pub(super) async fn commit(&self, small: Small) -> Result<Stored, Refusal> {
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(Waiting { small, answer });
            waiting.len() == 1
        };
        if is_first {
            // A task of its own: others rely on it even if this client goes away.
            let together = self.clone();
            tokio::spawn(async move { together.commit_waiting().await });
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

    async fn commit_waiting(&self) {
        let _turn = self.turn.lock().await;
        loop {
            let (smalls, answers): (Vec<_>, Vec<_>) = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let count = waiting.len().min(MOST);
                let taken = waiting.drain(..count).map(|one| (one.small, one.answer));
                taken.unzip()
            };
            if answers.is_empty() {
                return;
            }
            let done = tokio::task::spawn_blocking(move || commit_together(smalls)).await;
            for (answer, done) in answers.into_iter().zip(done.unwrap_or_default()) {
                // A client that has gone away needs no answer.
                let _ = answer.send(done);
            }
        }
    }
}
