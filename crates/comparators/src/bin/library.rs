//! The store's library beside the engine under it, and the earlier edition: the same keys, the same
//! order, one process each, one after the other.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "benchmarks report")]

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use comparators::{
    SHARED, anonymous, argument, key, memory, number, rate, scattered, suffix, value,
};
use redb::{Database, TableDefinition};
use serde_json::{Map, Value, json};
use streamdb::{Key, Operation, Options, Put, Query, Store};

type Done<T> = Result<T, Box<dyn Error>>;

const BATCH: usize = 1000;
const CACHE: usize = 64 << 20;
const SINGLE: usize = 2000;
const GETS: usize = 200_000;
const SEARCHES: usize = 2000;
const LISTS: usize = 100;
const LISTED: usize = 1000;

/// Figure, what it is called, whether more of it is better.
const ROWS: [(&str, &str, bool); 8] = [
    ("batched", "batched insert /s", true),
    ("single", "durable insert /s", true),
    ("get", "random get /s", true),
    ("search", "suffix search, 200 hits /s", true),
    ("list", "list of 1000 keys, ms", false),
    ("open", "open, ms", false),
    ("memory", "memory a key, bytes", false),
    ("resident", "resident after gets, MB", false),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("library: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Done<()> {
    let keys = number("--keys", 1_000_000)?;
    if let Some(engine) = argument("--engine") {
        let dir = argument("--dir").ok_or("--engine wants --dir")?;
        let dir = Path::new(&dir);
        let reads = argument("--phase").is_some_and(|phase| phase == "read");
        let told = match engine.as_str() {
            "redb" if reads => read_raw(dir, keys)?,
            "redb" => fill_raw(dir, keys)?,
            "streamdb" if reads => read_ours(dir, keys)?,
            "streamdb" => fill_ours(dir, keys)?,
            other => return Err(format!("there is no engine {other:?}").into()),
        };
        println!("{told}");
        return Ok(());
    }
    let base = argument("--on").unwrap_or_else(|| "target".to_owned());
    std::fs::create_dir_all(&base)?;
    let dir = tempfile::tempdir_in(base)?;
    let mut all = vec![];
    for engine in ["redb", "streamdb"] {
        let at = dir.path().join(engine);
        std::fs::create_dir(&at)?;
        let at = at.display().to_string();
        let mut told = Map::new();
        // Processes of their own: memory that filling has freed would hide what reading takes.
        for phase in ["fill", "read"] {
            let keys = keys.to_string();
            let words = ["--engine", engine, "--dir", &at, "--keys", &keys, "--phase", phase];
            let part = ask(Command::new(std::env::current_exe()?).args(words))?;
            told.extend(part.as_object().cloned().unwrap_or_default());
        }
        if engine == "streamdb" {
            told.insert("http".to_owned(), over_http(Path::new(&at), keys)?);
        }
        all.push((engine, Value::Object(told)));
        std::fs::remove_dir_all(&at)?;
    }
    if let Some(folder) = argument("--earlier") {
        match earlier(Path::new(&folder), dir.path(), keys) {
            Ok(told) => all.push(("earlier", told)),
            Err(error) => eprintln!("the earlier edition did not come to an end: {error}"),
        }
    }
    if std::env::args().any(|word| word == "--json") {
        let engines: Map<String, Value> =
            all.into_iter().map(|(name, told)| (name.to_owned(), told)).collect();
        println!(
            "{}",
            json!({ "schema": "streamdb.comparison/1", "keys": keys, "engines": engines })
        );
        return Ok(());
    }
    table(keys, &all);
    Ok(())
}

fn table(keys: usize, all: &[(&str, Value)]) {
    println!(
        "{keys} keys, values of 100 bytes, batches of {BATCH}; ratio: the store's to the other's"
    );
    print!("{:<28}", "");
    all.iter().for_each(|(name, _)| print!("{name:>14}"));
    println!("{:>12}{:>12}", "to redb", "to earlier");
    for (row, called, more) in ROWS {
        print!("{called:<28}");
        let figures: Vec<Option<f64>> = all.iter().map(|(_, told)| told[row].as_f64()).collect();
        for figure in &figures {
            match figure {
                Some(figure) => print!("{figure:>14.1}"),
                None => print!("{:>14}", "-"),
            }
        }
        let ours = figures.get(1).copied().flatten();
        for other in [0, 2] {
            match (ours, figures.get(other).copied().flatten()) {
                (Some(ours), Some(other)) if more => print!("{:>11.0}%", 100.0 * ours / other),
                (Some(ours), Some(other)) => print!("{:>11.2}x", ours / other),
                _ => print!("{:>12}", "-"),
            }
        }
        println!();
    }
    println!(
        "redb, streamdb: durable. The engine keeps keys and values alone; the store also SHA-256,"
    );
    println!(
        "times, version, counters, and verifies what it reads. Its search gives the facts of each hit."
    );
    if let Some((_, told)) = all.get(1) {
        let http = |name: &str| told["http"][name].as_f64().unwrap_or(f64::NAN);
        println!(
            "over HTTP: first answer {:.0} ms after the server's start; list of {LISTED} keys {:.1} ms; \
             200 hits by suffix {:.1} ms; resident {:.0} MB after them, with a cache of 64 MiB",
            http("open"),
            http("list"),
            http("search"),
            http("resident"),
        );
    }
    if let Some((_, told)) = all.get(2) {
        println!(
            "earlier: inserts reach memory only, and the disk at the next flush of the whole file; its"
        );
        println!("durable insert is insert and flush at this number of keys.");
        match told["lost"].as_u64() {
            Some(0) => println!("Its gets and searches are of memory, after a reopening."),
            lost => println!(
                "After flush, close and reopening it refused {} of the keys; its gets and searches \
                 are of a store in memory that was never closed.",
                lost.map_or("an unknown number".to_owned(), |lost| lost.to_string())
            ),
        }
    }
}

fn ask(command: &mut Command) -> Done<Value> {
    let said = command.output()?;
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        return Err(format!("{command:?}: {}: {why}", said.status).into());
    }
    Ok(serde_json::from_slice(&said.stdout)?)
}

