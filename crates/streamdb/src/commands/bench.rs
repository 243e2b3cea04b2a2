//! `streamdb bench`: how fast a server takes and gives values, from here.

use std::io::{self, Read};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};
use streamdb::Key;

use super::print;
use crate::client::{Client, Server};
use crate::outcome::Failure;

/// Measure how fast a server takes and gives values, one request at a time
///
/// Puts values under a prefix, reads them, and deletes them. What is put is on the server's disk when
/// it is counted. One client on a machine that does other things too: compare rates of one run.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    server: Server,
    /// Beginning of the keys; what is there under keys that begin so may be overwritten and deleted
    #[arg(long, value_name = "PREFIX", default_value = "bench/")]
    prefix: String,
    /// Small values, of 4 KiB
    #[arg(long, value_name = "COUNT", default_value_t = 500,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    small: u32,
    /// Large values, of 64 MiB
    #[arg(long, value_name = "COUNT", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(0..=10_000))]
    large: u32,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// How many values of one size, and how many seconds each kind of request took for all of them.
struct Row {
    bytes: u64,
    count: u32,
    put: f64,
    get: f64,
}

impl Bench {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = self.server.client()?;
        let mut rows = Vec::new();
        for (bytes, count) in [(4096, self.small), (64 << 20, self.large)] {
            if count > 0 {
                rows.push(self.measure(&client, bytes, count)?);
            }
        }
        if self.json {
            let rows: Vec<Value> = rows
                .iter()
                .map(|row| {
                    json!({ "bytes": row.bytes, "count": row.count,
                        "put_per_s": f64::from(row.count) / row.put,
                        "get_per_s": f64::from(row.count) / row.get })
                })
                .collect();
            return print(json!({ "schema": "streamdb.bench/1", "rows": rows }));
        }
        print(format_args!(
            "{:<12}{:>8}{:>12}{:>12}{:>12}{:>12}",
            "size", "values", "put /s", "put MB/s", "get /s", "get MB/s"
        ))?;
        for row in rows {
            let per = |seconds: f64| f64::from(row.count) / seconds;
            let megabytes = |seconds: f64| per(seconds) * row.bytes as f64 / 1e6;
            print(format_args!(
                "{:<12}{:>8}{:>12.1}{:>12.1}{:>12.1}{:>12.1}",
                format!("{} KiB", row.bytes / 1024),
                row.count,
                per(row.put),
                megabytes(row.put),
                per(row.get),
                megabytes(row.get)
            ))?;
        }
        Ok(())
    }

    fn measure(&self, client: &Client, bytes: u64, count: u32) -> Result<Row, Failure> {
        let keys = (0..count)
            .map(|at| {
                Key::new(format!("{}{bytes}-{at}", self.prefix)).map_err(|error| {
                    Failure::new(
                        crate::outcome::Kind::Wrong,
                        error.to_string(),
                        "give another --prefix",
                    )
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let all = |work: &dyn Fn(&Key) -> Result<(), Failure>| {
            let begun = Instant::now();
            keys.iter().try_for_each(work)?;
            Ok::<f64, Failure>(begun.elapsed().as_secs_f64())
        };
        let length = bytes.to_string();
        let put = all(&|key| {
            let mut body = io::repeat(7).take(bytes);
            let headers = [("content-length", length.as_str())];
            client.send("PUT", &client.object(key), &headers, Some(&mut body)).map(drop)
        })?;
        let get = all(&|key| {
            let mut response = client.send("GET", &client.object(key), &[], None)?;
            let got = io::copy(&mut response.body_mut().as_reader(), &mut io::sink());
            got.map(drop).map_err(|error| client.unreachable(&ureq::Error::Io(error)))
        })?;
        all(&|key| client.send("DELETE", &client.object(key), &[], None).map(drop))?;
        Ok(Row { bytes, count, put, get })
    }
}
