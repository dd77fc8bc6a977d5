//! What a producer sees of its watches and of its progress.

use std::borrow::Borrow;
use std::hash::Hash;

use super::handle::Publisher;
use super::report::stats::{Slowest, Stats};
use super::watch::resume::Resume;

impl<K, T> Publisher<K, T>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    /// Returns the number of watches of the key. O(1).
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::<String, u32>::builder().build();
    /// let watch = publisher.subscribe(Request::new("key".to_string()));
    /// assert_eq!((publisher.watchers("key"), publisher.watchers("other")), (1, 0));
    /// # drop(watch);
    /// ```
    pub fn watchers<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.hub().watchers(key)
    }

    /// Waits until the key has a watch. Returns at once if it has one.
    ///
    /// Producers use this to do no work for unwatched keys. Takes the publisher's lock at the
    /// beginning and at the end. Also returns once no watch can come any more: after a shutdown, or
    /// when the last handle of the publisher is dropped.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::<String, u32>::builder().build();
    /// let watch = publisher.subscribe(Request::new("key".to_string()));
    /// publisher.watched("key").await;
    /// # drop(watch);
    /// # });
    /// ```
    pub async fn watched<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(arrival) = self.hub().watched(key) {
            arrival.await;
        }
    }

    /// Waits until everything up to a resume point has been published.
    ///
    /// If several processes publish the same commits at the same indexes, one may be behind another
    /// for a moment. A client that comes from that one would begin anew, with
    /// [`ResetReason::Ahead`](super::ResetReason::Ahead), unless its process waits for this first.
    /// The wait should have a time limit, because the commit may never come.
    ///
    /// Returns at once if the point is of another epoch, or if nothing is published any more. A
    /// [`reset`](Self::reset) or a [`shutdown`](Self::shutdown) ends the wait.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind.
    ///
    /// # Cost
    ///
    /// Takes the publisher's lock at the beginning and at the end. A commit costs one comparison
    /// more.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Resume};
    ///
    /// let publisher = Publisher::<&str, u32>::builder().epoch(1).build();
    /// let place = Resume { epoch: 1, index: 5 };
    /// let resumed = async { publisher.reached(place).await };
    /// let published = async { publisher.publish(7, [("key", 1)]) };
    /// futures::join!(resumed, published).1?;
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub async fn reached(&self, place: Resume) {
        if let Some(reached) = self.hub().reached(place) {
            reached.await;
        }
    }

    /// Returns current figures, and totals since the publisher was made. O(1).
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::builder().build();
    /// let watch = publisher.subscribe(Request::new("key"));
    /// publisher.publish(1, [("key", 1)])?;
    /// assert_eq!((publisher.stats().subscriptions, publisher.stats().commits), (1, 1));
    /// # drop(watch);
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.hub().stats()
    }

    /// Returns the `n` watches that are furthest behind, the furthest first.
    ///
    /// # Cost
    ///
    /// O(watches), in steps between which the lock is released. Keys are cloned under no lock.
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::builder().build();
    /// let watch = publisher.subscribe(Request::new("key").token("alice"));
    /// publisher.publish(1, [("key", 1)])?;
    /// publisher.publish(2, [("key", 2)])?;
    /// let slowest = &publisher.slowest(1)[0];
    /// assert_eq!((&*slowest.tokens[0], slowest.lag), ("alice", 2));
    /// # drop(watch);
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    pub fn slowest(&self, n: usize) -> Vec<Slowest<K>> {
        self.hub().slowest(n)
    }
}
