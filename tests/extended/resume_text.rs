//! The text form of a resume point, and its form in serde.

#[path = "../support/mod.rs"]
mod support;

use std::error::Error;

use event_buffer::publisher::{ParseResumeError, Publisher, Resume};
use proptest::prelude::{ProptestConfig, any, proptest};
use support::watchdog;

/// Texts that are not resume points.
const WRONG: &[&str] = &[
    "",
    "-",
    "1",
    "1-",
    "-1",
    "01",
    "--1",
    "1--1",
    "1-2-3",
    "+1-2",
    "1-+2",
    " 1-2",
    "1-2 ",
    "1 - 2",
    "01-2",
    "1-02",
    "00-0",
    "a-2",
    "1-b",
    "0x1-2",
    "1.0-2",
    "1–2",
    "١-٢",
    "1-2\0",
    "18446744073709551616-1",
    "1-18446744073709551616",
    "99999999999999999999999-1",
];

#[test]
fn only_the_canonical_text_parses_as_a_resume_point() {
    let _watchdog = watchdog();
    for (epoch, index, text) in [
        (0, 0, "0-0"),
        (7, 12, "7-12"),
        (
            u64::MAX,
            u64::MAX,
            "18446744073709551615-18446744073709551615",
        ),
    ] {
        let place = Resume { epoch, index };
        assert_eq!(place.to_string(), text);
        assert_eq!(text.parse(), Ok(place));
    }
    for text in WRONG {
        assert_eq!(text.parse::<Resume>(), Err(ParseResumeError), "{text:?}");
    }
}

#[test]
fn the_parse_error_names_the_expected_format() {
    let _watchdog = watchdog();
    let error: Box<dyn Error> = "7".parse::<Resume>().unwrap_err().into();
    assert!(error.to_string().contains("epoch-index"), "{error}");
    assert!(error.source().is_none());
    assert_eq!(format!("{ParseResumeError:?}"), "ParseResumeError");
}

/// JSON parsers that use floating point corrupt numbers with more bits.
#[test]
fn default_epochs_have_53_bits_and_differ() {
    let _watchdog = watchdog();
    let epoch = |_| Publisher::<&str, u32>::builder().build().epoch();
    let mut epochs: Vec<u64> = (0..100).map(epoch).collect();
    assert!(epochs.iter().all(|epoch| *epoch < 1 << 53));
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), 100);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_resume_point_parses_from_its_text(epoch in any::<u64>(), index in any::<u64>()) {
        let _watchdog = watchdog();
        let place = Resume { epoch, index };
        assert_eq!(place.to_string().parse(), Ok(place));
    }

    /// A text that parses is displayed unchanged: no two texts are the same resume point.
    #[test]
    fn every_text_that_parses_is_canonical(text in "[+ ]?[0-9]{1,3}-[+ ]?[0-9]{1,3}") {
        let _watchdog = watchdog();
        if let Ok(place) = text.parse::<Resume>() {
            assert_eq!(place.to_string(), text);
        }
    }
}

mod with_serde {
    use std::collections::{BTreeMap, HashMap};

    use serde_json::{from_reader, from_str, from_value, json, to_string, to_value};

    use super::*;

    const PLACE: Resume = Resume {
        epoch: u64::MAX,
        index: 7,
    };
    const JSON: &str = "\"18446744073709551615-7\"";

    #[test]
    fn a_resume_point_is_a_string_in_json() {
        let _watchdog = watchdog();
        assert_eq!(to_string(&PLACE).unwrap(), JSON);
        // The string is borrowed, copied, or owned by the document.
        assert_eq!(from_str::<Resume>(JSON).unwrap(), PLACE);
        assert_eq!(from_reader::<_, Resume>(JSON.as_bytes()).unwrap(), PLACE);
        let document = to_value(PLACE).unwrap();
        assert_eq!(from_value::<Resume>(document).unwrap(), PLACE);
        // A string with an escape cannot be borrowed from the document.
        assert_eq!(from_str::<Resume>(r#""1\u002d2""#).unwrap().index, 2);
    }

    #[test]
    fn resume_points_work_in_fields_lists_and_keys() {
        let _watchdog = watchdog();
        let document = json!({ "after": ["1-2", "3-4"], "before": null });
        let fields: BTreeMap<String, Option<Vec<Resume>>> = from_value(document.clone()).unwrap();
        let places = fields["after"].as_deref().unwrap();
        assert_eq!(places, ["1-2", "3-4"].map(|text| text.parse().unwrap()));
        assert_eq!(fields["before"], None);
        assert_eq!(to_value(&fields).unwrap(), document);

        let by_place = HashMap::from([(PLACE, "client")]);
        let text = to_string(&by_place).unwrap();
        assert_eq!(text, format!("{{{JSON}:\"client\"}}"));
        assert_eq!(from_str::<HashMap<Resume, &str>>(&text).unwrap(), by_place);
    }

    #[test]
    fn other_json_is_an_error_that_names_the_expected_format() {
        let _watchdog = watchdog();
        let texts = WRONG.iter().map(|text| json!(text));
        let others = [json!(7), json!(null), json!(true), json!([1, 2])];
        let numbers = [json!({ "epoch": 1, "index": 2 })];
        for wrong in texts.chain(others).chain(numbers) {
            let error = from_value::<Resume>(wrong.clone()).unwrap_err();
            assert!(
                error.to_string().contains("epoch-index"),
                "{wrong}: {error}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn every_resume_point_survives_a_json_round_trip(
            epoch in any::<u64>(),
            index in any::<u64>(),
        ) {
            let _watchdog = watchdog();
            let place = Resume { epoch, index };
            assert_eq!(from_str::<Resume>(&to_string(&place).unwrap()).unwrap(), place);
        }
    }
}
