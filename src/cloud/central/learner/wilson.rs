//! Wilson's interval of a share, for people to look at (Wilson 1927; Brown, Cai and DasGupta 2001). It is right for
//! one look; whoever looks again and again needs [`super::sequence`].

/// The normal quantile of a two-sided interval of 95 %.
pub(super) const Z_95: f64 = 1.959_963_984_540_054;

/// The interval of the share of `successes` in `n`; everything is possible where there is nothing.
pub(super) fn wilson(successes: f64, n: f64, z: f64) -> (f64, f64) {
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let share = successes / n;
    let z2 = z * z;
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    // The ends are exact where the share is: rounding must not put them on its wrong side.
    ((centre - half).clamp(0.0, share), (centre + half).clamp(share, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_known_intervals() {
        let cases = [
            (3, 3, 44, 100),
            (10, 10, 72, 100),
            (30, 30, 89, 100),
            (95, 100, 89, 98),
            (950, 1_000, 93, 96),
            (0, 10, 0, 28),
        ];
        for (successes, n, low, high) in cases {
            let (found_low, found_high) = wilson(f64::from(successes), f64::from(n), Z_95);
            let percent = |share: f64| (share * 100.0).round() as i32;
            assert_eq!((percent(found_low), percent(found_high)), (low, high), "{successes} of {n}");
        }
        assert_eq!(wilson(0.0, 0.0, Z_95), (0.0, 1.0));
    }
}
