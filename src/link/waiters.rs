//! Groups of tasks that wait for an event.

use std::mem;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::Waker;

use event_listener::{Event, EventListener, IntoNotification, Listener};
use slab::Slab;

use crate::sync::{AtomicU64, Mutex};
use crate::unwind::{even_if_it_panics, for_each_even_if_one_panics};

/// The groups of tasks that wait for the events of one buffer, or for a signal.
///
/// See the [module page](super).
#[derive(Default)]
pub(crate) struct Waiters {
    /// The number of the oldest live group; all earlier ones are over. Written under the lock.
    oldest: AtomicU64,
    groups: Mutex<Groups>,
}

#[derive(Default)]
struct Groups {
    /// The newest group. Once it is over it stays here, with the memory of its list, until the next
    /// one takes its place.
    newest: Group,
    /// Older groups that still wait, in order of their numbers: their wake-up is late, or a task
    /// has waited for an earlier link since.
    older: Vec<Group>,
    /// The stamp of the next ticket.
    stamp: u32,
}

/// The tasks that wait for one event. It is over when it has none.
#[derive(Default)]
struct Group {
    number: u64,
    /// Dropped under the lock, while no other group listens to the same event, because a listener
    /// that was notified passes its notification on when it is dropped. The listener of a group
    /// that is over is dropped when the next group is created, not while tasks are being woken.
    listener: Option<EventListener>,
    tasks: Slab<Task>,
}

struct Task {
    stamp: u32,
    waker: Waker,
}

/// A task's place in a group. It is void once the task has left or the group is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// Not zero, so that an `Option<Ticket>` is no larger.
    group: NonZeroU64,
    task: u32,
    /// Distinguishes the task from others that have had its place in the list.
    stamp: u32,
}

impl Waiters {
    /// Adds a task to the group of `event`.
    ///
    /// If a listener has to be registered for that, calls `set_waiting_bit` after it, under the
    /// lock. The caller then checks its condition again.
    pub(super) fn join(
        &self,
        event: &Event,
        waker: &Waker,
        set_waiting_bit: impl FnOnce(),
    ) -> Ticket {
        // Cloned outside the lock, since that is user code.
        let waker = waker.clone();
        // `oldest` stays: a new group has the number that it is at already, unless an older one
        // lives.
        self.groups.lock().join(event, waker, set_waiting_bit)
    }

    /// Replaces the waker of a task. Returns `false` if the task does not wait for `event`.
    pub(super) fn renew(&self, event: &Event, ticket: Ticket, waker: &Waker) -> bool {
        if !self.may_be_live(ticket) {
            return false;
        }
        match self.groups.lock().task_waiting_for(event, ticket) {
            None => return false,
            // Polled again without having been woken, mostly by the same task.
            Some(task) if task.waker.will_wake(waker) => return true,
            Some(_) => {}
        }
        let mut waker = waker.clone();
        let mut groups = self.groups.lock();
        let task = groups.task_waiting_for(event, ticket);
        let waits = task.is_some();
        if let Some(task) = task {
            mem::swap(&mut task.waker, &mut waker);
        }
        drop(groups);
        drop(waker);
        waits
    }

    /// Takes the task off its group, unless the group is over.
    #[inline]
    pub(crate) fn leave(&self, ticket: Ticket) {
        if self.may_be_live(ticket) {
            self.remove(ticket);
        }
    }

    #[cold]
    fn remove(&self, ticket: Ticket) {
        let mut groups = self.groups.lock();
        let mut waker = groups.leave(ticket);
        self.update_oldest(&groups);
        drop(groups);
        // This is a drop already, so a second panic would abort.
        even_if_it_panics(|| drop(waker.take()));
    }

    /// Notifies the event and wakes the tasks of its group, each even if another one's waker
    /// panics.
    #[cold]
    pub(crate) fn notify(&self, event: &Event) {
        // Relaxed, so without a fence: the caller has read the waiting bit with a
        // read-modify-write, which orders this after the registration of every listener that must
        // be notified. See the module page.
        if event.notify(usize::MAX.relaxed()) == 0 {
            return;
        }
        let mut groups = self.groups.lock();
        if let Some(task) = groups.take_only_task(event) {
            self.update_oldest(&groups);
            drop(groups);
            let mut waker = Some(task.waker);
            return even_if_it_panics(|| {
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            });
        }
        // There is no group if all of its tasks have left meanwhile.
        let Some(mut tasks) = groups.take(event) else {
            return;
        };
        self.update_oldest(&groups);
        let woken = tasks.len();
        if woken > FEW {
            drop(groups);
            for_each_even_if_one_panics(tasks.drain(), |task| task.waker.wake());
            let unneeded = self.groups.lock().keep(tasks, woken);
            return drop(unneeded);
        }
        // A few tasks are woken from the stack, so that their list is put back under the same lock.
        let mut few = [const { None }; FEW];
        for (place, task) in few.iter_mut().zip(tasks.drain()) {
            *place = Some(task.waker);
        }
        let unneeded = groups.keep(tasks, woken);
        drop(groups);
        drop(unneeded);
        for_each_even_if_one_panics(few.into_iter().flatten(), Waker::wake);
    }

    /// Takes the waker of one task, which stays in its group because it will be polled again.
    ///
    /// Returns a waker that does nothing if the group is over.
    #[cold]
    pub(crate) fn take_waker(&self, ticket: Ticket) -> Waker {
        let mut waker = Waker::noop().clone();
        let mut groups = self.groups.lock();
        if let Some(task) = groups.task(ticket) {
            mem::swap(&mut task.waker, &mut waker);
        }
        drop(groups);
        waker
    }

