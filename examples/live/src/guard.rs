//! Keeps other sites' pages away: a browser would let them start jobs, as it needs no login.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Refuses requests that a page of another site makes.
pub(crate) async fn same_site(request: Request, next: Next) -> Response {
    match check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(reason) => (StatusCode::FORBIDDEN, reason).into_response(),
    }
}

fn check(headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let host = text(header::HOST).unwrap_or_default();
    // A name that an attacker controls may lead here. An address, or `localhost`, is nobody's.
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_address = name.parse::<std::net::Ipv4Addr>().is_ok() || name.starts_with('[');
    if !is_address && name != "localhost" {
        return Err("name this server by its address, or as localhost");
    }
    match text(header::ORIGIN) {
        Some(origin) if origin.strip_prefix("http://") != Some(host) => Err("not from this page"),
        _ => Ok(()),
    }
}
