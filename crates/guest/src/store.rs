//! Asking the store of this machine over HTTP/1.1, on loopback: as much of the protocol as three
//! requests of a check need. Every request closes its connection, so an answer ends with the stream.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Long for one small request, even on an emulated CPU that is busy with something else.
const LIMIT: Duration = Duration::from_secs(10);

/// Status and body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends one request to the store on `port`, with the token that it wants if it wants one, and reads the whole answer.
///
/// # Errors
/// What the system said; an answer that is not HTTP is `InvalidData`.
pub fn request(
    port: u16,
    token: Option<&str>,
    method: &str,
    path: &str,
    body: &[u8],
) -> io::Result<Reply> {
    request_with(port, token, method, path, &[], body)
}

fn request_with(
    port: u16,
    token: Option<&str>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Reply> {
    let mut stream = asked(port, token, method, path, headers, body.len() as u64, body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(no_answer)
}

/// A connection on which this has been asked; the body may be the beginning of a longer one.
fn asked(
    port: u16,
    token: Option<&str>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    length: u64,
    body: &[u8],
) -> io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let mut more = bearer.unwrap_or_default();
    for (name, value) in headers {
        more += &format!("{name}: {value}\r\n");
    }
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    Ok(stream)
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer")
}

/// The store of this machine, for who writes a value that grows. What fails is told in words.
#[derive(Debug, Clone)]
pub struct Store {
    /// Where it listens.
    pub port: u16,
    /// What it wants to be shown.
    pub token: Option<String>,
}

impl Store {
    /// Whether there is a value under this key.
    ///
    /// # Errors
    /// The store's answer or the system's, in words.
    pub fn has(&self, key: &str) -> Result<bool, String> {
        let reply = self.ask("HEAD", &path(key), &[], b"")?;
        match reply.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(refused(&reply)),
        }
    }

    /// Removes the value under this key.
    ///
    /// # Errors
    /// As [`Store::has`].
    pub fn delete(&self, key: &str) -> Result<(), String> {
        let reply = self.ask("DELETE", &path(key), &[], b"")?;
        if reply.status == 404 { Ok(()) } else { done(&reply) }
    }

    /// Adds sound to the value that grows, which has `at` bytes so far; opens it with the first.
    ///
    /// # Errors
    /// As [`Store::has`].
    pub fn append(&self, key: &str, at: u64, bytes: &[u8]) -> Result<(), String> {
        let at = at.to_string();
        let headers = [("Content-Type", "audio/wav"), ("Streamdb-Offset", at.as_str())];
        done(&self.ask("POST", &format!("{}?append", path(key)), &headers, bytes)?)
    }

    /// The value grows no more.
    ///
    /// # Errors
    /// As [`Store::has`].
    pub fn seal(&self, key: &str) -> Result<(), String> {
        done(&self.ask("POST", &format!("{}?seal", path(key)), &[], b"")?)
    }

    /// Puts the same value with another beginning of the same length in its place, at once and as a
    /// whole; not if somebody has replaced it meanwhile.
    ///
    /// # Errors
    /// As [`Store::has`].
    pub fn replace_head(&self, key: &str, head: &[u8]) -> Result<(), String> {
        let attempt = || -> io::Result<Reply> {
            let (path, token) = (path(key), self.token.as_deref());
            let mut from = asked(self.port, token, "GET", &path, &[], 0, b"")?;
            let facts = head_of(&mut from)?;
            let fact = |name: &str| {
                let lines = facts.lines().filter_map(|line| line.split_once(':'));
                let mut of_name = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
                of_name.next().map(|(_, value)| value.trim().to_owned()).ok_or_else(no_answer)
            };
            let length: u64 = fact("content-length")?.parse().map_err(|_| no_answer())?;
            let tag = fact("etag")?;
            let mut old = vec![0; head.len()];
            from.read_exact(&mut old)?;
            let headers = [("Content-Type", "audio/wav"), ("If-Match", tag.as_str())];
            let mut to = asked(self.port, token, "PUT", &path, &headers, length, head)?;
            io::copy(&mut from, &mut to)?;
            let mut answer = Vec::new();
            to.read_to_end(&mut answer)?;
            parse(&answer).ok_or_else(no_answer)
        };
        done(&attempt().map_err(|error| format!("the store: {error}"))?)
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, String> {
        request_with(self.port, self.token.as_deref(), method, path, headers, body)
            .map_err(|error| format!("the store: {error}"))
    }
}

/// The status line and the headers of an answer, up to its body.
fn head_of(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The address of a key, RFC 3986: all but letters, digits, `-._~` and the slashes of folders is escaped.
fn path(key: &str) -> String {
    let mut path = "/v1/objects/".to_owned();
    for byte in key.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => path.push(char::from(byte)),
            byte => path += &format!("%{byte:02X}"),
        }
    }
    path
}

fn done(reply: &Reply) -> Result<(), String> {
    if matches!(reply.status, 200..=204) { Ok(()) } else { Err(refused(reply)) }
}

/// The store says why, in a field of its own.
fn refused(reply: &Reply) -> String {
    let told: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match told.get("error").and_then(serde_json::Value::as_str) {
        Some(error) => format!("the store: {error}"),
        None => format!("the store answers {}", reply.status),
    }
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let body = answer.get(end + 4..)?;
    let chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
    let body = if chunked { unchunk(body)? } else { body.to_vec() };
    Some(Reply { status, body })
}

/// RFC 9112, 7.1: each chunk is its length in hexadecimal, a line end, the bytes, a line end.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|part| part == b"\r\n")?;
        let line = std::str::from_utf8(rest.get(..end)?).ok()?;
        let length = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        let from = end + 2;
        body.extend_from_slice(rest.get(from..from.checked_add(length)?)?);
        rest = rest.get(from + length + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn an_answer_is_read_to_its_end() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 201 Created\r\nX: y\r\n\r\nbody").unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let reply = request(port, Some("secret"), "PUT", "/v1/key", b"value").unwrap();
        assert_eq!(reply, Reply { status: 201, body: b"body".to_vec() });
        let request = server.join().unwrap();
        assert!(request.starts_with("PUT /v1/key HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nAuthorization: Bearer secret\r\n"), "{request}");
    }

    #[test]
    fn a_key_is_one_address() {
        assert_eq!(path("takes/one two.wav"), "/v1/objects/takes/one%20two.wav");
        assert_eq!(path("é?#%"), "/v1/objects/%C3%A9%3F%23%25");
    }

    #[test]
    fn chunks_are_put_together() {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(answer).unwrap().body, b"abcde");
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab"),
            None
        );
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
    }
}
