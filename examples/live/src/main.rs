//! See the README.

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use live::log::Log;
use live::service::{App, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

const USAGE: &str = "usage: live [--listen ADDRESS:PORT] [--nats URL] [--keep N] [--any-command]

  --listen       where to serve; 127.0.0.1:8080 by default
  --nats         the NATS server with JetStream that all nodes share; none by default
  --keep         how many jobs that have ended stay in the table; 200 by default
  --any-command  run any command, not only those of the list; on loopback only";

struct Settings {
    listen: SocketAddr,
    nats: Option<String>,
    keep: usize,
    any_command: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("live: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let settings = settings(env::args().skip(1))?;
    // Both before anything is served: whoever starts this may end it at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listen = settings.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        format!("cannot listen on {listen}: {error}; --listen names another address")
    })?;
    let log = match settings.nats {
        None => Log::local(),
        Some(url) => Log::shared(&url).await?,
    };
    let app = App {
        log: Arc::new(log),
        any_command: settings.any_command,
        keep: settings.keep,
    };
    println!("http://{}", listener.local_addr()?);
    // So that the page is alive.
    app.start("demo").await.map_err(|(_, error)| error)?;
    let shutdown = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("shutting down");
    };
    Ok(serve(listener, app, shutdown).await?)
}

fn settings(mut args: impl Iterator<Item = String>) -> Result<Settings, String> {
    let mut settings = Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
        nats: None,
        keep: 200,
        any_command: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--listen" => {
                let address = value()?;
                let parsed = address.parse();
                settings.listen = parsed.map_err(|error| format!("{address}: {error}"))?;
            }
            "--nats" => settings.nats = Some(value()?),
            "--keep" => {
                let keep = value()?;
                let parsed = keep.parse();
                settings.keep = parsed.map_err(|error| format!("--keep {keep}: {error}"))?;
            }
            "--any-command" => settings.any_command = true,
            _ => return Err(format!("no such argument: {arg}\n{USAGE}")),
        }
    }
    if settings.any_command && !settings.listen.ip().is_loopback() {
        return Err("--any-command only on loopback: anyone who can connect could run it".into());
    }
    Ok(settings)
}
