//! How many bytes readers are behind.
//!
//! While a reader of a buffer is limited in bytes, the writer asks each event for its size once,
//! after it is published, and adds it to the [sums](super::sums) of the buffer. A spliced buffer
//! also knows the sum in the next one, at the place where it leads to.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use super::registry::{Meter, PlaceRef, Shared};
use super::sums::Allowed;
use crate::lag_limit::{LagLimit, SizeOf};
use crate::sync::Mutex;
use crate::unwind::Steps;

impl<T> Shared<T> {
    /// Returns the bytes in the buffers that this one leads to.
    fn bytes_beyond(&self) -> u64 {
        let mut successor = self.successor();
        if successor.is_none() {
            return 0;
        }
        let mut joined = self.limits().sums().and_then(|sums| sums.joined);
        let mut bytes = 0;
        while let Some((shared, _)) = successor {
            let (total, next) =
                { shared.limits().sums() }.map_or((0, None), |sums| (sums.total(), sums.joined));
            bytes += joined.map_or(0, |joined| total.saturating_sub(joined));
            joined = next;
            successor = shared.successor();
        }
        bytes
    }
}

impl<T> PlaceRef<T> {
    /// Asks the `items` items from this place on, which were just published, for their sizes, and
    /// adds them to the sums.
    ///
    /// Returns `true` if limits are due. Runs user code.
    pub(super) fn measure(&self, items: u64, steps: &mut Steps) -> bool {
        let limits = self.shared().limits();
        let is_due = limits.are_due(self.shared().published_since(0));
        let meter = limits.meter.get().filter(|_| limits.is_metered());
        let Some(meter) = meter.filter(|_| items > 0) else {
            return is_due;
        };
        let first = meter.size_of.of_item(self.events(), steps);
        // Mostly there is one item, for which nothing is allocated.
        let more = match items {
            1 => Vec::new(),
            _ => self.after().ask(meter.size_of, items - 1, steps),
        };
        let mut sums = meter.sums.lock();
        for (size, number) in iter::once(first).chain(more).zip(self.seq()..) {
            sums.add(number, size);
        }
        is_due || sums.total() >= sums.due_at && sums.has_begun()
    }

    /// Returns what a reader at this place, `lag` items behind, may have of these.
    pub(super) fn allowed(&self, lag: u64, items: u64, bytes: Option<u64>) -> Allowed {
        let most = lag.saturating_sub(1);
        let by_items = lag.saturating_sub(items).min(most);
        let mut allowed = bytes.map_or(Allowed::default(), |bytes| self.allowed_in_bytes(bytes));
        let end = (allowed.skip + allowed.unsure).min(most);
        allowed.skip = allowed.skip.min(most).max(by_items);
        allowed.unsure = end.saturating_sub(allowed.skip);
        allowed
    }

    fn allowed_in_bytes(&self, limit: u64) -> Allowed {
        let mut skip = 0;
        let mut next: Option<(Arc<Shared<T>>, u64)> = None;
        loop {
            let (shared, seq) = match &next {
                None => (self.shared(), self.seq()),
                Some((shared, seq)) => (&**shared, *seq),
            };
            let beyond = shared.bytes_beyond();
            if let Some(successor) = shared.successor().filter(|_| beyond > limit) {
                skip += shared.published_since(seq);
                next = Some(successor);
                continue;
            }
            let sums = shared.limits().sums();
            let allowed = sums.map(|sums| sums.allowed(seq, limit, beyond));
            let mut allowed = allowed.unwrap_or_default();
            allowed.skip += skip;
            return allowed;
        }
    }

    /// Returns the sum at this place or a little before it, in the terms of the last buffer ahead.
    pub(super) fn sum_at_least(&self) -> u64 {
        let sums = self.shared().limits().sums();
        let mut sum = sums.map_or(0, |sums| sums.at_least(self.seq()));
        let mut next = self.shared().successor();
        let mut limits = self.shared().limits();
        let mut shared;
        while let Some((to, _)) = next {
            if let Some(sums) = limits.sums() {
                let joined = sums.joined.unwrap_or(sum);
                sum = joined.saturating_sub(sums.total().saturating_sub(sum));
            }
            shared = to;
            limits = shared.limits();
            next = shared.successor();
        }
        sum
    }

