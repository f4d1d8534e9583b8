//! Price tables and what calls cost by them.

use super::*;
use proptest::prelude::*;

fn usage(fresh: u64, read: u64, write_5m: u64, write_1h: u64, output: u64) -> Usage {
    Usage {
        input_fresh: fresh,
        input_cache_read: read,
        input_cache_write_5m: write_5m,
        input_cache_write_1h: write_1h,
        output,
        ..Usage::default()
    }
}

/// Figures computed by hand: tokens × dollars per million × 1,000 = nano-dollars.
#[test]
fn costs_agree_with_hand_computed_figures() {
    let table = PriceTable::embedded().unwrap();
    let cases = [
        ("claude-opus-5-5", usage(1_000, 0, 0, 0, 500), 14_000_000), // 1,000×4 + 500×20
        ("claude-opus-4-5-20251101", usage(10, 10, 10, 10, 10), 467_500), // 10×(5 + 0.5 + 6.25 + 10 + 25)
        ("claude-sonnet-5-5", usage(123, 4_567, 0, 0, 89), 1_592_700), // 246 + 456.7 + 890
        ("claude-haiku-5-5", usage(1, 1, 1, 1, 1), 935),             // 100 + 10 + 125 + 200 + 500
        ("claude-haiku-4-5", usage(1_000_000, 0, 0, 0, 1_000_000), 6_000_000_000),
        ("gpt-6.1-sol", usage(100, 100, 100, 0, 100), 1_460_000), // 100×(2 + 0.1 + 2.5 + 10)
        ("gpt-5.5", usage(0, 10, 10, 0, 0), 55_000),              // a write costs what input costs: 10×0.5 + 10×5
        ("gpt-4o-mini", usage(1_234, 0, 0, 0, 567), 525_300),     // 185.1 + 340.2
        ("gpt-4o-mini", usage(0, 1, 0, 0, 0), 75),
        ("gpt-4o-2024-11-20", usage(10, 0, 0, 0, 10), 125_000), // 10×(2.5 + 10)
        ("gpt-4o-2024-05-13", usage(10, 0, 0, 0, 10), 200_000), // a snapshot with prices of its own: 10×(5 + 15)
        ("gemini-3.1-pro-preview", usage(200_000, 0, 0, 0, 1_000), 412_000_000), // 400,000 + 12,000
        ("gemini-3.1-pro-preview", usage(200_001, 0, 0, 0, 1_000), 818_004_000), // 800,004 + 18,000
        ("text-embedding-3-small", usage(8_191, 0, 0, 0, 0), 163_820),
        ("claude-opus-5-5", usage(0, 0, 0, 0, 0), 0),
    ];
    for (model, usage, expected) in cases {
        assert_eq!(table.get(model).unwrap().cost_nanousd(&usage), Some(expected), "{model} {usage:?}");
    }
}

#[test]
fn an_hour_in_anthropics_cache_costs_twice_the_input() {
    let table = PriceTable::embedded().unwrap();
    let claude = table.models.iter().filter(|(name, _)| name.starts_with("claude-"));
    assert_eq!(claude.clone().count(), 14);
    for (name, price) in claude {
        assert_eq!(price.rates().cache_write_1h, price.rates().input * 2, "{name}");
        assert_eq!(price.rates().cache_write_5m * 4, price.rates().input * 5, "{name}");
        assert_eq!(price.rates().output, price.rates().input * 5, "{name}");
    }
}

#[test]
fn rounds_half_up_once() {
    let table = "version = '1'\n[models.m]\ninput = '0.0005'\noutput = '0.0004'";
    let price = *PriceTable::parse(table).unwrap().get("m").unwrap();
    assert_eq!(price.cost_nanousd(&usage(1, 0, 0, 0, 0)), Some(1)); // 0.5 → 1
    assert_eq!(price.cost_nanousd(&usage(0, 0, 0, 0, 1)), Some(0)); // 0.4 → 0
    assert_eq!(price.cost_nanousd(&usage(1, 0, 0, 0, 1)), Some(1)); // 0.9 → 1, not 1 + 0
    assert_eq!(price.cost_nanousd(&usage(3, 0, 0, 0, 0)), Some(2)); // 1.5 → 2
}

