//! Jobs that have left the table.

use crate::support::{Events, Server, request, surely};

/// Runs more jobs on `server` than it keeps, and looks at them on `other`.
pub(crate) async fn old_jobs_leave_the_table(server: &Server, other: &Server) {
    let mut table = Events::watch(other.address, "key=jobs", None)
        .await
        .unwrap();
    let first = server.job("echo first").await;
    let mut viewer = { Events::watch(other.address, &format!("key={first}"), None).await }.unwrap();
    let mut place = None;
    while let Some(message) = viewer.next().await {
        place = message.id.or(place);
    }
    for _ in 0..2 {
        server.job("echo further").await;
    }
    let number = first.strip_prefix("job/").unwrap();
    let removed = format!("{{\"removed\":{number}}}");
    loop {
        let message = table.next().await.expect("it is not disturbed");
        if message.data.to_string().contains(&removed) {
            break;
        }
    }
    surely(is_gone(other, &first)).await;
    // A viewer that comes back gets the same answer as one that is new.
    let query = format!("key={first}");
    let again = Events::watch(other.address, &query, place.as_deref()).await;
    assert_eq!(again.err().unwrap().0, 404);
    // No number is used twice.
    let next = other.job("echo next").await;
    assert!(next.strip_prefix("job/").unwrap().parse::<u64>().unwrap() > 3);
}

/// Waits until a job is neither in the table nor to be watched.
pub(crate) async fn is_gone(server: &Server, key: &str) {
    loop {
        let refused = Events::watch(server.address, &format!("key={key}"), None).await;
        if let Err((status, text)) = refused {
            assert_eq!((status, text), (404, format!("no such key: {key}")));
            break;
        }
    }
    let (_, rows) = request(server.address, "GET", "/jobs", "").await;
    let number = key.strip_prefix("job/").unwrap();
    assert!(!rows.contains(&format!("\"job\":{number},")), "{rows}");
}

#[tokio::test]
async fn old_jobs_leave_the_table_with_their_output() {
    let server = Server::start(&["--keep", "2"]).await;
    old_jobs_leave_the_table(&server, &server).await;
}

#[tokio::test]
async fn a_viewer_of_a_job_that_is_removed_is_closed() {
    let server = Server::start(&["--keep", "0"]).await;
    let key = server.job("sleep 0.3").await;
    let query = format!("key={key}&key=jobs");
    let mut events = Events::watch(server.address, &query, None).await.unwrap();
    surely(async { while events.next().await.is_some() {} }).await;
    surely(is_gone(&server, &key)).await;
}
