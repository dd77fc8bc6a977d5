//! The writer's end of the chain, and the window of items that it retains.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::after_lock::{Later, Splice, Written};
use super::registry::{
    Batch, BlockAllocator, Chain, Ending, NodePtr, NodeRef, Payload, Place, PlaceRef, Shared,
    WeakPlace,
};
use crate::error::BookmarkError;
use crate::error::SharedError;
use crate::error::SpliceCycle;
use crate::sync::SPLICING;
use crate::unwind::even_if_it_panics;

/// The writer's end of the chain.
pub(crate) struct Writer<T> {
    /// The last slot (L6).
    last: NodeRef<T>,
    /// Memory for the slots after it.
    allocator: BlockAllocator<T>,
    /// Set once the last slot is written: the buffer has ended, and nothing is published any more.
    ended: bool,
    seq: u64,
    shared: Arc<Shared<T>>,
    window: Option<Window<T>>,
}

/// The items that late readers can still read: `len` items, from `first` to `newest`.
struct Window<T> {
    first: NodeRef<T>,
    newest: Option<Place<T>>,
    len: usize,
    limit: usize,
    /// An item that has left the window, to be freed when the window is trimmed.
    passed: Option<NodeRef<T>>,
}

impl<T> Writer<T> {
    /// Creates an empty buffer that retains the newest `limit` items.
    pub(crate) fn new(limit: usize) -> Self {
        let shared = Shared::new();
        let mut allocator = BlockAllocator::new();
        allocator.count_by(shared.reclaimed());
        let last = NodeRef::first(Arc::clone(&shared), &mut allocator);
        let window = (limit > 0).then(|| Window {
            first: last.clone(),
            newest: None,
            len: 0,
            limit,
            passed: None,
        });
        Self {
            last,
            allocator,
            ended: false,
            seq: 0,
            shared,
            window,
        }
    }

    /// Creates an empty buffer that is closed.
    pub(crate) fn closed() -> Self {
        let mut writer = Self::new(0);
        drop(writer.close());
        writer
    }

    /// Skips items that no reader can ever see, because the writer alone refers to the last slot.
    ///
    /// Returns `false`, and does nothing, if a reader could see them.
    #[inline]
    pub(crate) fn skip_unobserved(&mut self, items: u64) -> bool {
        let unseen = self.window.is_none() && self.last.is_unique();
        if unseen {
            self.seq += items;
        }
        unseen
    }

    /// Returns `true` if the next item may take the place of the newest one.
    ///
    /// That is so if only the newest item is retained, and nothing but the window refers to it or
    /// to the slot after it.
    #[inline]
    fn may_replace(&self) -> bool {
        self.window.as_ref().is_some_and(|window| {
            window.limit == 1
                && window.len == 1
                && window.first.is_unique()
                && self.last.is_known_to_its_link_only()
        })
    }

    /// Publishes an item of one event.
    #[inline]
    pub(crate) fn push(&mut self, event: T) {
        if self.skip_unobserved(1) {
            return;
        }
        let written = if self.may_replace() {
            drop(self.replace(event));
            None
        } else {
            self.fill(|| Payload::One(event), None, 1)
        };
        self.conclude(written);
    }

    /// Publishes an item for each event.
    pub(crate) fn publish(&mut self, mut batch: Batch<T>) {
        if !self.skip_unobserved(batch.len()) {
            let written = self.fill_all(&mut batch);
            self.conclude(written);
        }
    }

    /// Puts an event in the place of the newest item, which it returns.
    fn replace(&mut self, event: T) -> Option<Payload<T>> {
        let window = self.window.as_mut()?;
        self.seq += 1;
        self.shared.publish(self.seq);
        if let Some(newest) = &mut window.newest {
            newest.seq += 1;
        }
        // SAFETY: `may_replace` has found the reference unique (L4), and the slot holds an item.
        Some(unsafe { window.first.replace(Payload::One(event)) })
    }

    fn fill_all(&mut self, batch: &mut Batch<T>) -> Option<Written<T>> {
        let len = batch.len();
        let (first, rest) = batch.take()?;
        let rest = rest.map(|(rest, allocator)| {
            self.begin_block(len);
            // The new last slot will be in the batch's block, so this writer continues there.
            self.allocator.leave(self.last.node());
            let requests = self.allocator.standing_requests();
            let before = mem::replace(&mut self.allocator, allocator);
            self.allocator.continue_after(&before);
            self.allocator.set_standing_requests(requests);
            rest
        });
        let written = self.fill(|| first, rest, len);
        if len > 1 {
            self.note_recent();
        }
        written
    }

    /// Notes the last slot for readers that skip their backlog (L8).
    fn note_recent(&self) {
        let last = self.last.as_ptr().erase();
        self.shared.recent().set(self.seq, last);
    }

