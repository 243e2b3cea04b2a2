//! The store's HTTP door beside nginx: files of the same size on the same disk, asked in turn.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "benchmarks report")]

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use comparators::{argument, median, number};
use serde_json::{Value, json};

type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

const SMALL: usize = 4096;
const LARGE: usize = 64 << 20;
const WRITERS: usize = 4;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("doors: {error}");
            ExitCode::from(3)
        }
    }
}

/// A server that ends with this program.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Where one of the two is, and what its addresses begin with.
struct Door {
    address: String,
    path: &'static str,
    /// Where it keeps its files, if a PUT is to be synced there.
    synced: Option<PathBuf>,
}

fn run() -> Done<()> {
    let rounds = number("--rounds", 5)?;
    let port = number("--port", 24_880)?;
    let base = argument("--on").unwrap_or_else(|| "target".to_owned());
    fs::create_dir_all(&base)?;
    let dir = tempfile::tempdir_in(fs::canonicalize(base)?)?;
    let (_nginx, theirs) = nginx(dir.path(), port)?;
    let (_streamdb, ours) = streamdb(dir.path())?;
    let synced = Door { synced: Some(dir.path().join("files")), ..again(&theirs) };

    let mut rows = vec![];
    let (small, large) = (vec![7; SMALL], vec![7; LARGE]);
    for door in [&ours, &theirs] {
        put(door, "small", &small)?;
        put(door, "large", &large)?;
    }
    rows.push(compare("GET of 4 KiB, 8 connections, /s", 0.7, rounds, &ours, &theirs, wrk)?);
    rows.push(compare("GET of 64 MiB, MB/s", 0.9, rounds, &ours, &theirs, |door| {
        let begun = Instant::now();
        for _ in 0..8 {
            get(door, "large", LARGE)?;
        }
        Ok(8.0 * LARGE as f64 / 1e6 / begun.elapsed().as_secs_f64())
    })?);
    let mut turn = 0;
    let mut small_puts = |door: &Door| {
        turn += 1;
        puts(door, turn, 200, &small)
    };
    rows.push(compare(
        "PUT of 4 KiB, not synced by nginx, /s",
        0.0,
        rounds,
        &ours,
        &theirs,
        &mut small_puts,
    )?);
    rows.push(compare(
        "PUT of 4 KiB, both synced, /s",
        1.0,
        rounds,
        &ours,
        &synced,
        &mut small_puts,
    )?);
    let mut large_puts = |door: &Door| {
        let begun = Instant::now();
        for at in 0..3 {
            put(door, &format!("large-{at}"), &large)?;
        }
        Ok(3.0 * LARGE as f64 / 1e6 / begun.elapsed().as_secs_f64())
    };
    rows.push(compare(
        "PUT of 64 MiB, not synced by nginx, MB/s",
        0.0,
        rounds,
        &ours,
        &theirs,
        &mut large_puts,
    )?);
    rows.push(compare(
        "PUT of 64 MiB, both synced, MB/s",
        1.0,
        rounds,
        &ours,
        &synced,
        &mut large_puts,
    )?);

    if std::env::args().any(|word| word == "--json") {
        println!("{}", json!({ "schema": "streamdb.doors/1", "rounds": rounds, "rows": rows }));
    } else {
        println!(
            "median of {rounds} rounds; ratio: the median of the store's rate to nginx's in each"
        );
        println!("{:<44}{:>12}{:>12}{:>9}{:>9}", "", "streamdb", "nginx", "ratio", "aim");
        for row in &rows {
            let aim = row["aim"].as_f64().filter(|aim| *aim > 0.0);
            println!(
                "{:<44}{:>12.1}{:>12.1}{:>8.0}%{:>9}",
                row["row"].as_str().unwrap_or_default(),
                row["streamdb"].as_f64().unwrap_or(f64::NAN),
                row["nginx"].as_f64().unwrap_or(f64::NAN),
                100.0 * row["ratio"].as_f64().unwrap_or(f64::NAN),
                aim.map_or("-".to_owned(), |aim| format!("{:.0}%", 100.0 * aim)),
            );
        }
    }
    Ok(())
}

fn again(door: &Door) -> Door {
    Door { address: door.address.clone(), path: door.path, synced: door.synced.clone() }
}

/// Measures both in turn. Who comes first changes from round to round.
fn compare(
    row: &str,
    aim: f64,
    rounds: usize,
    ours: &Door,
    theirs: &Door,
    mut measure: impl FnMut(&Door) -> Done<f64>,
) -> Done<Value> {
    let (mut us, mut them, mut ratios) = (vec![], vec![], vec![]);
    for round in 0..rounds {
        let (our, their) = if round % 2 == 0 {
            let our = measure(ours)?;
            (our, measure(theirs)?)
        } else {
            let their = measure(theirs)?;
            (measure(ours)?, their)
        };
        us.push(our);
        them.push(their);
        ratios.push(our / their);
    }
    Ok(
        json!({ "row": row, "aim": aim, "streamdb": median(us), "nginx": median(them), "ratio": median(ratios) }),
    )
}

