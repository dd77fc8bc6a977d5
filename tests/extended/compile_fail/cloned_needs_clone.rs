struct Plain;

fn main() {
    let buffer = event_buffer::EventBuffer::<Plain>::new();
    let _ = buffer.subscribe().cloned();
}