    /// Publishes an item of one event under a lock, in one call.
    ///
    /// # Errors
    ///
    /// What is left to drop, if that is all there is to do: an event that no reader can see, or the
    /// item that the event has replaced.
    #[inline]
    pub(crate) fn push_later(&mut self, event: T) -> Result<Later<T>, Option<Payload<T>>> {
        if self.skip_unobserved(1) {
            return Err(Some(Payload::One(event)));
        }
        if self.may_replace() {
            return Err(self.replace(event));
        }
        let written = self.fill(|| Payload::One(event), None, 1);
        Ok(self.later(written))
    }

    /// Publishes an item of one event under a lock, and returns its place.
    ///
    /// The writer's reference becomes the place's, which saves two operations on the count.
    #[cfg(feature = "publisher")]
    #[inline]
    pub(crate) fn push_and_locate(&mut self, event: T) -> (PlaceRef<T>, Later<T>) {
        debug_assert!(self.window.is_none(), "the window would miss the item");
        let (filled, place, _) = self.write(|| Payload::One(event), None, 1);
        let awaited = filled.has_requests().then(|| filled.clone());
        let written = awaited.map(|filled| self.written(filled, place, 1));
        (PlaceRef::from_node_ref(filled, place), self.later(written))
    }

    /// Publishes an item for each event, under a lock.
    ///
    /// # Errors
    ///
    /// The batch, if no reader can see it.
    pub(crate) fn publish_later(&mut self, mut batch: Batch<T>) -> Result<Later<T>, Batch<T>> {
        if self.skip_unobserved(batch.len()) {
            return Err(batch);
        }
        let written = self.fill_all(&mut batch);
        Ok(self.later(written))
    }

    #[inline]
    fn later(&mut self, written: Option<Written<T>>) -> Later<T> {
        Later {
            written,
            trimmed: self.window.as_mut().and_then(Window::trim_later),
        }
    }

    /// Writes items, and returns what is to be done after that if something was requested there.
    #[inline]
    fn fill(
        &mut self,
        first: impl FnOnce() -> Payload<T>,
        rest: Option<Chain<T>>,
        len: u64,
    ) -> Option<Written<T>> {
        let (filled, place, newest) = self.write(first, rest, len);
        let awaited = match &mut self.window {
            None => filled.release_unless_awaited(),
            Some(window) => {
                window.newest = Some(Place::new(newest, self.seq - 1, &self.shared));
                if window.may_take_over(len) {
                    // Our reference becomes the window's, which saves two operations on the count.
                    let awaited = filled.has_requests().then(|| filled.clone());
                    window.passed = Some(mem::replace(&mut window.first, filled));
                    awaited
                } else {
                    let len = usize::try_from(len).unwrap_or(usize::MAX);
                    window.len = window.len.saturating_add(len);
                    filled.release_unless_awaited()
                }
            }
        };
        awaited.map(|filled| self.written(filled, place, len))
    }

    /// Writes items to the last slot and those after it.
    ///
    /// Returns the writer's reference to the first of them, its place, and the node of the newest.
    #[inline]
    fn write(
        &mut self,
        first: impl FnOnce() -> Payload<T>,
        rest: Option<Chain<T>>,
        len: u64,
    ) -> (NodeRef<T>, Place<T>, NodePtr<T>) {
        debug_assert!(!self.ended, "ending consumes the writer");
        if self.allocator.is_full() {
            self.begin_block(len);
        }
        // Before the payload is made: see `BlockAllocator::vacancy`.
        let vacancy = self.allocator.vacancy();
        let place = Place::new(self.last.as_ptr(), self.seq, &self.shared);
        let newest = rest.as_ref().map_or(place.node, Chain::newest);
        self.seq += len;
        // Before the items are visible: a reader that has one of them finds it counted.
        self.shared.publish(self.seq);
        // SAFETY: L6: the slot is empty since `ended` is not set, and we have `&mut self`. `first`
        // only moves a payload.
        let filled = unsafe { self.last.fill(first, rest, vacancy) };
        (filled, place, newest)
    }

    #[cold]
    fn written(&mut self, filled: NodeRef<T>, place: Place<T>, items: u64) -> Written<T> {
        if filled.node().are_limits_requested() {
            // While events are asked for their sizes, every slot has the request from the start.
            let is_metered = self.shared.limits().is_metered();
            if is_metered && !self.allocator.standing_requests() {
                self.last.node().request_limits();
            }
            self.allocator.set_standing_requests(is_metered);
        }
        Written {
            place: PlaceRef::from_node_ref(filled, place),
            items,
            splice: None,
        }
    }

