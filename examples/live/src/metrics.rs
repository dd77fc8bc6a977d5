//! `GET /metrics`, in Prometheus' text form.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::service::App;

pub(crate) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let publisher = app.publisher();
    let stats = publisher.stats();
    let slowest = publisher
        .slowest(1)
        .first()
        .map_or(0, |slowest| slowest.lag);
    let now = |n: usize| n as u64;
    let resets = &stats.resets;
    let metrics = [
        ("live_keys", "gauge", now(stats.keys)),
        ("live_viewers", "gauge", now(stats.subscriptions)),
        ("live_history_commits", "gauge", now(stats.retained_items)),
        (
            "live_snapshots_cached",
            "gauge",
            now(stats.cached_snapshots),
        ),
        (
            "live_snapshots_in_flight",
            "gauge",
            now(stats.snapshots_in_flight),
        ),
        ("live_slowest_lag_commits", "gauge", slowest),
        ("live_index", "gauge", publisher.index()),
        ("live_commits_total", "counter", stats.commits),
        ("live_events_total", "counter", stats.events),
        ("live_evictions_total", "counter", stats.evictions),
        (
            "live_snapshots_begun_total",
            "counter",
            stats.snapshots_begun,
        ),
        (
            "live_snapshots_finished_total",
            "counter",
            stats.snapshots_finished,
        ),
        (
            "live_snapshots_failed_total",
            "counter",
            stats.snapshots_failed,
        ),
        (
            "live_snapshots_given_up_total",
            "counter",
            stats.snapshots_given_up,
        ),
    ];
    let mut text = String::new();
    for (name, kind, value) in metrics {
        // A `String` takes all that is written.
        _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
    }
    let resets = [
        ("too_old", resets.too_old),
        ("ahead", resets.ahead),
        ("other_epoch", resets.other_epoch),
        ("lagged", resets.lagged),
        ("refreshed", resets.refreshed),
    ];
    text += "# TYPE live_resets_total counter\n";
    for (reason, value) in resets {
        _ = writeln!(text, "live_resets_total{{reason=\"{reason}\"}} {value}");
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
