//! User code that misbehaves on demand. It has fuses in the clone and drop of events, in iterators
//! and in wakers, which panic or use the buffer.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use event_buffer::SharedBuffer;

/// The places where user code runs.
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
    /// A snapshot handler.
    Handler,
    /// The size of an event.
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

/// What user code does there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Misbehaviour {
    #[default]
    No,
    /// Panics once, after this many calls that do not.
    PanicAfter(u8),
    /// Panics at every call of one step.
    PanicAlways,
    /// Uses the step's shared buffer at every call of one step.
    Reenter,
}

/// The payload of an injected panic.
struct Injected;

thread_local! {
    static FUSES: [Cell<Misbehaviour>; SPOTS.len()] =
        const { [const { Cell::new(Misbehaviour::No) }; SPOTS.len()] };
    /// Whether the library is running, rather than the fuzzer's own code.
    static ARMED: Cell<bool> = const { Cell::new(false) };
    /// The fuses that have blown in this step, and those that panicked.
    static BLOWN: Cell<u16> = const { Cell::new(0) };
    static PANICKED: Cell<u16> = const { Cell::new(0) };
    static ANY_PANICKED: Cell<bool> = const { Cell::new(false) };
    /// Uses the step's shared buffer.
    static USE_SHARED: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

pub(crate) fn reset() {
    for spot in SPOTS {
        set(spot, Misbehaviour::No);
    }
}

pub(crate) fn set(spot: Spot, misbehaviour: Misbehaviour) {
    FUSES.with(|fuses| fuses[spot as usize].set(misbehaviour));
}

/// The number of events that can be cloned before a clone panics.
pub(crate) fn good_clones() -> usize {
    match FUSES.with(|fuses| fuses[Spot::Clone as usize].get()) {
        Misbehaviour::PanicAfter(left) => left.into(),
        Misbehaviour::PanicAlways => 0,
        Misbehaviour::No | Misbehaviour::Reenter => usize::MAX,
    }
}

/// Called last by user code, since it may panic.
pub(crate) fn trip(spot: Spot) {
    if !ARMED.get() {
        return;
    }
    let misbehaviour = FUSES.with(|fuses| fuses[spot as usize].get());
    match misbehaviour {
        Misbehaviour::No => {}
        Misbehaviour::PanicAfter(left @ 1..) => set(spot, Misbehaviour::PanicAfter(left - 1)),
        // A second panic would abort, whatever the library does.
        Misbehaviour::PanicAfter(_) | Misbehaviour::PanicAlways if thread::panicking() => {}
        Misbehaviour::PanicAfter(_) => {
            set(spot, Misbehaviour::No);
            injected_panic(spot)
        }
        Misbehaviour::PanicAlways => {
            blow(spot);
            injected_panic(spot)
        }
        Misbehaviour::Reenter => {
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
    // `panic!` would call libFuzzer's hook, which aborts.
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

/// Reads the buffer without changing it, so that the model is unaffected. Hangs if a lock is held.
fn look_at<T>(shared: &SharedBuffer<T>) {
    let mut reader = shared.subscribe_from_start();
    while reader.try_recv().is_ok() {}
    drop((reader, shared.latest(), shared.tail(), shared.retained()));
}

/// The library panicked, as expected, because user code at these spots did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked(u16);

impl Panicked {
    pub(crate) fn was_in(self, spot: Spot) -> bool {
        self.0 & 1 << spot as u16 != 0
    }
}

/// Whether user code has panicked since the last call.
pub(crate) fn has_panicked() -> bool {
    ANY_PANICKED.take()
}

/// Runs a call of the library, in which user code may misbehave.
pub(crate) fn act<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    act_with::<(), R>(None, call)
}

/// Like `act`, for a call that uses a shared buffer.
pub(crate) fn act_with<T: 'static, R>(
    shared: Option<SharedBuffer<T>>,
    call: impl FnOnce() -> R,
) -> Result<R, Panicked> {
    USE_SHARED.set(shared.map(|shared| Box::new(move || look_at(&shared)) as _));
    BLOWN.set(0);
    PANICKED.set(0);
    ARMED.set(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    ARMED.set(false);
    drop(USE_SHARED.take());
    let blown = BLOWN.get();
    for spot in SPOTS
        .into_iter()
        .filter(|&spot| blown & 1 << spot as u16 != 0)
    {
        set(spot, Misbehaviour::No);
    }
    result.map_err(|panic| {
        if !panic.is::<Injected>() {
            resume_unwind(panic);
        }
        Panicked(PANICKED.get())
    })
}
