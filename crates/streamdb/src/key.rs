//! Keys: what names a value, and what a name may be.
//!
//! A key never becomes a file name, so `..`, a leading slash or a control character has no special
//! meaning here. How keys are stored and searched is the business of [`crate::store`].

use std::fmt;
use std::str::FromStr;

/// The name of a value: a UTF-8 path of 1 to [`Key::MAX_BYTES`] bytes without NUL.
///
/// Slashes only mean something to the people who read listings by prefix.
///
/// ```
/// use streamdb::Key;
/// let key: Key = "takes/2024/one.wav".parse()?;
/// assert_eq!(key.as_str(), "takes/2024/one.wav");
/// assert!("".parse::<Key>().is_err());
/// # Ok::<(), streamdb::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Why a name cannot be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The name has no bytes.
    #[error("the key is empty; name the value, for example takes/one.wav")]
    Empty,
    /// The name has more than [`Key::MAX_BYTES`] bytes.
    #[error("the key has {bytes} bytes; at most {} are kept, so shorten it", Key::MAX_BYTES)]
    TooLong {
        /// Length of the name in bytes.
        bytes: usize,
    },
    /// The name holds a NUL character, which neither C programs nor file managers can carry.
    #[error("the key holds a NUL character at byte {at}; leave it out")]
    Nul {
        /// Offset of the NUL in bytes.
        at: usize,
    },
    /// The bytes given as a name are not UTF-8.
    #[error("the key is not UTF-8; encode it as UTF-8, percent-encoded in an address")]
    NotUtf8,
}

impl Key {
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Takes a name as a key.
    ///
    /// # Errors
    /// [`KeyError`] tells which rule the name breaks.
    pub fn new(name: impl Into<String>) -> Result<Self, KeyError> {
        let name = name.into();
        if name.is_empty() {
            return Err(KeyError::Empty);
        }
        if name.len() > Self::MAX_BYTES {
            return Err(KeyError::TooLong { bytes: name.len() });
        }
        match name.find('\0') {
            Some(at) => Err(KeyError::Nul { at }),
            None => Ok(Self(name)),
        }
    }

    /// Takes bytes as a key.
    ///
    /// # Errors
    /// [`KeyError`] tells which rule the name breaks.
    pub fn from_bytes(name: &[u8]) -> Result<Self, KeyError> {
        std::str::from_utf8(name).map_err(|_| KeyError::NotUtf8).and_then(Self::new)
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key as bytes, in the order in which listings by prefix sort.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The bytes back to front: with keys stored so, a search by suffix is a scan by prefix.
pub(crate) fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, KeyError> {
        Self::new(name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_where_the_documentation_says() {
        assert!(Key::new("k".repeat(1024)).is_ok());
        assert_eq!(Key::new("k".repeat(1025)), Err(KeyError::TooLong { bytes: 1025 }));
        assert_eq!(Key::new(""), Err(KeyError::Empty));
        assert_eq!(Key::new("a\0b"), Err(KeyError::Nul { at: 1 }));
        assert_eq!(Key::from_bytes(&[0xff]), Err(KeyError::NotUtf8));
    }

    #[test]
    fn dots_and_slashes_are_ordinary() {
        for name in ["..", "../../etc/passwd", "/", "//a//", "a\nb", "\u{7f}"] {
            assert_eq!(Key::new(name).unwrap().as_str(), name);
        }
    }
}
