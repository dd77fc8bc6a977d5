//! The threads and executors that readers run on.

use std::pin::pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::thread;

use futures::executor::{LocalPool, block_on};
use futures::future::BoxFuture;
use futures::task::{SpawnExt, noop_waker_ref};
use tokio::runtime::{Builder, Runtime};

use crate::rng::Rng;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Venue {
    /// A thread that blocks on the future.
    Futures,
    /// A thread that also polls the future with a no-op waker before each poll.
    Restless,
    LocalPool,
    SmolBlockOn,
    TokioCurrentThread,
    SmolGlobal,
    TokioMultiThread,
}

impl Venue {
    /// With `plain`, one with synchronization that `ThreadSanitizer` can see.
    pub(crate) fn any(rng: &mut Rng, plain: bool) -> Self {
        let all = [
            Self::Futures,
            Self::Restless,
            Self::LocalPool,
            Self::SmolBlockOn,
            Self::TokioCurrentThread,
            Self::SmolGlobal,
            Self::TokioMultiThread,
        ];
        rng.pick(if plain { &all[..2] } else { &all })
    }

    /// Whether a future that blocks its thread delays no other.
    pub(crate) fn may_block(self) -> bool {
        !matches!(self, Self::SmolGlobal | Self::TokioMultiThread)
    }

    pub(crate) fn start<R: Send + 'static>(self, future: BoxFuture<'static, R>) -> Handle<R> {
        let run: fn(BoxFuture<'static, R>) -> R = match self {
            Self::SmolGlobal => return Handle::Smol(smol::spawn(future)),
            Self::TokioMultiThread => return Handle::Tokio(runtime().spawn(future)),
            Self::Futures => block_on,
            Self::Restless => restless,
            Self::SmolBlockOn => smol::block_on,
            Self::LocalPool => |future| {
                let mut pool = LocalPool::new();
                let task = pool
                    .spawner()
                    .spawn_with_handle(future)
                    .expect("the pool runs");
                pool.run_until(task)
            },
            Self::TokioCurrentThread => |future| {
                let runtime = Builder::new_current_thread().build().expect("a runtime");
                runtime.block_on(future)
            },
        };
        Handle::Thread(thread::spawn(move || run(future)))
    }
}

fn restless<R>(future: BoxFuture<'static, R>) -> R {
    let mut future = pin!(future);
    block_on(std::future::poll_fn(|cx| {
        match future
            .as_mut()
            .poll(&mut Context::from_waker(noop_waker_ref()))
        {
            Poll::Pending => future.as_mut().poll(cx),
            ready @ Poll::Ready(_) => ready,
        }
    }))
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .expect("a runtime")
    })
}

/// A running reader.
pub(crate) enum Handle<R> {
    Thread(thread::JoinHandle<R>),
    Smol(smol::Task<R>),
    Tokio(tokio::task::JoinHandle<R>),
}

impl<R> Handle<R> {
    pub(crate) fn join(self) -> R {
        match self {
            Self::Thread(thread) => thread.join().expect("its panics are caught"),
            Self::Smol(task) => smol::block_on(task),
            Self::Tokio(task) => block_on(task).expect("its panics are caught"),
        }
    }
}
