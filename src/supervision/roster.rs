//! The probes of one node's children, in the order in which they were added.
//!
//! Orders nearly always rise, so this is a sorted list that is written at its end: adding costs next to nothing, and a
//! look at very many children reads one stretch of memory. A child that goes leaves a hole; holes are closed once they
//! are as many as the children, so that going costs next to nothing too.

use std::sync::Arc;

use super::Probe;

/// Fewer holes than this are not worth closing.
const HOLES_MIN: usize = 16;

#[derive(Default)]
pub(super) struct Roster {
    places: Vec<(u64, Option<Arc<Probe>>)>,
    children: usize,
}

impl Roster {
    /// How many children there are.
    pub(super) fn len(&self) -> usize {
        self.children
    }

    /// Adds a child. Whoever had its order before is returned.
    pub(super) fn insert(&mut self, order: u64, child: Arc<Probe>) -> Option<Arc<Probe>> {
        let place = match self.places.last() {
            Some((last, _)) if *last >= order => self.places.partition_point(|(other, _)| *other < order),
            _ => self.places.len(),
        };
        let before = match self.places.get_mut(place) {
            Some((other, held)) if *other == order => held.replace(child),
            _ => {
                self.places.insert(place, (order, Some(child)));
                None
            }
        };
        self.children += usize::from(before.is_none());
        before
    }

    /// Takes a child away.
    pub(super) fn remove(&mut self, order: u64) -> Option<Arc<Probe>> {
        let place = self.places.binary_search_by_key(&order, |(other, _)| *other).ok()?;
        let removed = self.places.get_mut(place)?.1.take()?;
        self.children -= 1;
        if self.places.len() >= self.children * 2 + HOLES_MIN {
            self.places.retain(|(_, child)| child.is_some());
        }
        Some(removed)
    }

    /// The children from this order on.
    pub(super) fn from(&self, order: u64) -> impl Iterator<Item = (u64, &Arc<Probe>)> {
        let first = if order == 0 { 0 } else { self.places.partition_point(|(other, _)| *other < order) };
        let places = self.places.get(first..).unwrap_or_default();
        places.iter().filter_map(|(order, child)| Some((*order, child.as_ref()?)))
    }

    /// All children.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Probe>> {
        self.from(0).map(|(_, child)| child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervision::ChildSpec;
    use crate::supervision::core::Path;

    #[test]
    fn children_stay_in_order_and_holes_are_closed() {
        let probe = || ChildSpec::root("x".into()).probe(&Path::root());
        let orders = |roster: &Roster, from| roster.from(from).map(|(order, _)| order).collect::<Vec<_>>();
        let mut roster = Roster::default();
        for order in [0, 5, 3, 9, 1] {
            assert!(roster.insert(order, probe()).is_none());
        }
        assert_eq!((orders(&roster, 0), orders(&roster, 4)), (vec![0, 1, 3, 5, 9], vec![5, 9]));
        assert!(roster.insert(3, probe()).is_some(), "the one that had the order");
        assert!(roster.remove(3).is_some() && roster.remove(3).is_none() && roster.remove(4).is_none());
        assert!(roster.insert(3, probe()).is_none(), "into the hole");
        assert_eq!((roster.len(), roster.all().count()), (5, 5));
        for order in 10..10_000 {
            roster.insert(order, probe());
            roster.remove(order);
            assert!(roster.places.len() <= 2 * roster.len() + HOLES_MIN);
        }
        assert_eq!(orders(&roster, 0), [0, 1, 3, 5, 9]);
    }
}
