//! Refusals as HTTP: a status, and JSON that says what was refused and what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};

use crate::{AppendError, BatchError, KeyError, ReadError, WriteError};

/// When to look again whether there is room, in seconds: what has expired is swept each minute.
pub(super) const SWEPT: HeaderValue = HeaderValue::from_static("60");

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    remedy: String,
    fault: bool,
    extra: Option<Box<(header::HeaderName, HeaderValue)>>,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        error: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let fault = status.is_server_error();
        Self { status, error: error.into(), remedy: remedy.into(), fault, extra: None }
    }

    pub(super) fn bad(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, remedy)
    }

    pub(super) fn not_found(key: &crate::Key) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("there is no value under {key:?}"),
            "list what there is with GET /v1/objects?prefix=",
        )
    }

    pub(super) fn with(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.extra = Some(Box::new((name, value)));
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether it is this side's fault, which its operator should know of.
    pub(super) fn is_fault(&self) -> bool {
        self.fault
    }

    pub(super) fn error(&self) -> &str {
        &self.error
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.error, "remedy": self.remedy });
        let mut response = (self.status, Json(body)).into_response();
        if let Some((name, value)) = self.extra.map(|extra| *extra) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        Self::bad(
            error.to_string(),
            "a key is 1 to 1024 bytes of UTF-8 without NUL, percent-encoded in the address",
        )
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        let status = match &error {
            ReadError::Gone { .. } => StatusCode::GONE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string(), error.remedy())
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        let quota = matches!(error, WriteError::Quota { .. });
        let status = match &error {
            WriteError::Condition { .. } => StatusCode::PRECONDITION_FAILED,
            WriteError::TooLarge { .. } | WriteError::UserTooLarge { .. } => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            WriteError::ContentType { .. } | WriteError::User { .. } => StatusCode::BAD_REQUEST,
            WriteError::Missing { .. } => StatusCode::NOT_FOUND,
            WriteError::StillOpen { .. } => StatusCode::CONFLICT,
            WriteError::Full { .. } | WriteError::Quota { .. } => StatusCode::INSUFFICIENT_STORAGE,
            WriteError::DamagedIndex { .. } | WriteError::Io { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let mut refusal = Self::new(status, error.to_string(), error.remedy());
        if status == StatusCode::INSUFFICIENT_STORAGE {
            refusal = refusal.with(header::RETRY_AFTER, SWEPT);
        }
        // A quota is there to be met.
        refusal.fault &= !quota;
        refusal
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        let (text, remedy) = (error.to_string(), error.remedy());
        match error {
            AppendError::Missing { .. } => Self::new(StatusCode::NOT_FOUND, text, remedy),
            AppendError::Sealed { .. } => Self::new(StatusCode::CONFLICT, text, remedy),
            AppendError::Offset { size, .. } => {
                Self::new(StatusCode::CONFLICT, text, remedy).with(super::stream::SIZE, size.into())
            }
            AppendError::Damaged { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, text, remedy)
            }
            AppendError::Write(error) => error.into(),
        }
    }
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Self {
        let (text, remedy) = (error.to_string(), error.remedy());
        match error {
            BatchError::TooMany { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, text, remedy),
            BatchError::Step { error, .. } => Self { error: text, ..Self::from(error) },
            BatchError::Write(error) => error.into(),
        }
    }
}
