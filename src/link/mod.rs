//! Waiting and being woken: one protocol, for everything in this crate that a task can wait for.
//!
//! # The shape
//!
//! Whatever can be waited for has an [`Event`] of `event-listener`, a *waiting bit*, and a condition that
//! becomes true once. For a link of a buffer that is the node's event, a bit of its state word, and
//! "the slot is written". For everything else it is a [`Signal`].
//!
//! The tasks that wait for one event form a *group*, which has one listener between them:
//!
//! ```text
//!        node 7                 Waiters of the buffer (one lock)
//!   ┌──────────────┐          ┌──────────────────────────────────────────┐
//!   │ next = null  │          │ group 3                                  │
//!   │ event ───────┼──┐       │   listener ──┐   tasks: [w0] [w1] [w2]   │
//!   └──────────────┘  │       └──────────────┼───────────────────────────┘
//!                     ▼                      │        ▲
//!              list of listeners ◀───────────┘        └── Registration = (group 3, task 1)
//! ```
//!
//! * **Waiting.** A task joins the group of the event, with one short lock. The first one creates the
//!   group: it registers the listener, then sets the waiting bit, both before it releases the lock. Every
//!   task then looks at the condition again, and leaves if it has become true meanwhile.
//! * **Waking.** The writer makes the condition true, and then reads the waiting bit with an atomic
//!   read-modify-write. Without the bit it is done: no call, no lock, no allocation. With the bit it calls
//!   `event.notify(usize::MAX)`. If that reached a listener, it takes the listener's group off the list and
//!   wakes its tasks, after the lock is released.
//! * **Leaving.** A [`Registration`] leaves its group when it is dropped. The last one to leave takes the
//!   listener along.
//! * **Closing.** Whoever takes a reader's place away takes its task's waker out of the group, too. So a task
//!   has one waker for its link and its closers, and is woken once.
//!
//! A group belongs to its event, not to the buffer: a wake-up that is late, or never comes because a
//! `Deferred` was leaked, holds up the tasks of its own link and no others.
//!
//! # Why no wake-up is lost
//!
//! The writer's read-modify-write (W) and the one with which the group's creator sets the waiting bit (C) are
//! of one word, hence ordered:
//!
//! 1. **C comes first.** W reads the bit, and with it everything that the creator did before: the listener is
//!    registered, so `notify` reaches it. The writer then takes the group under the lock. A task that joined
//!    before that is in the group and is woken. A task that locks after that finds no group, becomes a
//!    creator itself, and case 2 holds for it.
//! 2. **W comes first.** C reads from W's release, so the creator finds the condition true when it looks again,
//!    and leaves. So does every task that joins the creator's group: it locks after the creator, which set
//!    the bit before it released the lock.
//!
//! Both cases need the bit to be set after the listener is registered, and under the lock. Otherwise a writer could
//! read it, call `notify` before there is a listener, and leave behind a group that nobody notifies, unless
//! `event-listener` happens to order the two. (It documents a fence at the end of `listen` for that. Version 5.4
//! has no such fence; the lock that its `notify` takes has the same effect.)
//!
//! # Why a group, and not a listener for each task
//!
//! `event-listener` clones, wakes and drops wakers while it holds its own lock. All three are user code: a
//! waker that takes a lock under which another thread drops a reader of the same link, or whose clone
//! polls a reader, deadlocks. So a task's waker is kept here instead, and it is cloned, woken and dropped
//! outside every lock. One listener for all also costs less: the library takes three locks for each listener,
//! a task that joins a group takes one. A task that waits alone pays for the listener itself, which is
//! an allocation for the event and one for the listener.

mod blocking;
mod closer;
mod receiving;
mod registration;
mod signal;
mod waiters;

pub(crate) use blocking::{block_on, recv_blocking, recv_timeout};
pub use closer::Closer;
pub(crate) use closer::{Closable, Closed};
pub(crate) use event_listener::Event;
pub(crate) use receiving::receive;
pub(crate) use registration::{Awaited, Registration, wait_for};
pub(crate) use signal::Signal;
pub(crate) use waiters::{Ticket, Waiters};
