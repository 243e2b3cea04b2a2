//! Nothing recorded is lost, merged histograms are those of all samples, no quantile from thin air.

use proptest::prelude::*;

use super::*;

fn of(samples: &[u64]) -> Histogram {
    let mut histogram = Histogram::new();
    samples.iter().for_each(|ns| histogram.record(*ns));
    histogram
}

#[test]
fn the_json_form_keeps_the_exact_maximum() {
    let text = serde_json::to_string(&of(&[3012, 17_480, 3900])).unwrap();
    let expected =
        r#"{"unit":"us","bins":[[3,2],[17,1]],"min_ns":3012,"max_ns":17480,"sum_ns":24392}"#;
    assert_eq!(text, expected);
    assert_eq!(serde_json::to_string(&of(&[])).unwrap(), r#"{"unit":"us","bins":[],"sum_ns":0}"#);
}

#[test]
fn what_contradicts_itself_is_refused() {
    for text in [
        r#"{"unit":"ms","bins":[],"sum_ns":0}"#,
        r#"{"unit":"us","bins":[[3,2],[3,1]],"min_ns":3000,"max_ns":3000,"sum_ns":9000}"#,
        r#"{"unit":"us","bins":[[3,0]],"min_ns":3000,"max_ns":3000,"sum_ns":0}"#,
        r#"{"unit":"us","bins":[[3,1]],"min_ns":3000,"max_ns":9000,"sum_ns":3000}"#,
        r#"{"unit":"us","bins":[[3,1]],"sum_ns":3000}"#,
        r#"{"unit":"us","bins":[],"min_ns":1,"max_ns":2,"sum_ns":3}"#,
    ] {
        assert!(serde_json::from_str::<Histogram>(text).is_err(), "{text}");
    }
}

#[test]
fn a_quantile_stands_on_enough_samples_or_not_at_all() {
    let needed: Vec<_> = QUANTILES.iter().map(|q| Histogram::samples_for(*q).unwrap()).collect();
    assert_eq!(needed, [5, 29, 299, 2995, 29_956, 299_572]);
    let hundred = of(&(1..=100).map(|us| us * 1000).collect::<Vec<_>>());
    let shown: Vec<_> = hundred.quantiles().iter().map(|q| (q.q, q.at_most_ns)).collect();
    assert_eq!(shown, [(0.5, 51_000), (0.9, 91_000)]);
    assert_eq!(of(&[]).quantiles(), []);
    assert_eq!((Histogram::samples_for(0.0), Histogram::samples_for(1.0)), (None, None));
}

#[test]
fn the_complementary_distribution_falls_from_one_to_nothing() {
    let points = of(&[1500, 1600, 1700, 9000]).complementary();
    assert_eq!(points, [(1, 1.0), (2, 0.25), (9, 0.25), (10, 0.0)]);
    assert!(of(&[]).complementary().is_empty());
}

fn samples() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(0_u64..3_000_000, 0..200)
}

proptest! {
    #[test]
    fn merging_is_recording_all(a in samples(), b in samples()) {
        let mut merged = of(&a);
        merged.merge(&of(&b));
        let both: Vec<u64> = a.into_iter().chain(b).collect();
        prop_assert_eq!(merged, of(&both));
    }

    #[test]
    fn json_and_back_is_the_same(a in samples()) {
        let text = serde_json::to_string(&of(&a)).unwrap();
        prop_assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), of(&a));
    }

    #[test]
    fn a_quantile_is_the_sorted_sample_s_to_the_microsecond(mut a in samples(), q in 0.01_f64..0.99) {
        let found = of(&a).quantile(q);
        a.sort_unstable();
        if let Some(found) = found {
            let rank = (q * a.len() as f64).ceil() as usize;
            let exact = a[rank - 1];
            prop_assert!(exact <= found.at_most_ns && found.at_most_ns <= exact + 1000);
        } else {
            prop_assert!(!Histogram::supports(a.len() as u64, q));
        }
    }

    #[test]
    fn what_may_lie_above_is_never_less_than_what_does(a in samples(), ns in 0_u64..3_000_000) {
        let really = a.iter().filter(|sample| **sample > ns).count() as u64;
        prop_assert!(of(&a).above(ns) >= really);
        prop_assert!(of(&a).above(ns) <= a.iter().filter(|s| **s / 1000 >= ns / 1000).count() as u64);
    }
}
