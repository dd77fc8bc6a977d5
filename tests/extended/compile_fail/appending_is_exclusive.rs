fn main() {
    let buffer = event_buffer::EventBuffer::new();
    let shared = &buffer;
    shared.push(1);
}
