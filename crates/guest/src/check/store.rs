//! The store: its unit, its CPUs, and bytes that come back.

use std::process;

use archibald_machine::units::CpuSet;

use super::{Group, Machine, Row};
use crate::run::Invocation;
use crate::store::request;

const UNIT: &str = "streamdb.service";
const REMEDY: &str = "journalctl -u streamdb; sudo systemctl restart streamdb";

pub(super) fn rows(machine: Machine<'_>) -> Vec<Row> {
    let Some(port) = machine.settings.streamdb_port else {
        return vec![Row::new(Group::Store, "store.unit", "StreamDB", "off").judge("off", true)];
    };
    let token = machine.settings.store_door.as_ref().and_then(|door| door.token.as_deref());
    let words = ["systemctl", "show", "-p", "ActiveState", "-p", "MainPID", UNIT];
    let text = machine.programs.run(&Invocation::new(&words)).stdout;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    vec![
        Row::new(Group::Store, "store.unit", UNIT, "active")
            .equal(value("ActiveState=").map(str::to_owned))
            .remedy(REMEDY),
        cpus(machine, value("MainPID=").unwrap_or("0")),
        health(port),
        round_trip(port, token),
    ]
}

fn cpus(machine: Machine<'_>, pid: &str) -> Row {
    let status = machine.root.read(&format!("/proc/{pid}/status")).unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let found: Option<CpuSet> = list.and_then(|list| list.parse().ok());
    let asked = &machine.settings.housekeeping;
    let good = found.as_ref() == Some(asked);
    Row::new(Group::Store, "store.cpus", "CPUs of the store", asked.to_string())
        .judge(found.map_or_else(String::new, |cpus| cpus.to_string()), good)
        .remedy("systemctl cat streamdb: the drop-in of archibald's generator sets CPUAffinity")
}

fn health(port: u16) -> Row {
    let found = match request(port, None, "GET", "/health", b"") {
        Ok(reply) => reply.status.to_string(),
        Err(error) => error.to_string(),
    };
    Row::new(Group::Store, "store.health", "GET /health", "200").equal(Some(found)).remedy(REMEDY)
}

fn round_trip(port: u16, token: Option<&str>) -> Row {
    let path = format!("/v1/objects/archibald-check/{}", process::id());
    let bytes: Vec<u8> = (0..=255).collect();
    let row = Row::new(Group::Store, "store.round-trip", "Bytes put, got, deleted", "come back");
    let attempt = || -> Result<(), String> {
        let put =
            request(port, token, "PUT", &path, &bytes).map_err(|error| format!("PUT: {error}"))?;
        if !matches!(put.status, 200..=204) {
            return Err(format!("PUT answers {}", put.status));
        }
        let got = request(port, token, "GET", &path, b"").map_err(|error| format!("GET: {error}"));
        // Deleted whatever came of the reading.
        let deleted =
            request(port, token, "DELETE", &path, b"").map_err(|error| format!("DELETE: {error}"));
        let got = got?;
        match (got.status, got.body == bytes, deleted?.status) {
            (200, true, 200..=204) => Ok(()),
            (200, false, _) => Err("GET returns other bytes".into()),
            (200, true, status) => Err(format!("DELETE answers {status}")),
            (status, ..) => Err(format!("GET answers {status}")),
        }
    };
    match attempt() {
        Ok(()) => row.judge("come back", true),
        Err(reason) => row.failed(reason).remedy(REMEDY),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::super::tests::{Made, failed};
    use super::*;
    use crate::run::tests::{Canned, says};

    /// A store that keeps one value, or forgets it; answers five requests.
    fn store(keeps: bool) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().take(5) {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                let mut part = [0; 2048];
                loop {
                    let length = stream.read(&mut part).unwrap();
                    request.extend_from_slice(&part[..length]);
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let wanted = if text.starts_with("PUT") { 256 } else { 0 };
                    let head = request.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
                    if head.is_some_and(|head| request.len() >= head + wanted) {
                        if wanted > 0 && keeps {
                            kept = request.split_off(head.unwrap());
                        }
                        break;
                    }
                }
                let body: &[u8] = if request.starts_with(b"GET /v1") { &kept } else { b"" };
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                stream.write_all(body).unwrap();
            }
        });
        port
    }

    fn made(port: u16, state: &str) -> Made {
        let show = says(&format!("ActiveState={state}\nMainPID=77\n"));
        let files = [("/proc/77/status", "Name:\tstreamdb\nCpus_allowed_list:\t0\n")];
        let mut made = Made::new(&files, Canned(vec![("streamdb.service", show)]));
        made.settings.streamdb_port = Some(port);
        made
    }

    #[test]
    fn a_store_that_gives_back_what_it_got_passes() {
        let made = made(store(true), "active");
        assert_eq!(failed(&rows(made.machine())), Vec::<&str>::new());
    }

    #[test]
    fn a_store_that_forgets_fails_its_round_trip() {
        let made = made(store(false), "active");
        assert_eq!(failed(&rows(made.machine())), ["store.round-trip"]);
    }

    #[test]
    fn a_store_that_is_not_there_or_on_the_audio_cpu_fails() {
        // A port that was just given back: nobody listens there.
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let made = made(port, "failed");
        made.root.write("/proc/77/status", b"Cpus_allowed_list:\t0-1\n", 0o644).unwrap();
        assert_eq!(
            failed(&rows(made.machine())),
            ["store.unit", "store.cpus", "store.health", "store.round-trip"]
        );
    }

    #[test]
    fn a_machine_without_a_store_has_one_row_that_says_so() {
        let mut made = Made::new(&[], Canned(vec![]));
        made.settings.streamdb_port = None;
        let rows = rows(made.machine());
        assert_eq!((rows.len(), rows[0].found.as_str()), (1, "off"));
    }
}
