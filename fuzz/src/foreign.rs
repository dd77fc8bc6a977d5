//! Foreign code that misbehaves on demand: fuses in the events' clone and drop, in iterators and in
//! wakers, which panic or use the buffer.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use event_buffer::SharedBuffer;

/// Where foreign code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    Clone,
    Drop,
    Iterator,
    Wake,
    WakerClone,
    WakerDrop,
    /// A watch's filter.
    Filter,
    /// A snapshot's handler.
    Handler,
    /// An event's size.
    ByteSize,
}

pub(crate) const SPOTS: [Spot; 9] = [
    Spot::Clone,
    Spot::Drop,
    Spot::Iterator,
    Spot::Wake,
    Spot::WakerClone,
    Spot::WakerDrop,
    Spot::Filter,
    Spot::Handler,
    Spot::ByteSize,
];

/// What it does there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mischief {
    #[default]
    No,
    /// The call after so many good ones panics.
    PanicAfter(u8),
    /// Each call of one step panics.
    PanicAlways,
    /// Each call of one step uses the shared buffer that the step is about.
    Reenter,
}

/// What an injected panic carries.
struct Injected;

thread_local! {
    static FUSES: [Cell<Mischief>; SPOTS.len()] = const { [const { Cell::new(Mischief::No) }; SPOTS.len()] };
    /// The library runs, rather than the fuzzer's own code.
    static ARMED: Cell<bool> = const { Cell::new(false) };
    /// Which fuses have blown in this step, and which of them panicked.
    static BLOWN: Cell<u16> = const { Cell::new(0) };
    static PANICKED: Cell<u16> = const { Cell::new(0) };
    static ANY_PANICKED: Cell<bool> = const { Cell::new(false) };
    /// Uses the shared buffer that the step is about.
    static USE_SHARED: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

pub(crate) fn reset() {
    for spot in SPOTS {
        set(spot, Mischief::No);
    }
}

pub(crate) fn set(spot: Spot, mischief: Mischief) {
    FUSES.with(|fuses| fuses[spot as usize].set(mischief));
}

/// How many more events can be cloned before a clone panics.
pub(crate) fn good_clones() -> usize {
    match FUSES.with(|fuses| fuses[Spot::Clone as usize].get()) {
        Mischief::PanicAfter(left) => left.into(),
        Mischief::PanicAlways => 0,
        Mischief::No | Mischief::Reenter => usize::MAX,
    }
}

/// Called by foreign code, last: it may panic.
pub(crate) fn trip(spot: Spot) {
    if !ARMED.get() {
        return;
    }
    let mischief = FUSES.with(|fuses| fuses[spot as usize].get());
    match mischief {
        Mischief::No => {}
        Mischief::PanicAfter(left @ 1..) => set(spot, Mischief::PanicAfter(left - 1)),
        // A second panic would be an abort, whatever the library does.
        Mischief::PanicAfter(_) | Mischief::PanicAlways if thread::panicking() => {}
        Mischief::PanicAfter(_) => {
            set(spot, Mischief::No);
            injected_panic(spot)
        }
        Mischief::PanicAlways => {
            blow(spot);
            injected_panic(spot)
        }
        Mischief::Reenter => {
            blow(spot);
            reenter();
        }
    }
}

fn blow(spot: Spot) {
    BLOWN.set(BLOWN.get() | 1 << spot as u16);
}

fn injected_panic(spot: Spot) -> ! {
    PANICKED.set(PANICKED.get() | 1 << spot as u16);
    ANY_PANICKED.set(true);
    // Not `panic!`: libFuzzer's hook would abort.
    resume_unwind(Box::new(Injected))
}

fn reenter() {
    let armed = ARMED.replace(false);
    USE_SHARED.with_borrow(|use_shared| {
        if let Some(use_shared) = use_shared {
            use_shared();
        }
    });
    ARMED.set(armed);
}

/// Only looks, so that the model need not know. If a lock is held this hangs.
fn look_at<T>(shared: &SharedBuffer<T>) {
    let mut reader = shared.subscribe_from_start();
    while reader.try_recv().is_ok() {}
    drop((reader, shared.latest(), shared.tail(), shared.retained()));
}

/// The library panicked, as it should, because of foreign code at these spots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked(u16);

impl Panicked {
    pub(crate) fn was_in(self, spot: Spot) -> bool {
        self.0 & 1 << spot as u16 != 0
    }
}

/// Whether foreign code has panicked since this was asked last.
pub(crate) fn has_panicked() -> bool {
    ANY_PANICKED.take()
}

/// Runs a call of the library, in which foreign code may misbehave.
pub(crate) fn act<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    act_with::<(), R>(None, call)
}

/// The same where the call is about a shared buffer.
pub(crate) fn act_with<T: 'static, R>(
    shared: Option<SharedBuffer<T>>,
    call: impl FnOnce() -> R,
) -> Result<R, Panicked> {
    USE_SHARED.set(shared.map(|shared| Box::new(move || look_at(&shared)) as _));
    BLOWN.set(0);
    PANICKED.set(0);
    ARMED.set(true);
    let answer = catch_unwind(AssertUnwindSafe(call));
    ARMED.set(false);
    drop(USE_SHARED.take());
    let blown = BLOWN.get();
    for spot in SPOTS
        .into_iter()
        .filter(|&spot| blown & 1 << spot as u16 != 0)
    {
        set(spot, Mischief::No);
    }
    answer.map_err(|panic| {
        if !panic.is::<Injected>() {
            resume_unwind(panic);
        }
        Panicked(PANICKED.get())
    })
}
