//! rtla's own words, as a machine of this project gave them, and what cannot be theirs.

use super::*;

const TIMERLAT: &str = include_str!("../tests/data/rtla-timerlat.txt");
const OSNOISE: &str = include_str!("../tests/data/rtla-osnoise.txt");

#[test]
fn a_timerlat_of_a_machine_is_read_whole() {
    let columns = read(TIMERLAT).unwrap();
    let kinds: Vec<_> = columns.iter().map(|column| (column.kind, column.cpu)).collect();
    let of = |cpu| [(Kind::Interrupt, cpu), (Kind::Thread, cpu), (Kind::User, cpu)];
    assert_eq!(kinds, [of(0), of(1)].concat());
    for column in &columns {
        let Column { kind, cpu, histogram, .. } = column;
        let told = row("count:", columns.iter().position(|c| c == column).unwrap());
        assert_eq!(histogram.count().to_string(), told, "{kind:?} on CPU {cpu}");
        let told = row("max:", columns.iter().position(|c| c == column).unwrap());
        assert_eq!((histogram.max_ns().unwrap() / 1000).to_string(), told, "{kind:?} on CPU {cpu}");
    }
    // A thread runs no earlier than its timer's interrupt.
    let worst = |kind| {
        let own: Vec<_> = columns.iter().filter(|column| column.kind == kind).collect();
        together(own).max_ns().unwrap()
    };
    assert!(worst(Kind::Interrupt) <= worst(Kind::Thread));
}

/// A cell of the first row of this name.
fn row(name: &str, column: usize) -> String {
    let line = TIMERLAT.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().nth(column).unwrap().to_owned()
}

#[test]
fn an_osnoise_of_a_machine_is_read_whole() {
    let columns = read(OSNOISE).unwrap();
    assert!(columns.iter().all(|column| column.kind == Kind::Noise), "{columns:?}");
    assert!(together(&columns).count() > 0);
}

fn table(rows: &str) -> String {
    format!(
        "# RTLA timerlat histogram\n# Time unit is microseconds (us)\nIndex   IRQ-000   Thr-000\n{rows}"
    )
}

#[test]
fn what_lies_beyond_the_histogram_counts_at_the_maximum() {
    let rows = "3  5 4\nover: 0 2\ncount: 5 6\nmin: 3 3\navg: 3 9.5\nmax: 3 41\nALL: IRQ Thr\ncount: 11 11\n";
    let columns = read(&table(rows)).unwrap();
    assert_eq!((columns[1].beyond, columns[1].histogram.max_ns()), (2, Some(41_000)));
    assert_eq!(columns[1].histogram.above(20_000), 2);
}

#[test]
fn a_cpu_that_saw_nothing_has_no_samples() {
    let rows = "over: 0 0\ncount: 0 0\nmin: - -\navg: - -\nmax: - -\n";
    let columns = read(&table(rows)).unwrap();
    assert!(columns.iter().all(|column| column.histogram.count() == 0));
}

#[test]
fn what_is_no_histogram_of_rtla_is_refused() {
    let cases = [
        ("".to_owned(), "measured nothing"),
        ("Could not init osnoise tool".to_owned(), "measured nothing"),
        (table("3 5\n"), "cannot be read at \"3 5\""),
        (table("x 5 5\n"), "cannot be read at \"x 5 5\""),
        (table("3 5 4\ncount: 5 9\n"), "4 samples in its bins, 9 counted"),
        (table("3 5 4\ncount: 5 4\nmax: 3 9\n"), "the maximum 9 us"),
        (TIMERLAT.replace("microseconds (us)", "nanoseconds (ns)"), "not in microseconds"),
        (TIMERLAT.replacen("Thr-000", "Foo-000", 1), "Foo-000"),
    ];
    for (text, words) in cases {
        let said = read(&text).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
}
