//! Both services with clients that come, go, are cut off, and are told to go.

mod begins;
mod cut_off;
mod ends;
mod idle;
mod support;
