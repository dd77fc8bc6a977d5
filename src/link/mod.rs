//! Waiting and being woken: one protocol for everything in this crate that a task can wait for.
//!
//! # The parts
//!
//! Everything that can be waited for has an [`Event`] of `event-listener`, a *waiting bit*, and a
//! condition that becomes true. For a link of a buffer, these are the node's event, a bit of its
//! state word, and "the slot is written". For everything else, they are a [`Signal`] and its
//! condition.
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
//! * **Waiting.** A task joins the group of the event, with one short lock. The first task creates
//!   the group: it registers the listener, then sets the waiting bit, both before it releases the
//!   lock. Every task then checks the condition again, and leaves if it has become true meanwhile.
//! * **Waking.** The writer makes the condition true, and then reads the waiting bit with an atomic
//!   read-modify-write. If the bit is not set, it is done: no call, no lock, no allocation. If it
//!   is set, the writer calls `event.notify(usize::MAX)`. If that has reached a listener, the
//!   writer takes the listener's group off the list, releases the lock, and wakes the tasks.
//! * **Leaving.** A [`Registration`] leaves its group when it is dropped. The last one to leave
//!   drops the listener.
//! * **Closing.** A thread that takes a reader's place away also takes its task's waker out of the
//!   group. So a task has one waker for both its link and its closers, and is woken once.
//!
//! A group belongs to its event, not to the buffer. If a wake-up is late, or never comes because
//! what wakes when dropped was leaked, only the tasks of that link are held up.
//!
//! # Why no wake-up is lost
//!
//! Call the writer's read-modify-write W, and the one with which the group's creator sets the
//! waiting bit C. They change the same word, hence one comes first:
//!
//! 1. **C comes first.** W reads the bit, and with it everything that the creator did before: the
//!    listener is registered, so `notify` reaches it. The writer then takes the group under the
//!    lock. A task that joined before that is in the group and is woken. A task that locks after
//!    that finds no group, becomes a creator itself, and case 2 holds for it.
//! 2. **W comes first.** C reads from W's release, so the creator finds the condition true when it
//!    checks again, and leaves. So does every task that joins the creator's group: it locks after
//!    the creator, which set the bit before it released the lock.
//!
//! Both cases need the bit to be set after the listener is registered, and under the lock.
//! Otherwise a writer could read the bit and call `notify` before there is a listener. It would
//! leave behind a group that is never notified, unless `event-listener` happens to order the two.
//! (It documents a fence at the end of `listen` for that. Version 5.4 has no such fence; the lock
//! that its `notify` takes has the same effect.)
//!
//! # Why a group, and not a listener for each task
//!
//! `event-listener` clones, wakes and drops wakers while it holds its own lock. All three are user
//! code. A waker that takes a lock under which another thread drops a reader of the same link, or
//! whose clone polls a reader, would deadlock. So a task's waker is kept here instead, and is
//! cloned, woken and dropped outside every lock.
//!
//! One listener for all also costs less. The library takes three locks for each listener, while a
//! task that joins a group takes one. A task that waits alone pays for the listener itself: one
//! allocation for the event and one for the listener.

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
pub(crate) use receiving::Receiving;
pub(crate) use registration::{Awaited, Registration, wait_for};
pub(crate) use signal::Signal;
pub(crate) use waiters::{Ticket, Waiters};
