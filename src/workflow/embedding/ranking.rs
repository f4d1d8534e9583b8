//! Likeness of vectors, and the best few of many. Pure.

use std::cmp::Ordering;

/// The cosine of the angle between two vectors, from -1 to 1; `None` where they have different lengths or one has no
/// direction.
pub fn cosine(left: &[f32], right: &[f32]) -> Option<f64> {
    if left.len() != right.len() {
        return None;
    }
    // Double precision, so that sums of thousands of products keep their digits.
    let (mut product, mut left_square, mut right_square) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (left, right) in left.iter().zip(right) {
        let (left, right) = (f64::from(*left), f64::from(*right));
        product += left * right;
        left_square += left * left;
        right_square += right * right;
    }
    let lengths = (left_square * right_square).sqrt();
    (lengths > 0.0 && lengths.is_finite()).then(|| (product / lengths).clamp(-1.0, 1.0))
}

/// The best of what was offered, at most so many, the best first.
#[derive(Debug)]
pub(super) struct Best<T> {
    limit: usize,
    entries: Vec<(f64, T)>,
}

impl<T: Ord> Best<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, entries: Vec::with_capacity(limit + 1) }
    }

    /// Whether something of this likeness could still be among the best.
    pub(super) fn has_room_for(&self, likeness: f64) -> bool {
        self.entries.len() < self.limit || self.entries.last().is_some_and(|(least, _)| likeness >= *least)
    }

    /// Offers one. Of equals the smaller name comes first, so that the same rows give the same list.
    pub(super) fn offer(&mut self, likeness: f64, entry: T) {
        let before = |other: &(f64, T)| match other.0.total_cmp(&likeness) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => other.1 < entry,
        };
        let place = self.entries.partition_point(before);
        self.entries.insert(place, (likeness, entry));
        self.entries.truncate(self.limit);
    }

    pub(super) fn into_sorted(self) -> Vec<(f64, T)> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_cosine_is_that_of_the_angle() {
        assert_eq!(cosine(&[1.0, 0.0], &[3.0, 0.0]), Some(1.0));
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 2.0]), Some(0.0));
        assert_eq!(cosine(&[1.0, 1.0], &[-2.0, -2.0]), Some(-1.0));
        let slanted = cosine(&[1.0, 0.0], &[1.0, 1.0]).unwrap();
        assert!((slanted - std::f64::consts::FRAC_1_SQRT_2).abs() < 1e-9);
        assert_eq!(cosine(&[1.0], &[1.0, 0.0]), None);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), None);
    }

    proptest! {
        #[test]
        fn the_best_are_those_of_a_full_sort(
            offers in prop::collection::vec((-3_i32..3, 0_u32..50), 0..60), limit in 1_usize..8,
        ) {
            let mut best = Best::new(limit);
            for (likeness, name) in &offers {
                let likeness = f64::from(*likeness);
                if best.has_room_for(likeness) {
                    best.offer(likeness, *name);
                }
            }
            let mut sorted: Vec<(f64, u32)> =
                offers.iter().map(|(likeness, name)| (f64::from(*likeness), *name)).collect();
            sorted.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
            sorted.truncate(limit);
            prop_assert_eq!(best.into_sorted(), sorted);
        }
    }
}
