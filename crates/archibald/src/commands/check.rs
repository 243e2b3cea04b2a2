//! `archibald check`: the one list of what must hold. The guest's own rows come from archibald-guest;
//! the rows that only the host can see are made here.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use archibald_machine::units::Transport;
use archibald_vm::argv::{forwarded, forwarded_by_qemu};
use archibald_vm::instance::Instance;
use serde::{Deserialize, Serialize};

use super::exec::Remote;
use crate::borrowed;
use crate::failure::{Context as _, Exit, Failure};
use crate::places;
use crate::terminal::{self, Steps};

/// Set for the copy of this program that answers ssh's password question.
pub(crate) const ASKPASS: &str = "ARCHIBALD_ASKPASS";

/// Check the running machine: everything that must hold, found against expected.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// One thing that must hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    id: String,
    title: String,
    expected: String,
    found: String,
    status: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Ok,
    Failed,
    NotJudged,
}

/// What archibald-guest prints.
#[derive(Deserialize)]
struct GuestReport {
    rows: Vec<Row>,
}

impl Check {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        check(&places::instance(self.name.as_deref())?, self.json)
    }
}

/// Checks a running machine, prints the list, and returns the exit status: 1 when a row failed.
pub(crate) fn check(instance: &Instance, json: bool) -> Result<u8, Failure> {
    let remote = Remote::of(Some(instance.name()), None)?;
    let accelerator = instance.record()?.map(|record| record.accelerator);
    let steps = Steps::new(json);
    steps.step("checks");
    // The host's rows need little of the guest, which has enough to do.
    let mut rows = guest_rows(&remote)?;
    rows.extend(host_rows(&remote));
    steps.finish();
    drop(steps);
    let count = |outcome| rows.iter().filter(|row| row.status == outcome).count();
    let (held, failed, not_judged) =
        (count(Outcome::Ok), count(Outcome::Failed), count(Outcome::NotJudged));
    if json {
        terminal::say_json(&serde_json::json!({
            "schema": 1, "name": instance.name(), "accelerator": accelerator, "rows": rows,
            "ok": held, "failed": failed, "not-judged": not_judged,
        }));
    } else {
        draw(&rows);
        terminal::say(&format!("{held} ok, {failed} failed, {not_judged} not judged"));
        if failed == 0 {
            welcome(&remote);
        }
    }
    Ok(u8::from(failed > 0))
}

fn draw(rows: &[Row]) {
    let lines = rows
        .iter()
        .map(|row| {
            let mark = match row.status {
                Outcome::Ok => "ok",
                Outcome::Failed => "FAILED",
                Outcome::NotJudged => "-",
            };
            vec![mark.to_owned(), row.title.clone(), row.expected.clone(), row.found.clone()]
        })
        .collect();
    terminal::say(&terminal::table(&["", "CHECK", "EXPECTED", "FOUND"], lines));
    for row in rows.iter().filter(|row| row.status == Outcome::Failed) {
        if let Some(remedy) = &row.remedy {
            terminal::say(&format!("{}: {remedy}", row.title));
        }
    }
}

/// What to do next, once.
fn welcome(remote: &Remote) {
    let name = remote.instance.name();
    let store = remote.machine.network.door_to(remote.machine.streamdb.port);
    let me = places::called();
    terminal::say(&format!("\n{me} shell {name}   log in as {}", remote.user));
    terminal::say(&format!("{me} exec -- CMD   run one command"));
    if let Some((address, port)) = store.filter(|_| remote.machine.streamdb.enable) {
        let token = match remote.machine.store_wants_token() {
            true => format!(", with the token in {}", remote.instance.store_token_file().display()),
            false => String::new(),
        };
        terminal::say(&format!("http://{address}:{port}/   StreamDB{token}"));
    }
}

fn guest_rows(remote: &Remote) -> Result<Vec<Row>, Failure> {
    let command = ["sudo", "-n", "archibald-guest", "check", "--json"].map(String::from);
    let output = remote
        .command(&["-T"], &command)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("ssh")?;
    serde_json::from_slice::<GuestReport>(&output.stdout).map(|report| report.rows).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        let message =
            format!("the machine's own checks gave no answer ({}): {}", output.status, said.trim());
        Failure::new(Exit::Failed, message)
            .with_remedy("`archibald logs --log journal` shows what happened.")
    })
}

fn row(
    id: &str,
    title: &str,
    expected: impl Into<String>,
    found: Result<String, String>,
    remedy: &str,
) -> Row {
    let (status, found) = match found {
        Ok(found) => (Outcome::Ok, found),
        Err(found) => (Outcome::Failed, found),
    };
    Row {
        id: id.to_owned(),
        title: title.to_owned(),
        expected: expected.into(),
        found,
        status,
        remedy: (status == Outcome::Failed).then(|| remedy.to_owned()),
    }
}

