//! Verdicts on made-up runs: each of the outcomes, and what must not be mistaken for evidence.

use proptest::prelude::*;

use super::*;
use crate::{Conditions, NamedHistogram, RUN_SCHEMA, Window, Xrun};

const PERIOD_NS: u64 = 666_667;

/// A run of this many periods at 32 frames with xruns at these periods.
pub(crate) fn run(seed: u64, periods: u64, xruns: &[u64]) -> Run {
    let end_ns = periods * PERIOD_NS;
    let xrun = |period: &u64| Xrun {
        at_ns: period * PERIOD_NS,
        period: Some(*period),
        source: Meter::JackCallback,
        client: None,
        delayed_ns: None,
    };
    Run {
        schema: RUN_SCHEMA.into(),
        id: format!("seed-{seed}"),
        source: Source::VirtualTime,
        conditions: Conditions {
            server: "jack".into(),
            rate: 48000,
            quantum: 32,
            seed: Some(seed),
            ..Conditions::default()
        },
        window: Window { start_ns: 0, end_ns, warmup_ns: 0 },
        periods,
        xruns: xruns.iter().map(xrun).collect(),
        counters: [(Meter::JackCallback, xruns.len() as u64)].into(),
        histograms: Vec::new(),
        round_trip: None,
        dsp_load: None,
        cost: crate::Cost::default(),
    }
}

/// Every so many periods.
fn every(step: u64, periods: u64) -> Vec<u64> {
    (0..periods / step).map(|i| i * step).collect()
}

#[test]
fn a_clean_run_holds_from_2995_periods_on_and_not_before() {
    let verdict = |periods| judge(&[run(1, periods, &[])], &Target::audio());
    assert_eq!(verdict(2995).verdict, Verdict::Held);
    let short = verdict(2994);
    assert_eq!(short.verdict, Verdict::NotEnoughSamples);
    let more = short.criteria[0].more.unwrap();
    assert_eq!(more.samples, 2995);
    assert!((more.seconds.unwrap() - 2995.0 / 1500.0).abs() < 1e-3);
    assert_eq!(verdict(0).verdict, Verdict::NotEnoughSamples);
}

#[test]
fn lone_xruns_are_judged_by_clopper_and_pearson() {
    let with = |periods, k: u64| {
        judge(&[run(1, periods, &every(periods / k, periods)[..k as usize])], &Target::audio())
    };
    assert_eq!(with(10_511, 5).verdict, Verdict::Held);
    assert_eq!(with(10_510, 5).verdict, Verdict::NotEnoughSamples);
    // Twice the share that is allowed is broken only once there is enough of it.
    assert_eq!(with(1000, 2).verdict, Verdict::NotEnoughSamples);
    assert_eq!(with(100_000, 200).verdict, Verdict::Broken);
}

#[test]
fn a_burst_is_one_event_and_carries_less_than_lone_xruns() {
    let burst: Vec<u64> = (500..510).collect();
    let judged = judge(&[run(1, 20_140, &burst)], &Target::audio());
    assert_eq!((judged.xruns, judged.episodes), (10, Some(1)));
    // Ten lone xruns would hold here (the 99 % table even); a burst of ten in 20,140 does not.
    assert_eq!(judged.verdict, Verdict::NotEnoughSamples);
    let lone = judge(&[run(1, 20_140, &every(2014, 20_140))], &Target::audio());
    assert_eq!(lone.verdict, Verdict::Held);
    assert!(judged.share_below[0] > 2.0 * lone.share_below[0]);
}

#[test]
fn a_share_exactly_on_the_limit_would_never_tell() {
    let judged = judge(&[run(1, 10_000, &every(1000, 10_000))], &Target::audio());
    assert_eq!(judged.verdict, Verdict::NotEnoughSamples);
    assert_eq!(judged.criteria[0].more, None);
}

#[test]
fn a_lab_s_limit_is_a_count() {
    let target = Target::xruns(0);
    assert_eq!(judge(&[run(1, 7500, &[])], &target).verdict, Verdict::Held);
    assert_eq!(judge(&[run(1, 7500, &[3])], &target).verdict, Verdict::Broken);
    assert_eq!(judge(&[run(1, 7500, &[3])], &Target::xruns(1)).verdict, Verdict::Held);
    assert_eq!(judge(&[run(1, 0, &[])], &target).verdict, Verdict::NotEnoughSamples);
    let one_of_three = [run(1, 7500, &[]), run(2, 7500, &[9]), run(3, 7500, &[])];
    let judged = judge(&one_of_three, &target);
    assert_eq!(
        (judged.verdict, judged.trials.failing, judged.trials.runs),
        (Verdict::Broken, 1, 3)
    );
}

#[test]
fn no_runs_or_no_meter_is_no_evidence_and_no_limit_no_verdict() {
    let target = Target::xruns(0);
    assert_eq!(judge(&[], &target).verdict, Verdict::NotJudged);
    let mut blind = run(1, 7500, &[]);
    blind.counters.clear();
    assert_eq!(judge(&[blind.clone()], &target).verdict, Verdict::NotEnoughSamples);
    assert_eq!(judge(&[blind], &Target::audio()).verdict, Verdict::NotEnoughSamples);
    let none = Target { limits: Vec::new(), confidence: Confidence::C95 };
    assert_eq!(judge(&[run(1, 7500, &[])], &none).verdict, Verdict::NotAsked);
}

#[test]
fn runs_as_trials_bound_the_share_of_failing_runs() {
    let clean: Vec<Run> = (0..59).map(|seed| run(seed, 7500, &[])).collect();
    let trials = judge(&clean, &Target::xruns(0)).trials;
    assert!(trials.failing_below[0] < 0.05 && trials.failing_below[1] > 0.05, "{trials:?}");
    let trials = judge(&clean[..58], &Target::xruns(0)).trials;
    assert!(trials.failing_below[0] > 0.05);
}