    #[inline]
    fn may_be_live(&self, ticket: Ticket) -> bool {
        // Acquire: pairs with the Release in `update_oldest`. A task that does not see a group's
        // end here sees it under the lock.
        ticket.group.get() >= self.oldest.load(Acquire)
    }

    #[inline]
    fn update_oldest(&self, groups: &Groups) {
        // Release: pairs with the Acquire in `may_be_live`.
        self.oldest.store(groups.oldest(), Release);
    }
}

impl Group {
    #[inline]
    fn is_live(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Returns `true` if its tasks wait for `event`.
    #[inline]
    fn waits_for(&self, event: &Event) -> bool {
        let listener = self.listener.as_ref();
        self.is_live() && listener.is_some_and(|listener| listener.listens_to(event))
    }

    #[inline]
    fn add(&mut self, waker: Waker, stamp: u32) -> Ticket {
        let task = self.tasks.insert(Task { stamp, waker });
        Ticket {
            // Groups are numbered from 1.
            group: NonZeroU64::new(self.number).unwrap_or(NonZeroU64::MIN),
            // More tasks than that do not fit into memory.
            task: u32::try_from(task).unwrap_or(u32::MAX),
            stamp,
        }
    }

    fn task(&mut self, ticket: Ticket) -> Option<&mut Task> {
        let task = self.tasks.get_mut(ticket.task as usize);
        task.filter(|task| task.stamp == ticket.stamp)
    }
}

impl Groups {
    /// Returns the number of the oldest live group, or else of the next one.
    #[inline]
    fn oldest(&self) -> u64 {
        match self.older.first() {
            Some(oldest) => oldest.number,
            None => self.newest.number + u64::from(!self.newest.is_live()),
        }
    }

    #[inline]
    fn join(&mut self, event: &Event, waker: Waker, set_waiting_bit: impl FnOnce()) -> Ticket {
        self.stamp = self.stamp.wrapping_add(1);
        if !self.newest.waits_for(event) {
            if let Some(group) = self.older.iter_mut().find(|older| older.waits_for(event)) {
                return group.add(waker, self.stamp);
            }
            self.create(event, set_waiting_bit);
        }
        self.newest.add(waker, self.stamp)
    }

    /// Makes the newest group one that waits for `event`. It has no tasks yet.
    fn create(&mut self, event: &Event, set_waiting_bit: impl FnOnce()) {
        let number = self.newest.number + 1;
        if self.newest.is_live() {
            self.older.push(mem::take(&mut self.newest));
        }
        let group = &mut self.newest;
        group.number = number;
        // The old listener first: see the field.
        group.listener = None;
        group.listener = Some(event.listen());
        // After the listener is registered, and under the lock: see the module page.
        set_waiting_bit();
    }

    fn task_waiting_for(&mut self, event: &Event, ticket: Ticket) -> Option<&mut Task> {
        let group = self.group(ticket).filter(|group| group.waits_for(event));
        group?.task(ticket)
    }

    fn task(&mut self, ticket: Ticket) -> Option<&mut Task> {
        self.group(ticket)?.task(ticket)
    }

    fn group(&mut self, ticket: Ticket) -> Option<&mut Group> {
        let Self { newest, older, .. } = self;
        let mut groups = [newest].into_iter().chain(older);
        groups.find(|group| group.number == ticket.group.get())
    }

    fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        let group = self.group(ticket)?;
        group.task(ticket)?;
        let task = group.tasks.try_remove(ticket.task as usize);
        if !group.is_live() {
            group.listener = None;
            self.older.retain(Group::is_live);
        }
        task.map(|task| task.waker)
    }

    /// Ends the group of `event` and returns its task, if it has only one, as is usual. The list
    /// stays in its place.
    #[inline]
    fn take_only_task(&mut self, event: &Event) -> Option<Task> {
        let group = &mut self.newest;
        let is_alone = group.tasks.len() == 1 && group.tasks.capacity() <= CROWD;
        if !is_alone || !group.waits_for(event) {
            return None;
        }
        group.tasks.drain().next()
    }

    /// Ends the group of `event` and returns its tasks.
    #[inline]
    fn take(&mut self, event: &Event) -> Option<Slab<Task>> {
        if self.newest.waits_for(event) {
            return Some(mem::take(&mut self.newest.tasks));
        }
        let waits = |older: &Group| older.waits_for(event);
        let at = self.older.iter().position(waits)?;
        Some(self.older.remove(at).tasks)
    }

    /// Keeps the emptied list of a group of `tasks` tasks for the next group.
    ///
    /// Returns a list to be freed after the lock is released. A crowd that came once does not keep
    /// its memory for ever.
    #[inline]
    fn keep(&mut self, emptied: Slab<Task>, tasks: usize) -> Slab<Task> {
        let is_worth_it = emptied.capacity() <= CROWD || tasks >= emptied.capacity() / 4;
        if is_worth_it && !self.newest.is_live() {
            mem::replace(&mut self.newest.tasks, emptied)
        } else {
            emptied
        }
    }
}

/// How many tasks are woken without taking the lock again.
const FEW: usize = 4;
/// A list with room for more tasks is freed if only few of them were waiting.
const CROWD: usize = 64;
