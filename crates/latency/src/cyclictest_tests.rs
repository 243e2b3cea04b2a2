#![allow(clippy::unwrap_used)]

use super::*;

/// cyclictest 2.40's own words, from a run with a histogram of 20 us that was too short.
const RESULT: &str = r##"{
  "file_version": 1,
  "cmdline:": "cyclictest -m -t 2 -a 0,1 -p 90 -i 1000 -h 20 -q -D 1 --json=c.json",
  "rt_test_version:": "2.40",
  "start_time": "Fri, 27 Nov 2026 19:21:59 +0000",
  "end_time": "Fri, 27 Nov 2026 19:22:00 +0000",
  "return_code": 0,
  "sysinfo": { "sysname": "Linux", "nodename": "vm", "release": "6.12.0-rt", "version": "#1 SMP PREEMPT_RT",
    "machine": "x86_64", "realtime": 1 },
  "num_threads": 2,
  "resolution_in_ns": 0,
  "thread": {
    "0": { "histogram": { "16": 1, "18": 7, "19": 8 }, "cycles": 18, "min": 16, "max": 1379, "avg": 42.78,
      "cpu": 0, "node": 0 },
    "1": { "histogram": { "3": 990, "5": 10 }, "cycles": 1000, "min": 3, "max": 5, "avg": 3.02,
      "cpu": 1, "node": 0 }
  }
}"##;

#[test]
fn the_figures_are_cyclictests_own() {
    let read = Cyclictest::from_json(RESULT).unwrap();
    assert_eq!(
        (read.version.as_str(), read.kernel.as_str()),
        ("2.40", "6.12.0-rt #1 SMP PREEMPT_RT")
    );
    let audio = read.on(|cpu| cpu == 1);
    assert_eq!((audio.count(), audio.min_ns(), audio.max_ns()), (1000, Some(3000), Some(5000)));
    assert_eq!(audio.bins().collect::<Vec<_>>(), [(3, 990), (5, 10)]);
    assert_eq!(read.on(|_| true).count(), 1018);
}

#[test]
fn what_lay_beyond_the_histogram_is_told_and_never_made_earlier() {
    let read = Cyclictest::from_json(RESULT).unwrap();
    let thread = &read.threads[0];
    assert_eq!((thread.beyond, thread.latency.count()), (2, 18));
    assert_eq!(thread.latency.max_ns(), Some(1_379_000));
    assert_eq!(thread.latency.above(20_000), 2);
    assert_eq!(read.threads[1].beyond, 0);
}

#[test]
fn what_is_no_result_is_refused() {
    for (from, to, words) in [
        ("\"file_version\": 1", "\"file_version\": 2", "file version 2"),
        ("\"return_code\": 0", "\"return_code\": 1", "status 1"),
        ("\"cycles\": 18", "\"cycles\": \"many\"", "cannot be read"),
    ] {
        let said = Cyclictest::from_json(&RESULT.replace(from, to)).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
    let empty =
        RESULT.replace("\"16\": 1, \"18\": 7, \"19\": 8", "").replace("\"3\": 990, \"5\": 10", "");
    let empty = empty
        .replace("\"cycles\": 1000", "\"cycles\": 0")
        .replace("\"cycles\": 18", "\"cycles\": 0");
    assert!(
        Cyclictest::from_json(&empty).unwrap_err().to_string().contains("no thread has a sample")
    );
}
