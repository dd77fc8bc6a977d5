//! The place of a limited reader may be taken away on the writer's thread.

use event_buffer::{EventBuffer, LagLimit};
use std::rc::Rc;

fn main() {
    let buffer = EventBuffer::<Rc<u8>>::new();
    buffer.subscribe().limited(LagLimit::items(1));
}
