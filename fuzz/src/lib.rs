//! Random use of the library, driven by bytes and compared with naive models.
//!
//! ```sh
//! cargo test --release --no-default-features # in fuzz/: the kept inputs and some random ones
//! mkdir -p fuzz/work/core                    # in the crate's root: for new inputs
//! cargo +nightly fuzz run core fuzz/work/core fuzz/corpus/core -- -max_len=1000 -timeout=10
//! INPUT=file cargo test --no-default-features -- --ignored --nocapture one_core # shows its steps
//! ```
//!

mod bytes;
pub mod core;
mod event;
pub mod publisher;
mod task;
mod user_code;
