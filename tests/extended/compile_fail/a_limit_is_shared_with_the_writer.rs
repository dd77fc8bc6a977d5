//! The writer may drop the items of a limited reader on its own thread.

use event_buffer::{EventBuffer, LagLimit};
use std::rc::Rc;

fn main() {
    let buffer = EventBuffer::<Rc<u8>>::new();
    buffer.subscribe().limited(LagLimit::items(1));
}