const BY_KEY: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("by-key");
const BACKWARDS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("backwards");

fn backwards(text: &str) -> Vec<u8> {
    text.bytes().rev().collect()
}

/// The engine alone.
fn fill_raw(dir: &Path, keys: usize) -> Done<Value> {
    let path = dir.join("raw.redb");
    let db =
        Database::builder().create_with_file_format_v3(true).set_cache_size(CACHE).create(&path)?;
    let insert = |from: usize, to: usize| -> Done<()> {
        let txn = db.begin_write()?;
        {
            let mut by_key = txn.open_table(BY_KEY)?;
            let mut by_suffix = txn.open_table(BACKWARDS)?;
            for at in from..to {
                let key = key(at, keys);
                by_key.insert(key.as_bytes(), value(at).as_slice())?;
                by_suffix.insert(backwards(&key).as_slice(), ())?;
            }
        }
        txn.commit()?;
        Ok(())
    };
    let batched = rate(keys / BATCH, |at| insert(at * BATCH, (at + 1) * BATCH))? * BATCH as f64;
    let single = rate(SINGLE, |at| insert(keys + at, keys + at + 1))?;
    Ok(json!({ "batched": batched, "single": single }))
}

fn read_raw(dir: &Path, keys: usize) -> Done<Value> {
    let path = dir.join("raw.redb");
    let before = anonymous();
    let begun = Instant::now();
    let db = Database::builder().set_cache_size(CACHE).open(&path)?;
    let open = begun.elapsed().as_secs_f64() * 1e3;
    let mut state = 1;
    let mut get = || -> Done<()> {
        let at = scattered(&mut state) % keys;
        let txn = db.begin_read()?;
        let table = txn.open_table(BY_KEY)?;
        let found = table.get(key(at, keys).as_bytes())?.ok_or("a key is lost")?;
        if found.value().to_vec() == value(at) { Ok(()) } else { Err("another value came".into()) }
    };
    // Once to fill the cache.
    rate(GETS / 4, |_| get())?;
    let gets = rate(GETS, |_| get())?;
    let a_key = anonymous().saturating_sub(before) as f64 / keys as f64;
    let resident = memory_now();
    let mut state = 5;
    let list = rate(LISTS, |_| -> Done<()> {
        let from = key(scattered(&mut state) % (keys - LISTED), keys);
        let txn = db.begin_read()?;
        let mut page = Vec::new();
        for item in txn.open_table(BY_KEY)?.range(from.as_bytes()..)?.take(LISTED) {
            let (key, value) = item?;
            page.push((key.value().to_vec(), value.value().to_vec()));
        }
        if page.len() == LISTED { Ok(()) } else { Err("keys are lost".into()) }
    })?;
    let mut state = 7;
    let search = rate(SEARCHES, |_| -> Done<()> {
        let suffix = backwards(&suffix(scattered(&mut state), keys));
        let txn = db.begin_read()?;
        let (by_key, by_suffix) = (txn.open_table(BY_KEY)?, txn.open_table(BACKWARDS)?);
        let mut hits = Vec::new();
        for item in by_suffix.range(suffix.as_slice()..)? {
            let (found, ()) = (item?.0, ());
            if !found.value().starts_with(&suffix) {
                break;
            }
            let key: Vec<u8> = found.value().iter().rev().copied().collect();
            let value = by_key.get(key.as_slice())?.ok_or("a key is lost")?.value().to_vec();
            hits.push((key, value));
        }
        if hits.len() < SHARED { Err("hits are lost".into()) } else { Ok(()) }
    })?;
    Ok(json!({ "get": gets, "search": search, "list": 1e3 / list, "open": open, "memory": a_key,
        "resident": resident }))
}

