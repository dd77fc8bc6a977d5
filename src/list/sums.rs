//! How many bytes the items of a buffer take.
//!
//! Each event is asked for its size once, by the writer. The sums are kept at *points*: every item of late
//! has one, and the further back, the fewer there are. How many bytes a reader is behind is then a
//! subtraction, but for the items between two points, which are asked again if it matters.
//!
//! ```text
//!                                a reader
//!   number   100       140           │   160   170  175 176 177 178
//!   points    ●─────────●────────────┼────●─────●────●───●───●───●  total
//!   before    0       4,000          │  6,000  …
//!                                    └─ between total - 4,000 and total - 6,000 bytes behind
//! ```

use std::collections::VecDeque;

/// So that sums of items before the first point are no negative numbers.
const BASE: u64 = 1 << 62;

#[derive(Default)]
pub(super) struct Sums {
    total: u64,
    /// In order of their numbers. None if the buffer is not metered.
    points: VecDeque<Point>,
    /// Items from this number on are added as they come. Those before were asked by whom they matter to.
    begun_at: u64,
    /// With that many points, some are taken out.
    thin_at: usize,
    /// The total at which a limit is due.
    pub(super) due_at: u64,
    /// After a splice: the sum in the next buffer, at the place where this one leads to.
    pub(super) joined: Option<u64>,
}

/// A place, by its number, and the sum of all items before it.
#[derive(Clone, Copy)]
pub(super) struct Point {
    pub(super) number: u64,
    pub(super) before: u64,
}

/// Where a reader may be that may have so many bytes.
#[derive(Default)]
pub(super) struct Allowed {
    /// It may certainly not have these items.
    pub(super) skip: u64,
    /// Perhaps not all of the next items, the newest of which are the likeliest.
    pub(super) unsure: u64,
    /// The bytes of the items after those.
    pub(super) bytes: u64,
}

impl Sums {
    /// Starts to sum up the items from that number on.
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

    /// Forgets everything.
    pub(super) fn end(&mut self) {
        self.points = VecDeque::new();
        self.thin_at = 0;
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Adds an item, whose size is at least 1. They come in about the order of their numbers.
    pub(super) fn add(&mut self, number: u64, size: u64) {
        // It may have been published before this began, and be told late.
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
            // Others, which came after it, were faster.
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
        // Others may have done so, too.
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

    /// The sum at a place, if there is a point; else the next point.
    pub(super) fn at(&self, number: u64) -> Option<Point> {
        let next = self.points.partition_point(|point| point.number < number);
        self.points.get(next).copied()
    }

    /// Whether there is a point at that number or before it.
    pub(super) fn covers(&self, number: u64) -> bool {
        let first = self.points.front();
        first.is_some_and(|first| first.number <= number)
    }

    /// The sum at `number`, or at the last point before it.
    pub(super) fn at_least(&self, number: u64) -> u64 {
        let next = self.points.partition_point(|point| point.number <= number);
        let last = self.points.get(next.saturating_sub(1));
        last.map_or(0, |point| point.before)
    }

    /// Where a reader at `number` may be that may have `limit` bytes, given those of the items `beyond` this
    /// buffer, which are fewer.
    pub(super) fn allowed(&self, number: u64, limit: u64, beyond: u64) -> Allowed {
        let is_over = |point: &Point| self.total - point.before + beyond > limit;
        let within = self.points.partition_point(is_over);
        let Some(point) = self.points.get(within) else {
            return Allowed::default();
        };
        if point.number <= number || !self.covers(number) {
            return Allowed::default();
        }
        // The item after a point that is over is not allowed.
        let over = within.checked_sub(1).and_then(|over| self.points.get(over));
        let from = over.map_or(number, |over| (over.number + 1).max(number));
        Allowed {
            skip: from - number,
            unsure: point.number - from,
            bytes: self.total - point.before + beyond,
        }
    }

    /// Leaves gaps between points that take up to a sixteenth of the bytes after them.
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
