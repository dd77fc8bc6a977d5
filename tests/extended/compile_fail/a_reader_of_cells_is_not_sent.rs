use std::cell::Cell;

fn main() {
    let buffer = event_buffer::EventBuffer::<Cell<u8>>::new();
    let reader = buffer.subscribe();
    std::thread::spawn(move || drop(reader));
}
