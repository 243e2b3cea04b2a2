//! `archibald-guest scan`: the checks of rtcqs and realtimeconfigquickscan, for `archibald scan`.

use std::io::Write;

use archibald_host::scan::scan;

use super::Outcome;
use crate::GuestError;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Write the rows as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Outcome, GuestError> {
        let rows = scan(&archibald_host::Root::default())?;
        if self.json {
            serde_json::to_writer(&mut *out, &serde_json::json!({ "schema": 1, "rows": rows }))
                .map_err(std::io::Error::from)?;
            writeln!(out)?;
            return Ok(Outcome::Good);
        }
        for row in &rows {
            let verdict = format!("{:?}", row.verdict);
            writeln!(out, "{verdict:<8} {}: {}", row.title, row.found)?;
        }
        Ok(Outcome::Good)
    }
}
