//! The run's form: the schema file, a golden file that later versions must read, and documents that
//! are refused.

use super::*;

const SCHEMA: &str = include_str!("../schema/run.schema.json");
const GOLDEN: &str = include_str!("../tests/golden/run-1.json");

/// The schema in the repository is the one that the types give. `UPDATE_SCHEMA=1` rewrites it.
#[test]
fn the_schema_file_is_the_form_that_is_read_and_written() {
    let schema = schemars::schema_for!(Run);
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/run.schema.json");
        std::fs::write(path, &text).unwrap();
        return;
    }
    assert_eq!(SCHEMA, text, "run with UPDATE_SCHEMA=1 and look at the difference");
}

#[test]
fn the_golden_run_is_read_and_written_as_it_stands() {
    let run = Run::from_json(GOLDEN).unwrap();
    assert_eq!(run.to_json().unwrap(), GOLDEN);
    assert_eq!(run.worst_meter(), Some((Meter::JackCallback, 3)));
    assert_eq!(run.histogram("callback").unwrap().histogram.max_ns(), Some(41_730));
}

#[test]
fn a_key_of_a_later_version_is_no_error() {
    let later = GOLDEN.replacen("\"periods\"", "\"from-the-future\": [1],\n  \"periods\"", 1);
    assert_eq!(Run::from_json(&later).unwrap(), Run::from_json(GOLDEN).unwrap());
}

fn refused(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut value: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    change(&mut value);
    Run::from_json(&value.to_string()).unwrap_err().to_string()
}

#[test]
fn what_is_no_run_is_refused_with_the_reason() {
    let said = [
        refused(|run| run["schema"] = "archibald.run/9".into()),
        refused(|run| run["window"]["end_ns"] = 1.into()),
        refused(|run| run["xruns"][0]["at_ns"] = 5.into()),
        refused(|run| run["xruns"].as_array_mut().unwrap().swap(0, 1)),
        refused(|run| run["counters"]["jack-callback"] = 1.into()),
        refused(|run| drop(run.as_object_mut().unwrap().remove("counters"))),
        Run::from_json(&GOLDEN[..200]).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn of_two_meters_the_one_that_saw_more_speaks() {
    let mut run = Run::from_json(GOLDEN).unwrap();
    run.counters.insert(Meter::PwTop, 1445);
    assert_eq!(run.worst_meter(), Some((Meter::PwTop, 1445)));
    run.counters.insert(Meter::PwTop, 3);
    assert_eq!(run.worst_meter(), Some((Meter::JackCallback, 3)));
    run.counters.clear();
    assert_eq!(run.worst_meter(), None);
}