fn host_rows(remote: &Remote) -> Vec<Row> {
    let mut rows = vec![row(
        "host.ssh-key",
        "SSH by key from the host",
        format!("{} logs in", remote.user),
        key_login(remote),
        "`archibald logs --log journal --unit ssh` shows the refusal.",
    )];
    rows.extend(password_row(remote));
    if remote.machine.network.is_on_bridge() {
        rows.push(row(
            "host.bridge",
            "network on the bridge",
            "card, rules and forwarding are in force",
            on_bridge(remote),
            "`archibald restart` makes them anew.",
        ));
    } else {
        rows.push(row(
            "host.ports",
            "forwarded ports",
            "every port listens on the host",
            ports(remote),
            "Restart the machine: QEMU lost a port.",
        ));
    }
    if remote.machine.streamdb.enable {
        rows.push(row(
            "host.streamdb",
            "StreamDB from the host",
            "what is put is got",
            store(remote),
            "`archibald logs --log journal --unit streamdb` shows why.",
        ));
    }
    rows
}

fn key_login(remote: &Remote) -> Result<String, String> {
    let output = remote
        .command(&["-T"], &["id".to_owned(), "-un".to_owned()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    logged_in(&output, remote)
}

/// Whether the far end of an ssh answered as the machine's user.
fn logged_in(output: &Output, remote: &Remote) -> Result<String, String> {
    let user = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && user == remote.user {
        Ok(format!("{user} logs in"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// Absent when the user has no password.
fn password_row(remote: &Remote) -> Option<Row> {
    let user = remote.machine.users.iter().find(|user| user.name == remote.user)?;
    let password = user.password.as_ref()?;
    let found = password_login(remote, password);
    Some(row(
        "host.ssh-password",
        "SSH by password from loopback",
        format!("{} logs in", remote.user),
        found,
        "Compare with `archibald exec -- sudo sshd -T -C addr=HOST,user=audio-user`, HOST being the machine's gateway.",
    ))
}

fn password_login(remote: &Remote, password: &str) -> Result<String, String> {
    let program = places::this_program().map_err(|_| "this program has no path".to_owned())?;
    let by_key = remote
        .command(&["-T", "-o", "NumberOfPasswordPrompts=1"], &["id".to_owned(), "-un".to_owned()]);
    // ssh takes the first value of an option that it meets, and the identity's options ask for keys.
    let output = Command::new("ssh")
        .args(["-o", "PreferredAuthentications=password", "-o", "PubkeyAuthentication=no"])
        .args(by_key.get_args())
        .env("SSH_ASKPASS", program)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env(ASKPASS, password)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    logged_in(&output, remote)
}

/// Every single TCP port takes a connection on the host; UDP ports are bound by QEMU, and ranges by
/// the keeper, which would have QEMU open each port of a range that is connected to.
fn ports(remote: &Remote) -> Result<String, String> {
    let all = forwarded(&remote.machine);
    let bind = remote.machine.network.bind;
    let target = if bind.is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { bind };
    let mut silent = Vec::new();
    let connected = forwarded_by_qemu(&remote.machine);
    for port in &all {
        let (transport, host, _) = port;
        let listens = match transport {
            Transport::Tcp if connected.contains(port) => {
                TcpStream::connect_timeout(&SocketAddr::new(target, *host), Duration::from_secs(5))
                    .is_ok()
            }
            // A port that can still be bound is one that nobody listens on.
            Transport::Tcp => TcpListener::bind((bind, *host)).is_err(),
            Transport::Udp => UdpSocket::bind((bind, *host)).is_err(),
        };
        if !listens {
            silent.push(format!("{host}/{transport}"));
        }
    }
    if silent.is_empty() {
        Ok(format!("all {} listen on {bind}", all.len()))
    } else {
        Err(format!("nobody listens on {}", silent.join(", ")))
    }
}

/// Read back from the host, not assumed.
fn on_bridge(remote: &Remote) -> Result<String, String> {
    let lacks = borrowed::lacks(&remote.instance).map_err(|failure| failure.words().0)?;
    match lacks.is_empty() {
        true => Ok("card, rules and forwarding are in force".to_owned()),
        false => Err(lacks.join("; ")),
    }
}

/// Puts bytes that were never there before, gets them back, deletes them.
fn store(remote: &Remote) -> Result<String, String> {
    let (address, port) = remote
        .machine
        .network
        .door_to(remote.machine.streamdb.port)
        .ok_or("no port of the host leads to it")?;
    let token = match remote.machine.store_wants_token() {
        true => Some(remote.instance.store_token().map_err(|error| error.to_string())?),
        false => None,
    };
    let bearer = token.map(|token| format!("Bearer {token}"));
    let stamp = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let url = format!("http://{address}:{port}/v1/objects/archibald/check-{stamp}");
    let bytes: Vec<u8> = (0..100_000u32).flat_map(|n| (n ^ 0x5a5a).to_le_bytes()).collect();
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).build().into();
    let mut put = agent.put(&url);
    let mut get = agent.get(&url);
    let mut delete = agent.delete(&url);
    if let Some(bearer) = &bearer {
        put = put.header("Authorization", bearer);
        get = get.header("Authorization", bearer);
        delete = delete.header("Authorization", bearer);
    }
    put.send(&bytes[..]).map_err(|error| format!("put: {error}"))?;
    let mut answer = get.call().map_err(|error| format!("get: {error}"))?;
    let mut back = Vec::new();
    answer
        .body_mut()
        .as_reader()
        .read_to_end(&mut back)
        .map_err(|error| format!("get: {error}"))?;
    delete.call().map_err(|error| format!("delete: {error}"))?;
    if back == bytes {
        Ok(format!("{} bytes put, got and deleted", back.len()))
    } else {
        Err(format!("{} bytes came back for {}", back.len(), bytes.len()))
    }
}
