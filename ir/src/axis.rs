//! Axes: names with sizes, and sets of them.
//!
//! An *atom* is an axis that is not a tuple of others. Types are sets of atoms; composite axes (`C = (G, D)`) are ordered tuples of atoms that
//! exist only in the text and are gone once a program is bound. This file never looks at values.

use std::fmt;

/// An atom of one program: an index into its [`Axes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AxisId(pub u8);

/// What is known about one atom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Axis {
    pub name: String,
    pub size: usize,
    /// The axis whose role this one mirrors (`axis Q like P`): canonical orders place it beside that one.
    pub like: Option<AxisId>,
}

/// The most atoms that one program can hold, as a set of axes is one machine word of this many bits.
pub const MAX_AXES: usize = 128;

/// The atoms of a program.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Axes {
    table: Vec<Axis>,
}

impl Axes {
    /// Adds an atom, or returns `None` when the table is full ([`MAX_AXES`]).
    pub fn add(&mut self, name: impl Into<String>, size: usize, like: Option<AxisId>) -> Option<AxisId> {
        let id = AxisId(u8::try_from(self.table.len()).ok()?);
        if self.table.len() >= MAX_AXES {
            return None;
        }
        self.table.push(Axis { name: name.into(), size, like });
        Some(id)
    }

    /// The atom called `name`, or a new one mirroring `like` with its size.
    pub fn find_or_add_like(&mut self, name: &str, like: AxisId) -> Option<AxisId> {
        let size = self[like].size;
        self.find(name).filter(|&a| self[a].size == size).or_else(|| self.add(name, size, Some(like)))
    }

    pub fn find(&self, name: &str) -> Option<AxisId> {
        self.table.iter().position(|a| a.name == name).map(|i| AxisId(i as u8))
    }

    pub fn ids(&self) -> impl Iterator<Item = AxisId> + use<> {
        (0..self.table.len()).map(|i| AxisId(i as u8))
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub fn size(&self, axis: AxisId) -> usize {
        self[axis].size
    }

    /// The number of elements of a value over `axes`: the product of sizes (1 for a scalar). More than a machine word can count is the largest
    /// number that it can: replicated losses are written down long before anyone asks for their memory.
    pub fn count(&self, axes: AxisSet) -> usize {
        axes.iter().fold(1, |count, a| count.saturating_mul(self.size(a)))
    }

    /// Sort key of the canonical order: an axis stands right after the one that it mirrors.
    fn rank(&self, axis: AxisId) -> Vec<u8> {
        let mut rank = self[axis].like.map(|l| self.rank(l)).unwrap_or_default();
        rank.push(axis.0);
        rank
    }

    /// `axes` in canonical order: declaration order, mirrors beside their originals. Memory layouts and printed types follow it.
    pub fn in_order(&self, axes: AxisSet) -> Vec<AxisId> {
        let mut order: Vec<AxisId> = axes.iter().collect();
        order.sort_by_key(|&a| self.rank(a));
        order
    }

    /// `N, P, G` in canonical order.
    pub fn show(&self, axes: AxisSet) -> String {
        self.in_order(axes).iter().map(|&a| self[a].name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl std::ops::Index<AxisId> for Axes {
    type Output = Axis;
    fn index(&self, id: AxisId) -> &Axis {
        &self.table[id.0 as usize]
    }
}

/// A set of atoms of one program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AxisSet(u128);

impl AxisSet {
    pub const EMPTY: AxisSet = AxisSet(0);

    pub fn of(axes: impl IntoIterator<Item = AxisId>) -> AxisSet {
        axes.into_iter().collect()
    }

    pub fn contains(self, a: AxisId) -> bool {
        self.0 & (1 << a.0) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub fn is_subset(self, other: AxisSet) -> bool {
        self.0 & !other.0 == 0
    }

    pub fn with(self, a: AxisId) -> AxisSet {
        AxisSet(self.0 | 1 << a.0)
    }

    pub fn without(self, a: AxisId) -> AxisSet {
        AxisSet(self.0 & !(1 << a.0))
    }

    /// The members in order of their ids.
    pub fn iter(self) -> impl Iterator<Item = AxisId> {
        (0..MAX_AXES as u8).filter(move |i| self.0 & (1 << i) != 0).map(AxisId)
    }
}

impl FromIterator<AxisId> for AxisSet {
    fn from_iter<T: IntoIterator<Item = AxisId>>(iter: T) -> Self {
        iter.into_iter().fold(AxisSet::EMPTY, AxisSet::with)
    }
}

impl std::ops::BitOr for AxisSet {
    type Output = AxisSet;
    fn bitor(self, o: AxisSet) -> AxisSet {
        AxisSet(self.0 | o.0)
    }
}

impl std::ops::BitAnd for AxisSet {
    type Output = AxisSet;
    fn bitand(self, o: AxisSet) -> AxisSet {
        AxisSet(self.0 & o.0)
    }
}

/// Set difference.
impl std::ops::Sub for AxisSet {
    type Output = AxisSet;
    fn sub(self, o: AxisSet) -> AxisSet {
        AxisSet(self.0 & !o.0)
    }
}

impl fmt::Debug for AxisSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|a| a.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_stand_beside_their_originals() {
        let mut axes = Axes::default();
        let n = axes.add("N", 2, None).unwrap();
        let p = axes.add("P", 3, None).unwrap();
        let c = axes.add("C", 4, None).unwrap();
        let q = axes.find_or_add_like("P'", p).unwrap();
        assert_eq!(axes.find_or_add_like("P'", p), Some(q));
        assert_eq!(axes.in_order(AxisSet::of([c, q, n, p])), [n, p, q, c]);
        assert_eq!(axes.count(AxisSet::of([n, q])), 6);
    }

    #[test]
    fn a_full_table_says_so() {
        let mut axes = Axes::default();
        for i in 0..MAX_AXES {
            assert!(axes.add(format!("A{i}"), 1, None).is_some());
        }
        assert_eq!(axes.add("one too many", 1, None), None);
    }
}
