//! How many bytes the items of a buffer take.
//!
//! The writer asks each event for its size once. The sums are kept at *points*: every recent item
//! has one, and further back they become fewer. How many bytes a reader is behind is then one
//! subtraction. Only the items between two points have to be asked again, if they matter.
//!
//! ```text
//!                                a reader
//!   number   100       140           │   160   170  175 176 177 178
//!   points    ●─────────●────────────┼────●─────●────●───●───●───●  total
//!   before    0       4,000          │  6,000  …
//!                                    └─ between total - 4,000 and total - 6,000 bytes behind
//! ```

use std::collections::VecDeque;

/// The first sum, so large that sums of earlier items do not become negative.
const BASE: u64 = 1 << 62;

#[derive(Default)]
pub(super) struct Sums {
    total: u64,
    /// In order of their numbers. Empty if the buffer is not metered.
    points: VecDeque<Point>,
    /// The first item that is added when it is published. Earlier ones are asked by the readers
    /// they matter to.
    begun_at: u64,
    /// The number of points above which some are taken out.
    thin_at: usize,
    /// The total at which a limit is due.
    pub(super) due_at: u64,
    /// After a splice, the sum in the next buffer at the place where this one leads to.
    pub(super) joined: Option<u64>,
}

/// A place, by its number, and the sum of all items before it.
#[derive(Clone, Copy)]
pub(super) struct Point {
    pub(super) number: u64,
    pub(super) before: u64,
}

/// What a reader may have that is limited in bytes.
#[derive(Default)]
pub(super) struct Allowed {
    /// The items that it must skip for certain.
    pub(super) skip: u64,
    /// The items after those, of which it may have the newest, perhaps all.
    pub(super) unsure: u64,
    /// The bytes of the items after those, all of which it may have.
    pub(super) bytes: u64,
}

impl Sums {
    /// Starts to sum up the items from `number` on.
    pub(super) fn begin(&mut self, number: u64) {
        self.total = BASE;
        self.begun_at = number;
        self.points.push_back(Point {
            number,
            before: BASE,
        });
    }

    pub(super) fn has_begun(&self) -> bool {
        !self.points.is_empty()
    }

    /// Forgets all sums.
    pub(super) fn end(&mut self) {
        self.points = VecDeque::new();
        self.thin_at = 0;
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Adds an item, whose size is at least 1. Items come roughly in the order of their numbers.
    pub(super) fn add(&mut self, number: u64, size: u64) {
        // An item that was published before the sums began may be reported late.
        if !self.has_begun() || number < self.begun_at {
            return;
        }
        self.total += size;
        let total = self.total;
        let mut is_newest = true;
        for point in self.points.iter_mut().rev() {
            if point.number <= number {
                break;
            }
            // A later item was faster, so its point lacks this one.
            point.before += size;
            is_newest = false;
        }
        if is_newest {
            self.points.push_back(Point {
                number: number + 1,
                before: total,
            });
            self.thin_if_many();
        }
    }

    /// Adds the items from `number` up to the first point.
    pub(super) fn prepend(&mut self, number: u64, sizes: &[u64]) {
        let Some(first) = self.points.front() else {
            return;
        };
        let Point {
            number: mut at,
            mut before,
        } = *first;
        // Another reader may have added them already.
        let Some(missing) = at.checked_sub(number) else {
            return;
        };
        let missing = usize::try_from(missing).unwrap_or(usize::MAX);
        for size in sizes.iter().take(missing).rev() {
            at -= 1;
            before -= *size;
            self.points.push_front(Point { number: at, before });
        }
        self.thin_if_many();
    }

    /// Returns the sum at a place if there is a point, otherwise the next point.
    pub(super) fn at(&self, number: u64) -> Option<Point> {
        let next = self.points.partition_point(|point| point.number < number);
        self.points.get(next).copied()
    }

    /// Returns `true` if there is a point at `number` or before it.
    pub(super) fn covers(&self, number: u64) -> bool {
        let first = self.points.front();
        first.is_some_and(|first| first.number <= number)
    }

    /// Returns the sum at `number`, or at the last point before it.
    pub(super) fn at_least(&self, number: u64) -> u64 {
        let next = self.points.partition_point(|point| point.number <= number);
        let last = self.points.get(next.saturating_sub(1));
        last.map_or(0, |point| point.before)
    }

    /// Returns what a reader at `number` may have of the items here, with a limit of `limit` bytes.
    ///
    /// `beyond` are the bytes in later buffers, all of which it may have.
    pub(super) fn allowed(&self, number: u64, limit: u64, beyond: u64) -> Allowed {
        let is_over = |point: &Point| self.total - point.before + beyond > limit;
        let within = self.points.partition_point(is_over);
        let Some(point) = self.points.get(within) else {
            return Allowed::default();
        };
        if point.number <= number || !self.covers(number) {
            return Allowed::default();
        }
        // The first item after a point that is over the limit must be skipped.
        let over = within.checked_sub(1).and_then(|over| self.points.get(over));
        let from = over.map_or(number, |over| (over.number + 1).max(number));
        Allowed {
            skip: from - number,
            unsure: point.number - from,
            bytes: self.total - point.before + beyond,
        }
    }

    /// Removes points, so that the gaps between them are a sixteenth of the bytes after them at
    /// most.
    fn thin_if_many(&mut self) {
        if self.points.len() <= self.thin_at {
            return;
        }
        let total = self.total;
        let points = self.points.make_contiguous();
        let mut kept = 0;
        for at in 1..points.len() {
            let is_needed = match points.get(at + 1) {
                None => true,
                Some(next) => next.before - points[kept].before > (total - next.before) / 16,
            };
            if is_needed {
                kept += 1;
                points[kept] = points[at];
            }
        }
        self.points.truncate(kept + 1);
        self.thin_at = 2 * self.points.len() + 64;
    }
}