#[test]
fn a_repeated_run_is_one_sample_and_one_that_differs_is_told() {
    let twice = [run(1, 2000, &[]), run(1, 2000, &[])];
    let judged = judge(&twice, &Target::audio());
    assert_eq!((judged.periods, judged.trials.runs, judged.trials.repeated), (2000, 1, 1));
    assert_eq!(judged.verdict, Verdict::NotEnoughSamples);
    assert!(judged.notes[0].contains("counted once"), "{:?}", judged.notes);
    let differ = [run(1, 2000, &[]), run(1, 2000, &[5])];
    assert!(judge(&differ, &Target::audio()).notes[0].contains("did not repeat"));
    // On real hardware the same conditions twice are two samples.
    let real = twice.map(|run| Run { source: Source::BareMetal, ..run });
    assert_eq!(judge(&real, &Target::audio()).verdict, Verdict::Held);
}

#[test]
fn nothing_is_judged_under_emulation() {
    for xruns in [vec![], every(10, 7500)] {
        let emulated = Run { source: Source::Emulation, ..run(1, 7500, &xruns) };
        let judged = judge(&[emulated], &Target::audio());
        assert_eq!(judged.verdict, Verdict::NotJudged);
        assert_eq!(judged.criteria[0].outcome, Outcome::NotJudged);
        assert_eq!(judged.verdict.word(), "emulated: not judged");
    }
}

#[test]
fn a_count_without_times_is_taken_for_one_episode() {
    let mut counted = run(1, 7500, &[]);
    counted.counters.insert(Meter::PwTop, 5);
    let judged = judge(&[counted.clone()], &Target::audio());
    assert_eq!(
        (judged.xruns, judged.episodes, judged.verdict),
        (5, None, Verdict::NotEnoughSamples)
    );
    counted.counters.insert(Meter::PwTop, 1445);
    assert_eq!(judge(&[counted], &Target::audio()).verdict, Verdict::Broken);
}

#[test]
fn zero_xruns_in_t_hours_bound_the_rate_at_three_over_t() {
    let judged = judge(&[run(1, 900_000, &[])], &Target::audio());
    let hours = judged.seconds / 3600.0;
    let [at95, at99] = judged.per_hour_below.unwrap();
    assert!((at95 * hours - 2.9957).abs() < 1e-3 && (at99 * hours - 4.6052).abs() < 1e-3);
    assert_eq!(judged.rate_words().unwrap(), "none seen; at most 18 episodes, at 95 %");
}

pub(crate) fn with_wakeups(samples: u64, worst_ns: u64) -> Run {
    let mut histogram = crate::Histogram::new();
    (1..samples).for_each(|_| histogram.record(5_000));
    histogram.record(worst_ns);
    let mut run = run(1, 7500, &[]);
    let (name, title) = ("wakeup".to_owned(), "Timer to thread".to_owned());
    run.histograms.push(NamedHistogram { name, title, histogram });
    run
}

#[test]
fn a_worst_case_takes_samples_to_hold_and_one_to_break() {
    let verdict = |samples, worst| {
        let run = with_wakeups(samples, worst);
        let judged = judge(std::slice::from_ref(&run), &Target::for_run(&run));
        judged.criteria[1].clone()
    };
    assert_eq!(verdict(2995, 50_000).outcome, Outcome::Held);
    assert_eq!(verdict(2995, 50_001).outcome, Outcome::Broken);
    assert_eq!(verdict(10, 50_001).outcome, Outcome::Broken);
    let short = verdict(100, 20_000);
    assert_eq!((short.outcome, short.more.unwrap().samples), (Outcome::NotEnoughSamples, 2995));
    assert_eq!(short.title, "worst wakeup <= 50 us");
}

/// The verdict's words, as a report shows them.
#[test]
fn the_words_of_verdicts() {
    let runs = [
        vec![run(1, 7500, &[])],
        vec![run(1, 2000, &[])],
        vec![run(1, 7500, &[40, 41, 42, 900])],
        vec![run(1, 100_000, &every(500, 100_000))],
        vec![Run { source: Source::Emulation, ..run(1, 7500, &[7]) }],
    ];
    let mut lines = Vec::new();
    for runs in runs {
        let judged = judge(&runs, &Target::audio());
        let criterion = &judged.criteria[0];
        lines.push(format!(
            "{}: {}: {}; {}; {}; {}",
            judged.verdict.word(),
            criterion.title,
            criterion.found,
            criterion.bound.as_deref().unwrap_or("-"),
            criterion.more.map_or("-".into(), |more| more.words()),
            judged.rate_words().unwrap(),
        ));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_length_that_is_told_does_tell(periods in 1_u64..3000) {
        let judged = judge(&[run(1, periods, &[])], &Target::audio());
        if let Some(more) = judged.criteria[0].more {
            let again = judge(&[run(1, more.samples, &[])], &Target::audio());
            prop_assert_eq!(again.verdict, Verdict::Held);
            prop_assert!(more.samples > periods);
        } else {
            prop_assert_eq!(judged.verdict, Verdict::Held);
        }
    }

    #[test]
    fn more_xruns_never_make_it_better(
        periods in 100_u64..20_000,
        xruns in proptest::collection::btree_set(0_u64..100, 0..20),
        another in 0_u64..100,
    ) {
        let fewer: Vec<u64> = xruns.iter().copied().filter(|p| *p != another).collect();
        let mut more = fewer.clone();
        more.push(another);
        more.sort_unstable();
        let bound = |xruns: &[u64]| judge(&[run(1, periods, xruns)], &Target::audio()).xruns;
        prop_assert!(bound(&more) > bound(&fewer));
    }
}