fn nginx(dir: &Path, port: usize) -> Done<(Running, Door)> {
    let files = dir.join("files");
    for folder in ["files", "body", "other"] {
        fs::create_dir(dir.join(folder))?;
    }
    let at = dir.display();
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    let told = format!(
        "daemon off; {user} worker_processes auto; pid {at}/pid; error_log {at}/error.log;
         events {{ worker_connections 512; }}
         http {{
           access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
           client_max_body_size 0; client_body_temp_path {at}/body;
           proxy_temp_path {at}/other; fastcgi_temp_path {at}/other; uwsgi_temp_path {at}/other;
           scgi_temp_path {at}/other;
           server {{ listen 127.0.0.1:{port}; root {at}/files; location / {{ dav_methods PUT DELETE; }} }}
         }}"
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, told)?;
    let program =
        ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists());
    let program = program.ok_or("there is no nginx: apt-get install nginx-light wrk")?;
    let child =
        Command::new(program).arg("-c").arg(&file).arg("-e").arg(dir.join("error.log")).spawn()?;
    let running = Running(child);
    let address = format!("127.0.0.1:{port}");
    for _ in 0..100 {
        if TcpStream::connect(&address).is_ok() {
            debug_assert!(files.is_dir());
            return Ok((running, Door { address, path: "/", synced: None }));
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Err(format!("nginx did not start: {}", fs::read_to_string(dir.join("error.log"))?).into())
}

fn streamdb(dir: &Path) -> Done<(Running, Door)> {
    let mut program = std::env::current_exe()?;
    program.set_file_name("streamdb");
    let mut child = Command::new(program)
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(dir.join("store"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let running = Running(child);
    let address =
        line.trim().strip_prefix("listening on http://").ok_or("streamdb did not start")?;
    Ok((running, Door { address: address.to_owned(), path: "/v1/objects/", synced: None }))
}

/// Small GETs by wrk, which costs less than what it measures.
fn wrk(door: &Door) -> Done<f64> {
    let address = format!("http://{}{}small", door.address, door.path);
    let said = Command::new("wrk").args(["-t1", "-c8", "-d3s", &address]).output();
    let said = said.map_err(|error| format!("wrk: {error}: apt-get install wrk"))?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    if text.contains("Non-2xx") {
        return Err(text.into());
    }
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    Ok(rate.ok_or("wrk told no rate")?.trim().parse()?)
}

/// Several writers, each with a connection of its own and names of its own.
fn puts(door: &Door, turn: usize, each: usize, value: &[u8]) -> Done<f64> {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || -> Done<()> {
                    let mut connection = Connection::open(&door.address)?;
                    for at in 0..each {
                        connection.put(door, &format!("put-{turn}-{writer}-{at}"), value)?;
                    }
                    Ok(())
                })
            })
            .collect();
        for writer in writers {
            writer.join().map_err(|_| "a writer failed")??;
        }
        Done::Ok(())
    })?;
    Ok((WRITERS * each) as f64 / begun.elapsed().as_secs_f64())
}

fn put(door: &Door, name: &str, value: &[u8]) -> Done<()> {
    Connection::open(&door.address)?.put(door, name, value)
}

fn get(door: &Door, name: &str, size: usize) -> Done<()> {
    let mut connection = Connection::open(&door.address)?;
    write!(connection.stream, "GET {}{name} HTTP/1.1\r\nhost: localhost\r\n\r\n", door.path)?;
    let (status, length) = connection.answer()?;
    if status == 200 && length == size {
        Ok(())
    } else {
        Err(format!("{status}, {length} bytes").into())
    }
}

/// A connection that does nothing but move bytes.
struct Connection {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Connection {
    fn open(address: &str) -> Done<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, held: vec![0; 256 * 1024] })
    }

    fn put(&mut self, door: &Door, name: &str, value: &[u8]) -> Done<()> {
        let head = format!(
            "PUT {}{name} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
            door.path,
            value.len()
        );
        if value.len() <= SMALL {
            self.stream.write_all(&[head.as_bytes(), value].concat())?;
        } else {
            self.stream.write_all(head.as_bytes())?;
            self.stream.write_all(value)?;
        }
        let (status, _) = self.answer()?;
        if !(200..300).contains(&status) {
            return Err(format!("PUT {name}: status {status}").into());
        }
        if let Some(files) = &door.synced {
            File::open(files.join(name))?.sync_all()?;
            File::open(files)?.sync_all()?;
        }
        Ok(())
    }

    /// Takes in an answer: its status, and how many bytes its body had.
    fn answer(&mut self) -> Done<(u16, usize)> {
        let mut filled = 0;
        let end = loop {
            let got = self.stream.read(&mut self.held[filled..])?;
            if got == 0 {
                return Err("the server closed the connection".into());
            }
            filled += got;
            let head = &self.held[..filled];
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.held[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap_or_default().parse()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(Ok(0), |length| length.trim().parse())?;
        let mut left = length.saturating_sub(filled - end);
        while left > 0 {
            let most = left.min(self.held.len());
            match self.stream.read(&mut self.held[..most])? {
                0 => return Err(format!("{left} bytes are missing").into()),
                got => left -= got,
            }
        }
        Ok((status, length))
    }
}
