//! Arguments → command → exit code.

use std::process::ExitCode;

/// A call makes some thirty small allocations and frees them in another order; the system's allocator spent a sixth of
/// a call's time on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    parhelion::command::main()
}
