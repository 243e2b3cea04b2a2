//! QEMU's machine protocol: one JSON object a line over a Unix socket. Only commands and their
//! answers, and the events that [`Qmp::wait_for`] is asked for.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// A connection that has been greeted and may execute commands.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    /// Events that came while an answer was waited for.
    told: Vec<String>,
    /// What has come of a line whose end has not.
    begun: String,
}

/// Why a command got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QmpError {
    /// The socket failed; QEMU has most likely ended.
    #[error("the connection to QEMU broke while asking `{command}`: {source}")]
    Connection {
        /// The command under way.
        command: String,
        /// What the socket said.
        source: io::Error,
    },
    /// QEMU answered that it could not.
    #[error("QEMU refused `{command}`: {message}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's own words.
        message: String,
    },
    /// The answer was not of the protocol's form.
    #[error("QEMU's answer to `{command}` is no QMP: {line}")]
    Malformed {
        /// The command.
        command: String,
        /// What came instead.
        line: String,
    },
}

impl Qmp {
    /// How long an answer may take: QEMU answers these commands between two instructions, but an
    /// emulating one on a busy host can be slow to get there.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Connects to a socket on which QEMU listens.
    ///
    /// # Errors
    /// When nothing listens there, or what does is not QEMU.
    pub fn connect(socket: &Path) -> Result<Self, QmpError> {
        let broken =
            |source| QmpError::Connection { command: "qmp_capabilities".to_owned(), source };
        Self::greet(UnixStream::connect(socket).map_err(broken)?)
    }

    /// Greets the QEMU that has the other end of this socket.
    ///
    /// # Errors
    /// When what speaks there is not QEMU.
    pub fn greet(writer: UnixStream) -> Result<Self, QmpError> {
        let broken =
            |source| QmpError::Connection { command: "qmp_capabilities".to_owned(), source };
        writer.set_read_timeout(Some(Self::PATIENCE)).map_err(broken)?;
        let reader = BufReader::new(writer.try_clone().map_err(broken)?);
        let mut qmp = Self { reader, writer, told: Vec::new(), begun: String::new() };
        let greeting = qmp.line("greeting")?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Malformed {
                command: "greeting".to_owned(),
                line: greeting.to_string(),
            });
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and waits for its answer.
    ///
    /// # Errors
    /// When QEMU refuses or the connection breaks.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let broken = |source| QmpError::Connection { command: command.to_owned(), source };
        let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
        request.push('\n');
        self.writer.write_all(request.as_bytes()).map_err(broken)?;
        loop {
            let mut answer = self.line(command)?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(event) = answer.get("event").and_then(Value::as_str) {
                self.told.push(event.to_owned());
            }
            if let Some(error) = answer.get("error") {
                let message = error.get("desc").and_then(Value::as_str).unwrap_or("no reason");
                return Err(QmpError::Refused {
                    command: command.to_owned(),
                    message: message.to_owned(),
                });
            }
        }
    }

    /// Waits until QEMU tells one of `events`, and says which. Nothing is asked meanwhile: a question
    /// would stop the guest between two instructions.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes within `patience`
    /// ([`io::ErrorKind::WouldBlock`]).
    pub fn wait_for(&mut self, events: &[&str], patience: Duration) -> Result<String, QmpError> {
        let what = format!("wait for {}", events.join(" or "));
        let broken = |source| QmpError::Connection { command: what.clone(), source };
        if let Some(at) = self.told.iter().position(|told| events.contains(&told.as_str())) {
            return Ok(self.told.remove(at));
        }
        self.reader.get_ref().set_read_timeout(Some(patience)).map_err(broken)?;
        let heard = loop {
            let message = match self.line(&what) {
                Ok(message) => message,
                Err(error) => break Err(error),
            };
            match message.get("event").and_then(Value::as_str) {
                Some(event) if events.contains(&event) => break Ok(event.to_owned()),
                _ => {}
            }
        };
        self.reader.get_ref().set_read_timeout(Some(Self::PATIENCE)).map_err(broken)?;
        heard
    }

    fn line(&mut self, command: &str) -> Result<Value, QmpError> {
        let broken = |source| QmpError::Connection { command: command.to_owned(), source };
        if self.reader.read_line(&mut self.begun).map_err(broken)? == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let line = std::mem::take(&mut self.begun);
        serde_json::from_str(&line)
            .map_err(|_| QmpError::Malformed { command: command.to_owned(), line })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A QEMU that says these lines, one for every line that it reads, after its greeting.
    fn speaking(lines: &'static [&'static str]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            stream.write_all(b"{\"QMP\":{}}\n").unwrap();
            for line in lines {
                reader.read_line(&mut String::new()).unwrap();
                stream.write_all(line.as_bytes()).unwrap();
            }
        });
        (dir, socket)
    }

    #[test]
    fn events_between_question_and_answer_are_passed_over() {
        let (_dir, socket) =
            speaking(&["{\"return\":{}}\n", "{\"event\":\"RESUME\"}\n{\"return\":{\"n\":7}}\n"]);
        let mut qmp = Qmp::connect(&socket).unwrap();
        assert_eq!(qmp.execute("query", json!({})).unwrap()["n"], 7);
    }

    #[test]
    fn a_refusal_carries_qemus_own_words() {
        let (_dir, socket) =
            speaking(&["{\"return\":{}}\n", "{\"error\":{\"desc\":\"no such command\"}}\n"]);
        let error = Qmp::connect(&socket).unwrap().execute("nonsense", json!({})).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused `nonsense`: no such command");
    }

    #[test]
    fn an_event_is_heard_whether_it_came_before_or_comes_after() {
        let (_dir, socket) = speaking(&[
            "{\"return\":{}}\n",
            "{\"event\":\"STOP\"}\n{\"return\":{}}\n{\"event\":\"RESUME\"}\n",
        ]);
        let mut qmp = Qmp::connect(&socket).unwrap();
        qmp.execute("stop", json!({})).unwrap();
        let patience = Duration::from_secs(20);
        assert_eq!(qmp.wait_for(&["STOP", "SHUTDOWN"], patience).unwrap(), "STOP");
        assert_eq!(qmp.wait_for(&["RESUME"], patience).unwrap(), "RESUME");
    }

    #[test]
    fn an_ended_qemu_is_told_as_such() {
        let (_dir, socket) = speaking(&["{\"return\":{}}\n"]);
        let error = Qmp::connect(&socket).unwrap().execute("cont", json!({})).unwrap_err();
        assert!(matches!(error, QmpError::Connection { .. }), "{error}");
    }
}
