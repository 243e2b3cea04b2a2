//! Conditions: what must hold of the value that is there for an operation to take place.
//!
//! They are decided inside the transaction that acts on them, in [`super::change`].

use crate::{Checksum, Key, Meta, WriteError};

/// The values that a condition names, by their checksums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// Any value at all.
    Any,
    /// Values with one of these checksums.
    Of(Vec<Checksum>),
}

/// What must hold of the value that is there for an operation to take place. The default asks for
/// nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The value must be there and be one of these.
    pub matches: Option<Tags>,
    /// The value must not be there, or be none of these.
    pub differs: Option<Tags>,
}

impl Conditions {
    /// Only if there is no value yet.
    #[must_use]
    pub fn absent() -> Self {
        Self { matches: None, differs: Some(Tags::Any) }
    }

    /// Only if the value is still the one with this checksum.
    #[must_use]
    pub fn unchanged(checksum: Checksum) -> Self {
        Self { matches: Some(Tags::Of(vec![checksum])), differs: None }
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.matches.is_none() && self.differs.is_none()
    }

    /// Checks the conditions against the value that is there.
    ///
    /// # Errors
    /// [`WriteError::Condition`] says what was found instead.
    pub fn check(&self, key: &Key, there: Option<&Meta>) -> Result<(), WriteError> {
        let holds = self.matches.as_ref().is_none_or(|tags| tags.name(there))
            && self.differs.as_ref().is_none_or(|tags| !tags.name(there));
        if holds {
            return Ok(());
        }
        Err(WriteError::Condition {
            key: key.clone(),
            found: there.map_or_else(
                || "there is no value".to_owned(),
                |meta| format!("the value is now \"{}\"", meta.checksum),
            ),
        })
    }
}

impl Tags {
    pub(crate) fn name(&self, there: Option<&Meta>) -> bool {
        match (self, there) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Of(tags), Some(meta)) => tags.contains(&meta.checksum),
        }
    }
}
