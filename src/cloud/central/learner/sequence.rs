//! Confidence sequences: bounds that hold at all times together, so that one may look after every job and stop when
//! it suits.
//!
//! Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence
//! sequences", Annals of Statistics 52 (2024): with a consistent estimate σ of the standard deviation, the mean of t
//! observations is above its estimate minus σ·√(2(tρ²+1)/(t²ρ²)·ln(1 + √(tρ²+1)/(2α))) at all t at once with
//! probability 1 − α, in the limit. ρ says at which t the bound is tightest; it is right for every ρ.

/// At how many comparisons the bound is tightest.
const TIGHTEST_AT: f64 = 500.0;

/// How far one side of the sequence is from the estimate after `t` observations of standard deviation `sigma`.
pub(super) fn radius(sigma: f64, t: f64, alpha: f64) -> f64 {
    if t <= 0.0 {
        return f64::INFINITY;
    }
    // The choice of ρ of the same paper, for a two-sided bound of 2α.
    let tail = -2.0 * (2.0 * alpha).min(0.5).ln();
    let rho2 = (tail + tail.ln_1p()) / TIGHTEST_AT;
    let scaled = t * rho2 + 1.0;
    sigma * (2.0 * scaled / (t * t * rho2) * (scaled.sqrt() / (2.0 * alpha)).ln_1p()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_wider_than_one_look_and_narrows() {
        let single = |t: f64| 1.645 / t.sqrt();
        for t in [50.0, 500.0, 5_000.0] {
            let radius = radius(1.0, t, 0.05);
            assert!(radius > single(t) && radius < 3.0 * single(t), "{t}: {radius}");
            assert!(radius > super::radius(1.0, t * 2.0, 0.05));
            assert!(radius < super::radius(1.0, t, 0.01));
        }
        assert_eq!(radius(1.0, 0.0, 0.05), f64::INFINITY);
    }
}
