//! Random cases that can be repeated: all of a test's come from one number, which a failure prints.

use std::hash::{BuildHasher, RandomState};

use proptest::test_runner::{Config, RngSeed};

/// So many cases from a seed drawn anew, or from the one that the environment variable `PROPTEST_RNG_SEED` gives. What
/// is printed here is seen only when the test fails.
pub(crate) fn seeded(cases: u32) -> Config {
    let config = Config::default();
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        // The keys of a hasher are random.
        RngSeed::Random => RandomState::new().hash_one(cases),
    };
    println!("PROPTEST_RNG_SEED={seed} repeats these cases");
    Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..config }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    use super::*;

    #[test]
    fn one_seed_gives_the_same_cases_again_and_another_gives_others() {
        let numbers = |config: &Config| {
            let mut runner = TestRunner::new(config.clone());
            [(); 8].map(|()| (0..u64::MAX).new_tree(&mut runner).map(|tree| tree.current()).ok())
        };
        let config = seeded(1);
        assert_eq!(numbers(&config), numbers(&config));
        let RngSeed::Fixed(seed) = config.rng_seed else { panic!("it is drawn") };
        let other = Config { rng_seed: RngSeed::Fixed(seed.wrapping_add(1)), ..config.clone() };
        assert_ne!(numbers(&config), numbers(&other));
    }
}
