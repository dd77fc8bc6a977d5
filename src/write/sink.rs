//! Writers as sinks.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Sink;

use crate::error::Ended;
use crate::write::buffer::EventBuffer;
use crate::write::shared_buffer::SharedBuffer;

/// Publishes each event as an item at once.
///
/// Nothing is lost if the source fails or is cancelled. The sink is always ready and never fails.
/// Flushing does nothing, and closing it does not end the buffer.
///
/// To forward a source that can fail, map the sink's error to that of the source. Lend the buffer
/// to the sink, and then pass the failure on: to its readers, a buffer that is dropped has ended
/// cleanly.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::{EventBuffer, RecvError};
/// use futures::{SinkExt, StreamExt, stream};
///
/// let mut buffer = EventBuffer::new();
/// let mut reader = buffer.subscribe().cloned();
/// stream::iter([1, 2]).map(Ok).forward(&mut buffer).await?;
///
/// let source = stream::iter([Ok(3), Err("broke")]);
/// let sink = (&mut buffer).sink_map_err(|never| match never {});
/// if let Err(error) = source.forward(sink).await {
///     buffer.fail(error);
/// }
/// for n in 1..=3 {
///     assert_eq!(reader.recv().await, Ok(n));
/// }
/// assert!(matches!(reader.recv().await, Err(RecvError::Failed(_))));
/// # Ok::<(), std::convert::Infallible>(()) }).unwrap();
/// ```
impl<T> Sink<T> for EventBuffer<T> {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, event: T) -> Result<(), Infallible> {
        self.get_mut().push(event);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

/// Publishes each event as an item at once.
///
/// The sink is always ready. Flushing does nothing, and closing it does not end the buffer: see the
/// [type's page](SharedBuffer#ending). Sending fails with [`Ended`] once the buffer has ended.
impl<T> Sink<T> for SharedBuffer<T> {
    type Error = Ended<T>;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Ended<T>>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, event: T) -> Result<(), Ended<T>> {
        self.push(event)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Ended<T>>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Ended<T>>> {
        Poll::Ready(Ok(()))
    }
}