/// The store.
fn fill_ours(dir: &Path, keys: usize) -> Done<Value> {
    let options = Options { cache: CACHE, ..Options::default() };
    let store = Store::open(dir, &options)?;
    let batched = rate(keys / BATCH, |batch| -> Done<()> {
        let operations: Result<Vec<_>, _> = (batch * BATCH..(batch + 1) * BATCH)
            .map(|at| {
                Key::new(key(at, keys)).map(|key| Operation::Put {
                    key,
                    value: value(at).to_vec(),
                    put: Put::default(),
                })
            })
            .collect();
        store.batch(&operations?)?;
        Ok(())
    })? * BATCH as f64;
    let single = rate(SINGLE, |at| -> Done<()> {
        store.put(&Key::new(key(keys + at, keys))?, &value(at), &Put::default())?;
        Ok(())
    })?;
    Ok(json!({ "batched": batched, "single": single }))
}

fn read_ours(dir: &Path, keys: usize) -> Done<Value> {
    let options = Options { cache: CACHE, ..Options::default() };
    let before = anonymous();
    let begun = Instant::now();
    let store = Store::open(dir, &options)?;
    let open = begun.elapsed().as_secs_f64() * 1e3;
    let mut state = 1;
    let mut get = || -> Done<()> {
        let at = scattered(&mut state) % keys;
        let found = store.get(&Key::new(key(at, keys))?)?.ok_or("a key is lost")?;
        if found.into_bytes()? == value(at) { Ok(()) } else { Err("another value came".into()) }
    };
    rate(GETS / 4, |_| get())?;
    let gets = rate(GETS, |_| get())?;
    let a_key = anonymous().saturating_sub(before) as f64 / keys as f64;
    let resident = memory_now();
    let mut state = 5;
    let list = rate(LISTS, |_| -> Done<()> {
        let cursor = Some(key(scattered(&mut state) % (keys - LISTED), keys));
        let page = store.list(&Query { cursor, limit: LISTED, ..Query::default() })?;
        if page.entries.len() == LISTED { Ok(()) } else { Err("keys are lost".into()) }
    })?;
    let mut state = 7;
    let search = rate(SEARCHES, |_| -> Done<()> {
        let suffix = suffix(scattered(&mut state), keys);
        let page = store.list(&Query { suffix, ..Query::default() })?;
        if page.entries.len() < SHARED { Err("hits are lost".into()) } else { Ok(()) }
    })?;
    Ok(json!({ "get": gets, "search": search, "list": 1e3 / list, "open": open, "memory": a_key,
        "resident": resident }))
}

