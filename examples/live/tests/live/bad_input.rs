//! What a client or an operator does wrong.

use std::process::Stdio;

use crate::support::{Events, Server, request, socket};

#[tokio::test]
async fn what_is_wrong_is_said_and_disturbs_no_other_viewer() {
    let server = Server::start(&[]).await;
    let address = server.address;
    let mut other = Events::watch(address, "key=jobs", None).await.unwrap();
    let refused = async |query: &str, after: Option<&str>| {
        Events::watch(address, query, after).await.err().unwrap()
    };
    let (status, text) = refused("key=job/99", None).await;
    assert_eq!((status, text.as_str()), (404, "no such key: job/99"));
    let (status, text) = refused("key=nonsense", None).await;
    assert!(
        status == 400 && text.contains("nonsense"),
        "{status} {text}"
    );
    assert_eq!(refused("", None).await.0, 400);
    let (status, text) = refused("key=jobs", Some("garbage")).await;
    assert!(
        status == 400 && text.starts_with("Last-Event-ID: "),
        "{status} {text}"
    );

    let post = async |body: &str| request(address, "POST", "/jobs", body).await;
    for body in [
        "rm -rf /tmp/x",
        "find /tmp -delete",
        "find /tmp -exec id ;",
        "sh -c id",
    ] {
        let (status, text) = post(body).await;
        assert_eq!(status, 403, "{body}: {text}");
    }
    assert_eq!(post("").await, (403, "no command".into()));
    assert_eq!(post(&"x".repeat(10_000_000)).await.0, 413);

    // A place of another process is no mistake: the viewer begins anew.
    let mut events = Events::watch(address, "key=jobs", Some("1-7"))
        .await
        .unwrap();
    let begin = events.next().await.unwrap();
    assert_eq!(
        (begin.event.as_str(), begin.data.as_str()),
        ("reset", Some("other epoch"))
    );

    let key = server.job("echo on it goes").await;
    let row = key.strip_prefix("job/").unwrap();
    loop {
        let message = other.next().await.expect("it is not disturbed");
        if message
            .data
            .to_string()
            .contains(&format!("\"job\":{row},"))
        {
            break;
        }
    }
    assert_eq!(socket(address, &format!("key={key}")).await.1, Some(1000));
}

#[tokio::test]
async fn a_page_of_another_site_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start(&[]).await;
    let address = server.address;
    let own = format!("Host: {address}\r\nOrigin: http://{address}");
    let foreign = format!("Host: {address}\r\nOrigin: http://example.org");
    let rebound = "Host: example.org\r\nOrigin: http://example.org".to_owned();
    for (headers, status) in [(own, "201"), (foreign, "403"), (rebound, "403")] {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        let post = format!("POST /jobs HTTP/1.0\r\n{headers}\r\nContent-Length: 6\r\n\r\necho x");
        connection.write_all(post.as_bytes()).await.unwrap();
        let mut response = String::new();
        connection.read_to_string(&mut response).await.unwrap();
        assert_eq!(response.split(' ').nth(1), Some(status), "{headers}");
    }
}

/// Runs a server that does not start, and returns what it says.
async fn fails(args: &[&str]) -> String {
    let output = Server::command(args)
        .stdout(Stdio::null())
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let server = Server::start(&[]).await;
    let text = fails(&["--listen", &server.address.to_string()]).await;
    assert!(
        text.contains("in use") && text.contains("--listen"),
        "{text}"
    );
    let text = fails(&["--listen", "0.0.0.0:0", "--any-command"]).await;
    assert!(text.contains("loopback"), "{text}");
    assert!(fails(&["--nonsense"]).await.contains("usage:"));
}
