//! The hub of a publisher: its topics, their history, snapshots and watches, under one lock.
//!
//! ```text
//!   records:  [5 a][6 b][6 a][7 c]              whose oldest entry leaves the history next
//!                │    │    │    │
//!      topic a:  5 ◀──┼── 6     │               each entry of a topic is a position in its chain
//!      topic b:       6         │
//!      topic c:                 7  (loose)      no watch and few entries: no chain
//!
//!   chain of a: ─▶[5]─▶[6]─▶[ ]                 the watches of a follow it without the lock
//! ```
//!
//! # The parts
//!
//! * A **topic** is everything that the publisher knows of one key. Its **entries** are what the
//!   history retains of the key: commits, the end of the key, and the mark of a refresh. A topic
//!   with a watch also has a **chain**, an event buffer that its watches read.
//! * A **record** says which topic has an entry, and as of which index. The records of all topics
//!   form one queue, the **history**. The oldest record names the entry that leaves next.
//! * A watch is **registered** once, with its tokens, and has a **seat** in each of its topics: how
//!   far it has read, and which snapshot it waits for.
//! * A **build** is a snapshot that is being made. It is polled by the watches that wait for it,
//!   and reports its outcome to the hub. A **kept** snapshot is a finished one that is cached.
//! * An **`Era`** is what watches read without the lock: the index up to which everything is
//!   linked, and whether the publisher has ended. Each epoch has its own.
//! * **`AfterLock`** is what a call has found to do under the lock and does after it: wake tasks,
//!   drop what was removed, report. `Locked` is the lock and an `AfterLock`, in this order.
//!
//! # The files
//!
//! Each imports only from the lines above it.
//!
//! ```text
//!   once                                               what tasks wait for
//!   indexes, history, topic, watches, arrivals,        the parts of the state; they take no lock
//!   milestones
//!   after_lock                                         what runs after the lock
//!   state                                              all parts, and the lock around them
//!   remove                                             what any operation may have to remove
//!   publish, close, end, builds,                       the operations
//!   watched, reached, progress, figures
//!   subscribe                                          the operation that needs builds, too
//! ```
//!
//! # The way of a commit
//!
//! A publish hashes the keys and finds their topics. Only then does it change anything. It
//! allocates the commit once and links its parts into the chains of the topics that it touches. It
//! adds a record for each, and notes the keys in the inboxes of watches of several keys. Then it
//! stores the index in the era, removes what has to leave the history, and releases the lock. After
//! the lock come the wakers, then the destructors, then the reports by `tracing`, so that no task
//! waits for a destructor and none for a subscriber.
//!
//! A watch reads the index of the era first and its chains afterwards. By invariant 2 it then finds
//! every commit up to that index, and can take the index itself for its resume point as soon as
//! nothing is left to read.
//!
//! # Invariants
//!
//! 1. **No user code under the lock**, except the keys' `Hash` and `Eq`. Those run before anything
//!    is changed, or with their panics caught. What has to be woken, dropped or reported goes into
//!    the `AfterLock` of the lock, which is dropped after it even if the call returns early or
//!    panics. Keys are cloned before the lock is taken.
//! 2. **The index is stored last.** `Era::published` is written under the lock, when all commits up
//!    to it are linked in all the chains that they touch, and noted in the inboxes of the watches
//!    of several keys.
//! 3. **One record for each entry of a topic**, in the same order. Void entries keep their records,
//!    which come first; the topic counts them. So a record always finds its topic.
//! 4. **Entries are linked or loose.** If a topic has a chain, all its entries are linked into it,
//!    except for a mark, which is the first entry. Without a chain they are loose, and few.
//! 5. **What may have been missed.** `left` of the hub is the newest index that has left the
//!    history, or that a former process published. A new topic starts with that as its own `left`,
//!    which then advances only with its own entries. So a watcher that has everything up to an
//!    index may resume exactly if the index is not less than `left` of its topic, and no mark
//!    forbids it.
//! 6. **A topic exists as long as it has a watch, a snapshot or a record.**
//! 7. **The lock is held briefly.** A loop over the history or over all watches takes at most
//!    `STEP` turns before the lock is released. Loops over what the call itself brings, over the
//!    watches and entries of one key or token, and over expired snapshots may be longer. The drop
//!    of the last handle visits all topics if snapshots are in flight.
//!
//! # Order of locks
//!
//! The hub's lock comes first. Under it at most one of these is taken: the lock of a snapshot's
//! parts, of a watch's orders, or of an inbox.

mod after_lock;
mod arrivals;
mod builds;
mod close;
mod end;
mod figures;
mod history;
mod indexes;
mod milestones;
mod once;
mod progress;
mod publish;
mod reached;
mod remove;
mod sizes;
mod state;
mod subscribe;
mod topic;
mod watched;
mod watches;

pub(super) use indexes::At;
pub(super) use publish::Pending;
pub(super) use state::{Hub, Settings};