    /// Does what is due once for each block or batch, not with each item.
    #[cold]
    #[inline(never)]
    fn begin_block(&mut self, len: u64) {
        self.note_recent();
        if self.shared.limits().are_due(self.seq + len) {
            self.last.node().request_limits();
        }
    }

    /// Wakes the readers that wait, and frees what has left the window, even if a waker panics.
    #[inline]
    fn conclude(&mut self, written: Option<Written<T>>) {
        struct Trim<'a, T>(&'a mut Writer<T>);

        impl<T> Drop for Trim<'_, T> {
            #[inline]
            fn drop(&mut self) {
                if let Some(window) = &mut self.0.window {
                    window.trim();
                }
            }
        }

        let _trim = Trim(self);
        if let Some(written) = written {
            written.fulfil(None);
        }
    }

    pub(crate) fn close(&mut self) -> Later<T> {
        self.end(Ending::Closed)
    }

    pub(crate) fn fail(&mut self, error: SharedError) -> Later<T> {
        self.end(Ending::Failed(error))
    }

    /// Ends the buffer, which continues at `target`. If that would make a ring, it ends with an
    /// error.
    ///
    /// The result keeps what is retained, so dropping the writer before it runs no user code.
    pub(crate) fn splice(&mut self, target: PlaceRef<T>) -> Later<T> {
        let to = target.owner();
        // Under one lock for all buffers: the check that `target` does not lead back to us and the
        // splice itself must be one step. Otherwise two buffers could be spliced to each other at
        // once.
        let splicing = SPLICING.lock();
        // Follow the splices ahead; a ring would come back to us.
        let mut ahead = Some(Arc::clone(&to));
        while let Some(shared) = ahead {
            if Arc::ptr_eq(&shared, &self.shared) {
                drop(splicing);
                let later = self.fail(SharedError::new(SpliceCycle.into()));
                return self.after_splice(later, Splice::Refused(target));
            }
            ahead = shared.successor().map(|(next, _)| next);
        }
        let seq = target.seq();
        let ending = Ending::Spliced {
            to: Arc::clone(&to),
            seq,
        };
        let (later, excess, limits) = self.end_at(ending, Some(target.into_node_ref()));
        drop(splicing);
        self.after_splice(later, Splice::Done { to, excess, limits })
    }

    /// Adds a splice to what is to be done, with what is retained.
    fn after_splice(&mut self, mut later: Later<T>, splice: Splice<T>) -> Later<T> {
        let written = later.written.get_or_insert_with(|| self.written_end());
        written.splice = Some(Box::new(splice));
        later.trimmed = self.window.take().map(Window::into_oldest);
        later
    }

    fn end(&mut self, ending: Ending<T>) -> Later<T> {
        self.end_at(ending, None).0
    }

    /// Ends the buffer, which continues at `target` if it is spliced.
    ///
    /// Also returns how many observers too many were handed on, and whether limited readers were.
    fn end_at(&mut self, ending: Ending<T>, target: Option<NodeRef<T>>) -> (Later<T>, isize, bool) {
        if mem::replace(&mut self.ended, true) {
            return (Later::NOTHING, 0, false);
        }
        // The count includes the items that were skipped.
        self.shared.publish(self.seq);
        // Before the link: a reader that comes to the end finds how the buffer has ended.
        let excess = self.shared.end(ending);
        // Before a reader can follow the splice: a reader that has is registered with the next
        // buffer.
        let limits = self.shared.hand_limits_on();
        // No slot comes after this one, so it closes its block.
        self.allocator.leave(self.last.node());
        // SAFETY: L6: the slot was empty until now, and we have `&mut self`. The ending is set.
        unsafe { self.last.end(target) };
        let later = Later {
            written: self.last.has_requests().then(|| self.written_end()),
            trimmed: None,
        };
        (later, excess, limits)
    }

    /// Returns the last slot, as written without an item.
    fn written_end(&self) -> Written<T> {
        Written {
            place: self.tail(),
            items: 0,
            splice: None,
        }
    }

    /// Returns the place after the newest item.
    pub(crate) fn tail(&self) -> PlaceRef<T> {
        let place = Place::new(self.last.as_ptr(), self.seq, &self.shared);
        // SAFETY: L3, by our reference.
        unsafe { PlaceRef::new(place) }
    }

    /// Returns the place of `weak`, if no item from there on has left the window.
    pub(crate) fn upgrade(&self, weak: &WeakPlace<T>) -> Result<PlaceRef<T>, BookmarkError> {
        self.oldest().find(weak)
    }

    /// Returns the place of the oldest retained item, or the tail.
    pub(crate) fn oldest(&self) -> PlaceRef<T> {
        let Some(window) = &self.window else {
            return self.tail();
        };
        let seq = self.seq - window.len as u64;
        let place = Place::new(window.first.as_ptr(), seq, &self.shared);
        // SAFETY: L3, by the window's reference.
        unsafe { PlaceRef::new(place) }
    }

    pub(crate) fn newest(&self) -> Option<PlaceRef<T>> {
        let newest = self.window.as_ref()?.newest?;
        // SAFETY: L2, by the window's reference to its first item.
        Some(unsafe { PlaceRef::new(newest) })
    }

    pub(crate) fn retained(&self) -> usize {
        self.window.as_ref().map_or(0, |window| window.len)
    }

    /// Returns `true` if an item has left the window.
    pub(crate) fn has_trimmed(&self) -> bool {
        self.seq > self.retained() as u64
    }

    /// Returns how many items of this buffer are in memory, exact to a block of them.
    pub(crate) fn backlog(&self) -> u64 {
        if self.window.is_none() && self.last.is_unique() {
            return 0;
        }
        if self.may_replace() {
            return 1;
        }
        // All slots but the last, which is empty, hold items.
        let slots = self.allocator.used() - 1;
        // Relaxed: a statistic. Its blocks were used before, so the difference is not negative.
        slots.saturating_sub(self.shared.reclaimed().load(Relaxed))
    }

    pub(crate) fn subscriber_count(&self) -> usize {
        self.shared.observers()
    }

    pub(crate) fn is_observed(&self) -> bool {
        self.shared.is_observed()
    }

    /// Returns what readers share, whose counts of observers can be awaited.
    pub(crate) fn shared(&self) -> &Arc<Shared<T>> {
        &self.shared
    }

    /// Returns `true` if nothing can be published any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Clears what is retained for late readers.
    ///
    /// Returns what keeps it alive for the moment: dropping that runs user code.
    pub(crate) fn clear_window(&mut self) -> Option<impl Sized + use<T>> {
        let window = self.window.as_mut()?;
        let empty = Window {
            first: self.last.clone(),
            newest: None,
            len: 0,
            limit: window.limit,
            passed: None,
        };
        Some(mem::replace(window, empty).into_oldest())
    }
}

