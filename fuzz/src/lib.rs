//! Random use of the library from bytes, against naive models.
//!
//! ```sh
//! cargo test --release --no-default-features # in here: the kept inputs and some random ones
//! mkdir -p fuzz/work/core                    # in the crate's root: what is found goes in there
//! cargo +nightly fuzz run core fuzz/work/core fuzz/corpus/core -- -max_len=1000 -timeout=10
//! INPUT=file cargo test --no-default-features -- --ignored --nocapture one_core # its steps
//! ```
//!
//! Each `const` or field that says "the README does not allow that" is a known fault, for which the
//! model makes an allowance. Without it the fuzzer finds that fault in seconds.

mod bytes;
pub mod core;
mod event;
mod foreign;
pub mod publisher;
mod task;
