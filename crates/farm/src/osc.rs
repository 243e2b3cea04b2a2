//! Open Sound Control 1.0, as far as a score has it: messages are read, bundles taken apart, and what is not
//! changed stays byte for byte as it was.

/// One argument. Those that nothing here looks into are kept as their bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// `i`
    Int(i32),
    /// `f`
    Float(f32),
    /// `s`
    Text(String),
    /// `b`
    Blob(Vec<u8>),
    /// Any other type, by its tag and bytes.
    Other(char, Vec<u8>),
}

/// A message: where it goes and what with.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Such as `/s_new`.
    pub address: String,
    /// In their order.
    pub args: Vec<Arg>,
}

/// Why bytes are no message or bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OscError {
    /// They end in the middle of something.
    #[error("it ends in the middle of a value")]
    Short,
    /// Not `/something`; the server's numbers for its commands are not read.
    #[error("it has no address that begins with a slash")]
    Address,
    /// No list of argument types.
    #[error("it has no list of its arguments' types")]
    Tags,
    /// A type that OSC 1.0 does not know.
    #[error("it has an argument of the unknown type '{0}'")]
    Type(char),
}

/// Reads from the front of a slice.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], OscError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(OscError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn word(&mut self) -> Result<[u8; 4], OscError> {
        self.take(4)?.try_into().map_err(|_| OscError::Short)
    }

    /// Text up to its zero, filled up to a multiple of four.
    fn text(&mut self) -> Result<String, OscError> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(OscError::Short)?;
        let padded = self.take(end / 4 * 4 + 4)?;
        Ok(String::from_utf8_lossy(padded.get(..end).unwrap_or_default()).into_owned())
    }

    fn blob(&mut self) -> Result<Vec<u8>, OscError> {
        let length =
            usize::try_from(i32::from_be_bytes(self.word()?)).map_err(|_| OscError::Short)?;
        let blob = self.take(length)?.to_vec();
        self.take(length.next_multiple_of(4) - length)?;
        Ok(blob)
    }
}

impl Message {
    /// A message of whole numbers and words.
    #[must_use]
    pub fn new(address: &str, args: Vec<Arg>) -> Self {
        Self { address: address.to_owned(), args }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`OscError`]
    pub fn read(bytes: &[u8]) -> Result<Self, OscError> {
        let mut cursor = Cursor(bytes);
        // The server also takes a number in place of an address, whose first byte is zero.
        if bytes.first() != Some(&b'/') {
            return Err(OscError::Address);
        }
        let address = cursor.text()?;
        if cursor.0.is_empty() {
            return Ok(Self { address, args: Vec::new() });
        }
        let tags = cursor.text()?;
        let tags = tags.strip_prefix(',').ok_or(OscError::Tags)?;
        let mut args = Vec::new();
        for tag in tags.chars() {
            args.push(match tag {
                'i' => Arg::Int(i32::from_be_bytes(cursor.word()?)),
                'f' => Arg::Float(f32::from_be_bytes(cursor.word()?)),
                's' => Arg::Text(cursor.text()?),
                'b' => Arg::Blob(cursor.blob()?),
                'c' | 'r' | 'm' => Arg::Other(tag, cursor.take(4)?.to_vec()),
                'h' | 't' | 'd' => Arg::Other(tag, cursor.take(8)?.to_vec()),
                'T' | 'F' | 'N' | 'I' | '[' | ']' => Arg::Other(tag, Vec::new()),
                tag => return Err(OscError::Type(tag)),
            });
        }
        Ok(Self { address, args })
    }

