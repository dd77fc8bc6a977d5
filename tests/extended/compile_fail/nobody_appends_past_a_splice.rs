fn main() {
    let mut buffer = event_buffer::EventBuffer::new();
    let other = event_buffer::EventBuffer::new();
    buffer.splice(other.tail());
    buffer.push(1);
}
