//! The kernel's own description of an event: the `format` file in tracefs. It says at which offset
//! each field lies, so that a capture of one kernel is read right on a host with another.

use crate::TraceError;

/// One kind of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFormat {
    /// The number that its records carry.
    pub id: u16,
    /// Its name, e.g. `sched_switch`.
    pub name: String,
    fields: Vec<Field>,
}

/// One field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    name: String,
    offset: usize,
    size: usize,
    is_signed: bool,
    is_located: bool,
}

impl EventFormat {
    /// Reads a `format` file.
    ///
    /// # Errors
    /// When name, number or a field's place is missing.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let value = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().to_owned())
        };
        let name = value("name:").ok_or_else(|| bad("", "no name"))?;
        let id =
            value("ID:").and_then(|id| id.parse().ok()).ok_or_else(|| bad(&name, "no number"))?;
        let mut fields = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.trim_start().strip_prefix("field:") {
                fields
                    .push(parse_field(rest).ok_or_else(|| bad(&name, &format!("field '{rest}'")))?);
            }
        }
        Ok(Self { id, name, fields })
    }

    /// The field called `name`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

fn bad(name: &str, reason: &str) -> TraceError {
    TraceError::Format { name: name.to_owned(), reason: reason.to_owned() }
}

fn parse_field(text: &str) -> Option<Field> {
    let mut parts = text.split(';').map(str::trim);
    let declaration = parts.next()?;
    let (mut offset, mut size, mut is_signed) = (None, None, false);
    for part in parts {
        match part.split_once(':') {
            Some(("offset", number)) => offset = number.parse().ok(),
            Some(("size", number)) => size = number.parse().ok(),
            Some(("signed", number)) => is_signed = number == "1",
            _ => {}
        }
    }
    let name = declaration.rsplit([' ', '*']).next()?.split('[').next()?;
    Some(Field {
        name: name.to_owned(),
        offset: offset?,
        size: size?,
        is_signed,
        is_located: declaration.starts_with("__data_loc"),
    })
}

impl Field {
    /// Its bytes in `record`; `None` when the record is too short.
    #[must_use]
    pub fn bytes<'r>(&self, record: &'r [u8]) -> Option<&'r [u8]> {
        let own = record.get(self.offset..self.offset.checked_add(self.size)?)?;
        if !self.is_located {
            return Some(own);
        }
        // Length in the upper half, offset from the record's start in the lower.
        let place = u32::from_le_bytes(own.try_into().ok()?);
        let (start, length) = ((place & 0xffff) as usize, (place >> 16) as usize);
        record.get(start..start.checked_add(length)?)
    }

    /// As a number, sign-extended where the field is signed.
    #[must_use]
    pub fn number(&self, record: &[u8]) -> Option<i64> {
        number_of(self.bytes(record)?, self.is_signed)
    }

    /// As numbers of 8 bytes: `args` of a system call, the callers of a stack.
    #[must_use]
    pub fn words(&self, record: &[u8]) -> Option<Vec<u64>> {
        let bytes = self.bytes(record)?;
        Some(
            bytes
                .chunks_exact(8)
                .filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)))
                .collect(),
        )
    }

    /// What lies in the record from this field on: the callers of a stack go beyond their field.
    #[must_use]
    pub fn words_to_end(&self, record: &[u8]) -> Option<Vec<u64>> {
        let bytes = record.get(self.offset..)?;
        Some(
            bytes
                .chunks_exact(8)
                .filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)))
                .collect(),
        )
    }

    /// As text up to its NUL.
    #[must_use]
    pub fn text(&self, record: &[u8]) -> Option<String> {
        let bytes = self.bytes(record)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(bytes.get(..end)?).into_owned())
    }
}

fn number_of(bytes: &[u8], is_signed: bool) -> Option<i64> {
    let mut word = [0u8; 8];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let plain = i64::from_le_bytes(word);
    let spare = 64u32.checked_sub(u32::try_from(bytes.len()).ok()?.checked_mul(8)?)?;
    if is_signed && spare < 64 { Some((plain << spare) >> spare) } else { Some(plain) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IRQ: &str = "name: irq_handler_entry\nID: 157\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:int irq;\toffset:8;\tsize:4;\tsigned:1;\n\
        \tfield:__data_loc char[] name;\toffset:12;\tsize:4;\tsigned:0;\n\n\
        print fmt: \"irq=%d name=%s\", REC->irq, __get_str(name)\n";

    #[test]
    fn fields_lie_where_the_kernel_says() {
        let format = EventFormat::parse(IRQ).unwrap();
        let mut record = vec![157, 0, 0, 0, 7, 0, 0, 0];
        record.extend((-3i32).to_le_bytes());
        record.extend((5u32 << 16 | 16).to_le_bytes());
        record.extend(b"eth0\0");
        assert_eq!(format.id, 157);
        assert_eq!(format.field("irq").unwrap().number(&record), Some(-3));
        assert_eq!(format.field("name").unwrap().text(&record).as_deref(), Some("eth0"));
        assert_eq!(format.field("nothing"), None);
    }

    #[test]
    fn a_format_without_a_number_is_an_error() {
        assert!(EventFormat::parse("name: x\nformat:\n").is_err());
        assert!(EventFormat::parse("name: x\nID: 1\n\tfield:int y;\tsize:4;\n").is_err());
    }

    proptest! {
        #[test]
        fn no_text_and_no_record_makes_it_panic(text in ".{0,200}", record in prop::collection::vec(any::<u8>(), 0..64), cut in 0usize..400) {
            let _ = EventFormat::parse(&text);
            let mut damaged = IRQ.to_owned();
            damaged.truncate(cut.min(IRQ.len()));
            let _ = EventFormat::parse(&damaged);
            let format = EventFormat::parse(IRQ).unwrap();
            for name in ["irq", "name"] {
                let field = format.field(name).unwrap();
                let _ = (field.number(&record), field.text(&record), field.words_to_end(&record));
            }
        }

        #[test]
        fn a_signed_number_keeps_its_value(value in any::<i32>()) {
            prop_assert_eq!(number_of(&value.to_le_bytes(), true), Some(i64::from(value)));
        }
    }
}
