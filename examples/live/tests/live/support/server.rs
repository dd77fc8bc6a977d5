//! A server process.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::request;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) process: Child,
}

impl Server {
    pub(crate) async fn start(args: &[&str]) -> Self {
        let mut process = Self::command(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("the server starts");
        let address = line.strip_prefix("http://").unwrap().parse().unwrap();
        Self { address, process }
    }

    /// On a port of its own.
    pub(crate) fn command(args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_live"));
        command
            .args(["--listen", "127.0.0.1:0"])
            .args(args)
            .env("RUST_LOG", "warn,event_buffer::publisher=error")
            .kill_on_drop(true);
        command
    }

    /// Starts a job, and returns its key.
    pub(crate) async fn job(&self, command: &str) -> String {
        let (status, body) = request(self.address, "POST", "/jobs", command).await;
        assert_eq!(status, 201, "{body}");
        let started: Value = serde_json::from_str(&body).unwrap();
        started["key"].as_str().unwrap().to_owned()
    }

    /// The resident memory, in KiB.
    pub(crate) fn resident(&self) -> usize {
        let path = format!("/proc/{}/status", self.process.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Sends a signal: `TERM`, `STOP`.
    pub(crate) async fn signal(&self, name: &str) {
        let process = self.process.id().unwrap().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &process])
            .status()
            .await;
        assert!(sent.unwrap().success());
    }
}