    /// Returns by how many items a reader at this place exceeds its limit.
    ///
    /// Asks the items for their sizes of which it does not know enough.
    pub(super) fn over(&self, limit: &LagLimit<T>, steps: &mut Steps) -> u64 {
        let lag = self.lag();
        if limit.bytes.is_none() {
            return lag.saturating_sub(limit.items);
        }
        let allowed = self.allowed(lag, limit.items, limit.bytes_allowed());
        let Some(bytes) = limit.bytes.filter(|_| allowed.unsure > 0) else {
            return allowed.skip;
        };
        let (from, _) = self.ahead(allowed.skip);
        let sizes = from.ask(bytes.size_of, allowed.unsure, steps);
        let mut sum = allowed.bytes;
        let fit = sizes.iter().rev().take_while(|size| {
            sum = sum.saturating_add(**size);
            sum <= bytes.limit
        });
        let fit = fit.count() as u64;
        allowed.skip + allowed.unsure - fit
    }

    /// Asks `items` items for their sizes, from this place on.
    fn ask(&self, size_of: SizeOf<T>, items: u64, steps: &mut Steps) -> Vec<u64> {
        let mut sizes = Vec::new();
        self.walk(|events| {
            let goes_on = (sizes.len() as u64) < items;
            if goes_on {
                sizes.push(size_of.of_item(events, steps));
            }
            goes_on
        });
        sizes
    }

    /// Returns the size of all items from this place on.
    #[cfg(feature = "publisher")]
    pub(crate) fn bytes_ahead(&self, size_of: SizeOf<T>) -> u64 {
        let mut steps = Steps::new();
        let sizes = self.ask(size_of, u64::MAX, &mut steps);
        steps.finish();
        sizes.iter().sum()
    }

    /// Makes the writer ask each item for its size from now on.
    ///
    /// Asks the items from this place on that were published before, each once.
    pub(super) fn meter(&self, size_of: SizeOf<T>, steps: &mut Steps) {
        let mut regions = vec![self.clone()];
        while let Some(next) = regions.last().and_then(PlaceRef::next_region) {
            regions.push(next);
        }
        let mut joined = None;
        while let Some(place) = regions.pop() {
            let meter = place.shared().limits().meter.get_or_init(|| {
                let sums = Mutex::default();
                Box::new(Meter { size_of, sums })
            });
            place.begin_sums(meter);
            meter.sums.lock().joined = joined;
            joined = Some(place.sum(meter, steps));
        }
    }

    /// Meters like [`meter`](Self::meter), for the readers of this buffer, which has been spliced.
    pub(super) fn meter_again(&self, steps: &mut Steps) {
        let limits = self.shared().limits();
        if let Some(meter) = limits.meter.get().filter(|_| limits.is_metered()) {
            self.meter(meter.size_of, steps);
        }
    }

    /// Begins the sums of this buffer at its last slot, unless they have begun.
    fn begin_sums(&self, meter: &Meter<T>) {
        let limits = self.shared().limits();
        let mut last = self.end_of_region();
        // Release: pairs with the Acquire in `is_metered`.
        limits.is_metered.store(true, Release);
        loop {
            // Requested under the lock: the writer that fulfils the request adds its item after
            // this.
            let mut sums = meter.sums.lock();
            if sums.has_begun() {
                return;
            }
            if last.is_last_after_request() {
                return sums.begin(last.seq());
            }
            drop(sums);
            last = last.end_of_region();
        }
    }

    /// Returns the sum at this place.
    fn sum(&self, Meter { size_of, sums }: &Meter<T>, steps: &mut Steps) -> u64 {
        let seq = self.seq();
        let (point, is_covered, total) = {
            let sums = sums.lock();
            (sums.at(seq), sums.covers(seq), sums.total())
        };
        let Some(point) = point else {
            // The item at this place is published, but not measured yet.
            return total;
        };
        let sizes = self.ask(*size_of, point.number - seq, steps);
        if !is_covered {
            sums.lock().prepend(seq, &sizes);
        }
        point.before - sizes.iter().sum::<u64>()
    }
}