/// The same store behind its server: what a client waits for, and what the server takes for it.
fn over_http(dir: &Path, keys: usize) -> Done<Value> {
    let mut program = std::env::current_exe()?;
    program.set_file_name("streamdb");
    let begun = Instant::now();
    let mut child = Command::new(program)
        .args(["serve", "--listen", "127.0.0.1:0", "--cache", "64M", "--data"])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let measured = (|| -> Done<Value> {
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.ok_or("streamdb did not start")?;
        let mut stream = BufReader::new(TcpStream::connect(address)?);
        ask_http(&mut stream, "/v1/objects?limit=1")?;
        let open = begun.elapsed().as_secs_f64() * 1e3;
        let mut state = 5;
        let list = rate(LISTS, |_| {
            let cursor = key(scattered(&mut state) % (keys - LISTED), keys);
            let told =
                ask_http(&mut stream, &format!("/v1/objects?limit={LISTED}&cursor={cursor}"))?;
            counted(&told, LISTED)
        })?;
        let mut state = 7;
        let search = rate(LISTS, |_| {
            let suffix = suffix(scattered(&mut state), keys);
            let told = ask_http(&mut stream, &format!("/v1/objects?suffix={suffix}"))?;
            counted(&told, SHARED)
        })?;
        let resident = memory(&child.id().to_string(), "VmRSS:");
        Ok(json!({ "open": open, "list": 1e3 / list, "search": 1e3 / search,
            "resident": resident.map(|bytes| bytes as f64 / 1e6) }))
    })();
    child.kill()?;
    child.wait()?;
    measured
}

fn counted(page: &[u8], least: usize) -> Done<()> {
    let page: Value = serde_json::from_slice(page)?;
    let count = page["entries"].as_array().map_or(0, Vec::len);
    if count >= least { Ok(()) } else { Err(format!("{count} entries came").into()) }
}

/// One request on a connection that stays open.
fn ask_http(stream: &mut BufReader<TcpStream>, path: &str) -> Done<Vec<u8>> {
    // In one packet: what comes after the first waits for the other side.
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes())?;
    let mut length = None;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if !line.contains(" 200 ") {
        return Err(line.into());
    }
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let told = line.trim().to_ascii_lowercase();
        if told.is_empty() {
            break;
        }
        if let Some(told) = told.strip_prefix("content-length:") {
            length = Some(told.trim().parse()?);
        }
    }
    let mut body = vec![0; length.ok_or("an answer without its length")?];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// What this process has in memory, in MB.
fn memory_now() -> Option<f64> {
    memory("self", "VmRSS:").map(|bytes| bytes as f64 / 1e6)
}

/// The earlier edition, through its C functions.
fn earlier(folder: &Path, dir: &Path, keys: usize) -> Done<Value> {
    let program = dir.join("earlier");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/earlier.c");
    let library = folder.join("target/release/libstreamdb.a");
    let built = Command::new("cc")
        .args(["-O2", "-o"])
        .args([&program, Path::new(source)])
        .arg("-I")
        .arg(folder.join("include"))
        .arg(&library)
        .args(["-lpthread", "-ldl", "-lm"])
        .status()?;
    if !built.success() {
        return Err(format!("{} could not be linked", library.display()).into());
    }
    let file = dir.join("earlier.db");
    ask(Command::new(program).arg(file).arg(keys.to_string()))
}