#[test]
fn unknown_models_have_no_price() {
    let table = PriceTable::embedded().unwrap();
    let unknown =
        ["", "claude", "gpt-4o-2024-5-13", "claude-opus-5-5-latest", "-20251101", "CLAUDE-OPUS-5-5", "é-20251101"];
    for model in unknown {
        assert!(table.get(model).is_none(), "{model}");
    }
}

#[test]
fn configuration_wins_with_the_decimals_that_were_written() {
    let price = Price { input: 0.1, output: 0.3, cache_read: Some(0.012345), cache_write: None };
    let rates = ModelPrice::from_config(&price).unwrap().rates();
    let expected =
        Rates { input: 100_000, output: 300_000, cache_read: 12_345, cache_write_5m: 100_000, cache_write_1h: 200_000 };
    assert_eq!(rates, expected);
}

#[test]
fn refuses_amounts_that_are_none() {
    for bad in [-1.0, f64::NAN, f64::INFINITY, 1e-7, 1e7, 1e300] {
        let price = Price { input: 1.0, output: bad, cache_read: None, cache_write: None };
        assert!(ModelPrice::from_config(&price).is_err(), "{bad}");
    }
    for bad in ["", ".", ".5", "1,5", "1e3", "+1", " 1", "1.0000001", "99999999999999999999"] {
        assert!(picousd("input", bad).is_err(), "{bad:?}");
    }
    assert_eq!(picousd("input", "1.").unwrap(), 1_000_000);
    assert_eq!(picousd("input", "0.1250000000").unwrap(), 125_000);
    let table = "version = '1'\n[models.m]\ninput = '1'\noutput = '-2'";
    assert_eq!(
        PriceTable::parse(table).unwrap_err().to_string(),
        "price m.output is \"-2\"; a decimal from 0 to 1000000 with at most 6 decimals is allowed (dollars per million tokens)"
    );
    assert!(PriceTable::parse("version = '1'\n[models.m]\ninput = 1\noutput = 2").is_err());
    assert!(PriceTable::parse("version = '1'\n[models.m]\ninput = '1'\noutput = '2'\noutptu = '3'").is_err());
}

#[test]
fn what_does_not_fit_is_unknown_and_not_wrong() {
    let table = "version = '1'\n[models.m]\ninput = '1000000'\noutput = '1000000'";
    let price = *PriceTable::parse(table).unwrap().get("m").unwrap();
    assert_eq!(price.cost_nanousd(&usage(9_223_372_036, 0, 0, 0, 0)), Some(9_223_372_036_000_000_000));
    assert_eq!(price.cost_nanousd(&usage(9_223_372_037, 0, 0, 0, 0)), None);
    assert_eq!(price.cost_nanousd(&usage(u64::MAX / 2, 0, 0, 0, u64::MAX / 2)), None);
}

proptest! {
    #[test]
    fn floats_of_the_configuration_become_exact(picousd in 0_i64..=PICOUSD_MAX) {
        let written = format!("{}.{:06}", picousd / 1_000_000, picousd % 1_000_000);
        let float: f64 = written.parse().unwrap();
        let price = Price { input: float, output: float, cache_read: None, cache_write: None };
        prop_assert_eq!(ModelPrice::from_config(&price).unwrap().rates().output, picousd);
    }

    #[test]
    fn cost_never_falls_when_tokens_are_added(tokens in 0_u64..1_000_000, more in 0_u64..1_000) {
        let table = PriceTable::embedded().unwrap();
        let price = table.get("claude-haiku-5-5").unwrap();
        let fewer = price.cost_nanousd(&usage(tokens, 0, 0, 0, tokens));
        prop_assert!(fewer <= price.cost_nanousd(&usage(tokens + more, 0, 0, 0, tokens)));
    }
}