impl<T> PlaceRef<T> {
    /// Returns the end of an empty buffer that has failed with `error`.
    pub(crate) fn failed(error: SharedError) -> Self {
        let mut writer = Writer::new(0);
        let place = writer.tail();
        drop(writer.fail(error));
        place
    }

    /// Returns the end of an empty buffer.
    pub(super) fn nowhere() -> Self {
        Writer::new(0).tail()
    }
}

impl<T> Drop for Writer<T> {
    /// Closes the buffer, unless it has ended before.
    fn drop(&mut self) {
        drop(self.close());
    }
}

impl<T> Window<T> {
    /// Returns `true` if a batch of `len` items would be all that the window holds, and the item
    /// that it holds now is referenced by others.
    #[inline]
    fn may_take_over(&self, len: u64) -> bool {
        self.limit == 1
            && self.len == 1
            && len == 1
            && self.passed.is_none()
            && !self.first.is_unique()
    }

    /// Returns the reference that keeps all of it.
    fn into_oldest(self) -> NodeRef<T> {
        // The item that has left the window leads to the others.
        self.passed.unwrap_or(self.first)
    }

    /// Frees the oldest items beyond the limit.
    #[inline]
    fn trim(&mut self) {
        if self.len > self.limit {
            self.trim_all();
        } else {
            drop(self.passed.take());
        }
    }

    #[inline(never)]
    fn trim_all(&mut self) {
        if mem::needs_drop::<T>() && self.len - self.limit > 1 {
            // All in one chain, so that none keeps later ones alive while its events are dropped.
            return drop(self.forget_excess());
        }
        // If the drop of one panics, the others are freed all the same.
        even_if_it_panics(|| {
            drop(self.passed.take());
            while self.len > self.limit {
                // Counted first: the drop of an event may panic in `consume`.
                self.len -= 1;
                if !self.first.consume() {
                    self.len += 1;
                    return drop(self.forget_excess());
                }
            }
        });
    }

    /// Trims under a lock: like [`trim`](Self::trim), but returns what runs user code when dropped.
    #[inline]
    fn trim_later(&mut self) -> Option<NodeRef<T>> {
        if mem::needs_drop::<T>() {
            return self.forget_excess();
        }
        self.trim();
        None
    }

    /// Takes the oldest items beyond the limit out of the window.
    ///
    /// Returns what keeps them alive for the moment.
    #[inline]
    fn forget_excess(&mut self) -> Option<NodeRef<T>> {
        let excess = self.len.saturating_sub(self.limit);
        let trimmed = (excess > 0).then(|| {
            self.len = self.limit;
            let first = self.first.nth(excess);
            mem::replace(&mut self.first, first)
        });
        // There are both only if a wake-up has panicked. The passed item leads to the others.
        self.passed.take().or(trimmed)
    }
}
