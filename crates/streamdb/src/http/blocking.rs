//! The way from async to the disk: the store blocks, so its operations run on threads that may.

use axum::http::StatusCode;

use super::reply::Refusal;

/// Runs an operation of the store where it may block.
pub(super) async fn blocking<T, E>(
    operation: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Refusal>
where
    T: Send + 'static,
    E: Send + 'static,
    Refusal: From<E>,
{
    match tokio::task::spawn_blocking(operation).await {
        Ok(done) => Ok(done?),
        // The engine panics where it meets pages that contradict each other.
        Err(_) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the store met something it cannot read and gave this request up",
            "stop the server and run `streamdb check`",
        )),
    }
}
