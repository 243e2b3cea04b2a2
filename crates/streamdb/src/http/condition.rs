//! `If-Match` and `If-None-Match` as conditions of the store.

use std::fmt::Write;

use axum::http::{HeaderMap, HeaderName, header};

use super::reply::Refusal;
use crate::{Checksum, Conditions, Tags};

/// Reads the conditions of a request.
pub(super) fn conditions(headers: &HeaderMap) -> Result<Conditions, Refusal> {
    conditions_named(headers, &header::IF_MATCH, Some(&header::IF_NONE_MATCH))
}

/// Reads conditions from headers of other names.
pub(super) fn conditions_named(
    headers: &HeaderMap,
    matches: &HeaderName,
    differs: Option<&HeaderName>,
) -> Result<Conditions, Refusal> {
    Ok(Conditions {
        // A weak tag never satisfies If-Match (RFC 9110, 13.1.1).
        matches: tags(headers, matches, false)?,
        differs: differs.map(|name| tags(headers, name, true)).transpose()?.flatten(),
    })
}

/// The entity tag of a value: its SHA-256 in quotes.
pub(super) fn etag(checksum: &Checksum) -> String {
    let mut tag = String::with_capacity(66);
    // Writing to a text does not fail.
    let _ = write!(tag, "\"{checksum}\"");
    tag
}

fn tags(headers: &HeaderMap, name: &HeaderName, weak: bool) -> Result<Option<Tags>, Refusal> {
    let mut found = None;
    for line in headers.get_all(name) {
        let text = line.to_str().map_err(|_| wrong(name))?.trim();
        if text == "*" {
            return Ok(Some(Tags::Any));
        }
        let tags = found.get_or_insert_with(Vec::new);
        let mut any = false;
        for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            let (quoted, counts) = match tag.strip_prefix("W/") {
                Some(quoted) => (quoted, weak),
                None => (tag, true),
            };
            let inner = quoted
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .filter(|inner| inner.bytes().all(|byte| matches!(byte, b'!' | b'#'..=b'~')))
                .ok_or_else(|| wrong(name))?;
            any = true;
            // A tag that is no checksum is none of ours and matches nothing.
            tags.extend(inner.parse::<Checksum>().ok().filter(|_| counts));
        }
        if !any {
            return Err(wrong(name));
        }
    }
    Ok(found.map(Tags::Of))
}

fn wrong(name: &HeaderName) -> Refusal {
    Refusal::bad(
        format!("the header {name} is neither * nor a list of entity tags"),
        format!("send the tag as it came, in quotes: {name}: \"...\""),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: HeaderName, values: &[&str]) -> Result<Conditions, Refusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), value.parse().unwrap());
        }
        conditions(&headers)
    }

    #[test]
    fn lists_stars_weak_and_foreign_tags_are_read() {
        let one = Checksum::of(b"1");
        let two = Checksum::of(b"2");
        let line = format!("\"{one}\", W/\"{two}\"");
        let found = read(header::IF_MATCH, &[&line, "\"foreign\""]).unwrap();
        assert_eq!(found.matches, Some(Tags::Of(vec![one])));
        let found = read(header::IF_NONE_MATCH, &[&line]).unwrap();
        assert_eq!(found.differs, Some(Tags::Of(vec![one, two])));
        let found = read(header::IF_NONE_MATCH, &["*"]).unwrap();
        assert_eq!(found.differs, Some(Tags::Any));
        assert!(read(header::IF_MATCH, &[]).unwrap().is_none());
    }

    #[test]
    fn unquoted_tags_are_refused_rather_than_taken_for_no_condition() {
        for value in ["abc", "\"abc", "W/abc", "\"", "", ",", "\"a\"b\"", "\"a b\""] {
            assert!(read(header::IF_MATCH, &[value]).is_err(), "{value}");
        }
    }
}
