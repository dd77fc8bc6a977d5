//! Groups of tasks that wait for an event.

use std::mem;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::Waker;

use event_listener::{Event, EventListener, Listener};
use slab::Slab;

use crate::sync::{AtomicU64, Mutex};
use crate::unwind::for_each_even_if_one_panics;

/// The groups of tasks that wait for the events of one buffer, or for a signal. See the
/// [module page](super).
#[derive(Default)]
pub(crate) struct Waiters {
    /// Tickets with a smaller number are void. Written under the lock.
    oldest: AtomicU64,
    groups: Mutex<Groups>,
}

#[derive(Default)]
struct Groups {
    /// It stays here when it is over, with the memory of its list, until the next one takes its place.
    newest: Group,
    /// Groups whose wake-up is late, in order of their numbers.
    late: Vec<Group>,
    /// The number of the next ticket.
    next: u64,
}

/// The tasks that wait for one event. Over when there are none.
#[derive(Default)]
struct Group {
    /// The number of the first ticket. Those of the next group are greater than all of this one.
    first: u64,
    /// Dropped under the lock, while no other group listens to the same event: a listener that was notified
    /// hands its notification on when it is dropped. Of a group that is over it is dropped when the next one
    /// is created, rather than while tasks are being woken.
    listener: Option<EventListener>,
    tasks: Slab<Task>,
}

struct Task {
    /// Of its ticket.
    number: u64,
    waker: Waker,
}

/// A task's place in a group. Void once the task has left or the group is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// No other ticket of these waiters has or had it.
    number: u64,
    task: usize,
}

/// Wakers to be dropped after the lock.
type LeftOver = [Option<Waker>; 2];

impl Waiters {
    /// Adds a task to the group of `event`, or replaces the waker of the task that `known` stands for.
    ///
    /// `set_waiting_bit` is called under the lock when a listener has been registered. The caller keeps the ticket
    /// (there is none if there is nothing to wait for), drops the wakers that are left over (which may panic), and
    /// looks at the condition again.
    pub(super) fn join(
        &self,
        event: &Event,
        known: Option<Ticket>,
        waker: &Waker,
        set_waiting_bit: impl FnOnce(),
    ) -> (Option<Ticket>, LeftOver) {
        let known = known.filter(|ticket| self.may_be_live(*ticket));
        if let Some(ticket) = known {
            // Polled again without having been woken: mostly it is the same task.
            if self.groups.lock().would_wake(event, ticket, waker) {
                return (Some(ticket), [None, None]);
            }
        }
        // Cloned outside the lock, and dropped, too: both are user code.
        let waker = waker.clone();
        let mut groups = self.groups.lock();
        let joined = match known {
            Some(ticket) => groups.rejoin(event, ticket, waker, set_waiting_bit),
            None => groups.join(event, waker, set_waiting_bit),
        };
        self.update_oldest(&groups);
        joined
    }

    /// Takes the task off its group, if that is not over.
    #[inline]
    pub(super) fn leave(&self, ticket: Ticket) {
        if self.may_be_live(ticket) {
            self.remove(ticket);
        }
    }

    #[cold]
    fn remove(&self, ticket: Ticket) {
        let mut groups = self.groups.lock();
        let waker = groups.leave(ticket);
        self.update_oldest(&groups);
        drop(groups);
        drop(waker);
    }

    /// Notifies the event and wakes every task of its group, each even if another one's waker panics.
    #[cold]
    pub(crate) fn notify(&self, event: &Event) {
        if event.notify(usize::MAX) == 0 {
            return;
        }
        let mut groups = self.groups.lock();
        // Empty if all of them have left since.
        let mut tasks = groups.take(event);
        self.update_oldest(&groups);
        let woken = tasks.len();
        if woken > FEW {
            drop(groups);
            for_each_even_if_one_panics(tasks.drain(), |task| task.waker.wake());
            let unneeded = self.groups.lock().keep(tasks, woken);
            return drop(unneeded);
        }
        // Few are woken from the stack, since it is so usual: their list is put back under the same lock.
        let mut few = [const { None }; FEW];
        for (place, task) in few.iter_mut().zip(tasks.drain()) {
            *place = Some(task.waker);
        }
        let unneeded = groups.keep(tasks, woken);
        drop(groups);
        drop(unneeded);
        for_each_even_if_one_panics(few.into_iter().map_while(|waker| waker), Waker::wake);
    }

