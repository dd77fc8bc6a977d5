//! Chooses between the primitives of std, of loom and of the web. No other file does.

// The standard library's clock panics on this target.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub(crate) use std::time::Instant;
#[cfg(all(
    feature = "publisher",
    not(all(target_family = "wasm", target_os = "unknown"))
))]
pub(crate) use std::time::SystemTime;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub(crate) use web_time::Instant;
#[cfg(all(feature = "publisher", target_family = "wasm", target_os = "unknown"))]
pub(crate) use web_time::SystemTime;

#[cfg(not(loom))]
mod imp {
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicIsize, AtomicPtr, AtomicU64, AtomicUsize,
    };
    pub(crate) use std::thread_local;

    /// Locked while a splice checks that it does not lead back to its own buffer, so that no other
    /// splice can close a cycle meanwhile: see `Writer::splice`.
    pub(crate) static SPLICING: Mutex<()> = Mutex::new(());

    pub(crate) use std::sync::Arc as TrackedArc;
    #[cfg(feature = "publisher")]
    pub(crate) use std::sync::Weak as TrackedWeak;

    /// [`std::cell::UnsafeCell`] with loom's closure interface.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        #[inline]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicIsize, AtomicPtr, AtomicU64, AtomicUsize,
    };
    pub(crate) use loom::thread_local;
    use std::sync::PoisonError;

    pub(crate) use loom::sync::MutexGuard;

    loom::lazy_static! {
        pub(crate) static ref SPLICING: Mutex<()> = Mutex::new(());
    }

    /// An `Arc` that shows loom that its value is dropped after all its handles were.
    ///
    /// Loom's own `Arc` has no `Weak`.
    pub(crate) struct TrackedArc<T>(std::sync::Arc<Tracked<T>>);

    pub(crate) struct TrackedWeak<T>(std::sync::Weak<Tracked<T>>);

    pub(crate) struct Tracked<T> {
        value: T,
        /// The number of dropped handles. Loom orders the drops by the accesses to it.
        drops: AtomicUsize,
    }

    impl<T> TrackedArc<T> {
        pub(crate) fn new(value: T) -> Self {
            let drops = AtomicUsize::new(0);
            Self(std::sync::Arc::new(Tracked { value, drops }))
        }

        pub(crate) fn downgrade(this: &Self) -> TrackedWeak<T> {
            TrackedWeak(std::sync::Arc::downgrade(&this.0))
        }

        pub(crate) fn ptr_eq(this: &Self, other: &Self) -> bool {
            std::sync::Arc::ptr_eq(&this.0, &other.0)
        }
    }

    impl<T: Default> Default for TrackedArc<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    impl<T> Clone for TrackedArc<T> {
        fn clone(&self) -> Self {
            Self(std::sync::Arc::clone(&self.0))
        }
    }

    impl<T> TrackedWeak<T> {
        pub(crate) fn upgrade(&self) -> Option<TrackedArc<T>> {
            self.0.upgrade().map(TrackedArc)
        }
    }

    impl<T> std::ops::Deref for TrackedArc<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0.value
        }
    }

    impl<T> Drop for TrackedArc<T> {
        fn drop(&mut self) {
            // Loom may switch threads before this access, and not between it and the drop of the
            // field. AcqRel: pairs with the other handles', so that the last drop follows them all.
            self.0
                .drops
                .fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        }
    }

    /// `loom`'s `Mutex` with the interface of `parking_lot`'s.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

pub(crate) use imp::*;
