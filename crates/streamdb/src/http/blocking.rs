//! The way from async to the disk: the store blocks, so its operations run on threads that may.

use std::panic::{AssertUnwindSafe, catch_unwind};

use axum::http::StatusCode;

use super::reply::Refusal;

/// Runs an operation of the store where it may block. It begins at once, whether or not it is waited
/// for.
pub(super) fn blocking<T, E>(
    operation: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> impl Future<Output = Result<T, Refusal>> + Send + 'static
where
    T: Send + 'static,
    E: Send + 'static,
    Refusal: From<E>,
{
    let task = tokio::task::spawn_blocking(operation);
    async move {
        match task.await {
            Ok(done) => Ok(done?),
            Err(_) => Err(given_up()),
        }
    }
}

/// Runs a look-up of one key here and now. It touches a few pages that are nearly always in memory,
/// and a hop to another thread and back costs several times what it does.
pub(super) fn look_up<T, E>(operation: impl FnOnce() -> Result<T, E>) -> Result<T, Refusal>
where
    Refusal: From<E>,
{
    match catch_unwind(AssertUnwindSafe(operation)) {
        Ok(done) => Ok(done?),
        Err(_) => Err(given_up()),
    }
}

/// The engine panics where it meets pages that contradict each other.
fn given_up() -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the store met something it cannot read and gave this request up",
        "stop the server and run `streamdb check`",
    )
}