    /// Takes the waker of one task, which stays in its group: it is to be polled again. One that does nothing if
    /// the group is over.
    #[cold]
    pub(super) fn take_waker(&self, ticket: Ticket) -> Waker {
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
        // Acquire: pairs with the Release in `update_oldest`. A task that misses a group's end here finds it
        // under the lock.
        ticket.number >= self.oldest.load(Acquire)
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

    /// Whether its tasks wait for that event.
    #[inline]
    fn waits_for(&self, event: &Event) -> bool {
        let listener = self.listener.as_ref();
        self.is_live() && listener.is_some_and(|listener| listener.listens_to(event))
    }
}

impl Group {
    fn task(&mut self, ticket: Ticket) -> Option<&mut Task> {
        let task = self.tasks.get_mut(ticket.task);
        task.filter(|task| task.number == ticket.number)
    }
}

impl Groups {
    /// The first number of the oldest live group, or the next one.
    #[inline]
    fn oldest(&self) -> u64 {
        match self.late.first() {
            Some(late) => late.first,
            None if self.newest.is_live() => self.newest.first,
            None => self.next,
        }
    }

    #[inline]
    fn join(
        &mut self,
        event: &Event,
        waker: Waker,
        set_waiting_bit: impl FnOnce(),
    ) -> (Option<Ticket>, LeftOver) {
        if !self.newest.waits_for(event) {
            // A later link has been waited for since, so that of a late group is written: whoever looks again after
            // this lock finds it so.
            if self.late.iter().any(|late| late.waits_for(event)) {
                return (None, [Some(waker), None]);
            }
            self.create(event, set_waiting_bit);
        }
        let number = self.next;
        self.next += 1;
        let task = self.newest.tasks.insert(Task { number, waker });
        (Some(Ticket { number, task }), [None, None])
    }

    fn create(&mut self, event: &Event, set_waiting_bit: impl FnOnce()) {
        if self.newest.is_live() {
            self.late.push(mem::take(&mut self.newest));
        }
        let group = &mut self.newest;
        group.first = self.next;
        // In this order: see the field.
        group.listener = None;
        group.listener = Some(event.listen());
        // After the listener is registered and under the lock: see the module page.
        set_waiting_bit();
    }

    /// Replaces a task's waker, which is returned; the task changes groups if it now waits for another event.
    fn rejoin(
        &mut self,
        event: &Event,
        ticket: Ticket,
        waker: Waker,
        set_waiting_bit: impl FnOnce(),
    ) -> (Option<Ticket>, LeftOver) {
        if let Some(task) = self.task_waiting_for(event, ticket) {
            let replaced = mem::replace(&mut task.waker, waker);
            return (Some(ticket), [Some(replaced), None]);
        }
        let left = self.leave(ticket);
        let (joined, [refused, _]) = self.join(event, waker, set_waiting_bit);
        (joined, [left, refused])
    }

    fn would_wake(&mut self, event: &Event, ticket: Ticket, waker: &Waker) -> bool {
        let known = self.task_waiting_for(event, ticket);
        known.is_some_and(|known| known.waker.will_wake(waker))
    }

    fn task_waiting_for(&mut self, event: &Event, ticket: Ticket) -> Option<&mut Task> {
        let group = self.group(ticket).filter(|group| group.waits_for(event));
        group?.task(ticket)
    }

    fn task(&mut self, ticket: Ticket) -> Option<&mut Task> {
        self.group(ticket)?.task(ticket)
    }

    /// The group that the ticket is of, if it is live.
    fn group(&mut self, ticket: Ticket) -> Option<&mut Group> {
        let Self { newest, late, .. } = self;
        let mut newest_first = [newest].into_iter().chain(late.iter_mut().rev());
        newest_first.find(|group| group.first <= ticket.number)
    }

    fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        let group = self.group(ticket)?;
        group.task(ticket)?;
        let task = group.tasks.try_remove(ticket.task);
        if !group.is_live() {
            group.listener = None;
            self.late.retain(Group::is_live);
        }
        task.map(|task| task.waker)
    }

    /// Ends the group of `event` and returns its tasks.
    #[inline]
    fn take(&mut self, event: &Event) -> Slab<Task> {
        if self.newest.waits_for(event) {
            return mem::take(&mut self.newest.tasks);
        }
        let at = self.late.iter().position(|late| late.waits_for(event));
        at.map_or(Slab::new(), |at| self.late.remove(at).tasks)
    }

    /// Keeps the emptied list of a group of that many tasks for the next one. Returns a list to be freed after
    /// the lock: a crowd that came once does not keep its memory for ever.
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
/// A list with room for more is given up when few wait.
const CROWD: usize = 64;