    /// The message's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = padded(self.address.as_bytes());
        let tag = |arg: &Arg| match arg {
            Arg::Int(_) => 'i',
            Arg::Float(_) => 'f',
            Arg::Text(_) => 's',
            Arg::Blob(_) => 'b',
            Arg::Other(tag, _) => *tag,
        };
        let tags: String = std::iter::once(',').chain(self.args.iter().map(tag)).collect();
        bytes.extend(padded(tags.as_bytes()));
        for arg in &self.args {
            match arg {
                Arg::Int(number) => bytes.extend(number.to_be_bytes()),
                Arg::Float(number) => bytes.extend(number.to_be_bytes()),
                Arg::Text(text) => bytes.extend(padded(text.as_bytes())),
                Arg::Blob(blob) => {
                    let length = u32::try_from(blob.len()).unwrap_or(u32::MAX);
                    bytes.extend(length.to_be_bytes());
                    bytes.extend(blob);
                    bytes.resize(bytes.len().next_multiple_of(4), 0);
                }
                Arg::Other(_, raw) => bytes.extend(raw),
            }
        }
        bytes
    }

    /// The whole number at this place.
    #[must_use]
    pub fn int(&self, index: usize) -> Option<i32> {
        match self.args.get(index)? {
            Arg::Int(number) => Some(*number),
            // The server takes floats for whole numbers wherever it wants one.
            #[allow(clippy::cast_possible_truncation)]
            Arg::Float(number) => Some(*number as i32),
            _ => None,
        }
    }

    /// The word at this place.
    #[must_use]
    pub fn text(&self, index: usize) -> Option<&str> {
        match self.args.get(index)? {
            Arg::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// With its ending zero, filled up to a multiple of four.
fn padded(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    bytes.resize(text.len() / 4 * 4 + 4, 0);
    bytes
}

/// A bundle's name, with which it begins.
pub const BUNDLE: &[u8; 8] = b"#bundle\0";

/// A bundle of these elements at this time, in 2^-32 seconds.
#[must_use]
pub fn bundle<'a>(time: u64, elements: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = BUNDLE.to_vec();
    bytes.extend(time.to_be_bytes());
    for element in elements {
        bytes.extend(u32::try_from(element.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(element);
    }
    bytes
}

/// A bundle's time and elements.
///
/// # Errors
/// [`OscError`]: it is no bundle, or ends in the middle of one.
pub fn unbundle(bytes: &[u8]) -> Result<(u64, Vec<&[u8]>), OscError> {
    let mut cursor = Cursor(bytes);
    if cursor.take(8)? != BUNDLE {
        return Err(OscError::Address);
    }
    let time = cursor.take(8)?.try_into().map_err(|_| OscError::Short)?;
    let mut elements = Vec::new();
    while !cursor.0.is_empty() {
        let length =
            usize::try_from(i32::from_be_bytes(cursor.word()?)).map_err(|_| OscError::Short)?;
        elements.push(cursor.take(length)?);
    }
    Ok((u64::from_be_bytes(time), elements))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arg() -> impl Strategy<Value = Arg> {
        prop_oneof![
            any::<i32>().prop_map(Arg::Int),
            (-1e9f32..1e9).prop_map(Arg::Float),
            "[a-zA-Z/_ 0-9]{0,9}".prop_map(Arg::Text),
            prop::collection::vec(any::<u8>(), 0..9).prop_map(Arg::Blob),
            any::<[u8; 8]>().prop_map(|raw| Arg::Other('d', raw.to_vec())),
            Just(Arg::Other('T', Vec::new())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(address in "/[a-z_]{1,9}", args in prop::collection::vec(arg(), 0..6)) {
            let message = Message { address, args };
            let bytes = message.bytes();
            prop_assert_eq!(bytes.len() % 4, 0);
            prop_assert_eq!(Message::read(&bytes).unwrap(), message);
        }

        #[test]
        fn no_bytes_are_read_wrongly(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Message::read(&bytes);
            let _ = unbundle(&bytes);
            let mut tagged = b"/n_set\0\0,ibs\0\0\0\0".to_vec();
            tagged.extend(&bytes);
            let _ = Message::read(&tagged);
        }

        #[test]
        fn a_bundle_gives_back_its_elements(
            time in any::<u64>(),
            elements in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..5),
        ) {
            let bytes = bundle(time, elements.iter().map(Vec::as_slice));
            let (read, found) = unbundle(&bytes).unwrap();
            prop_assert_eq!(read, time);
            prop_assert_eq!(found, elements.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_standard() {
        // The example of the specification, 1.0.
        let message = Message::new("/oscillator/4/frequency", vec![Arg::Float(440.0)]);
        assert_eq!(message.bytes(), b"/oscillator/4/frequency\0,f\0\0\x43\xdc\0\0");
        assert_eq!(Message::read(&[0, 0, 0, 9]), Err(OscError::Address));
        assert_eq!(Message::read(b"/n_set\0\0\0\0\0\x01"), Err(OscError::Tags));
        assert_eq!(Message::read(b"/n_set\0\0,i\0\0\0"), Err(OscError::Short));
    }
}
