async fn f(mut reader: event_buffer::Subscription<String>) {
    let chunk = reader.next_chunk().await;
    let _ = reader.try_recv();
    drop(chunk);
}

fn main() {}
