//! What a watch is, and everything that it reads without the lock of the publisher.

pub(super) mod commit;
pub(super) mod control;
pub(super) mod era;
pub(super) mod events;
mod following;
pub(super) mod inbox;
pub(super) mod progress;
pub(super) mod registry;
pub(super) mod request;
pub(super) mod resume;
pub(super) mod stream;
pub(super) mod track;
pub(super) mod update;
