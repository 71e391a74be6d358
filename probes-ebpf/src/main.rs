//! Kernel programs: hooks → counters, histograms and rare events. One family of hooks per file.
//!
//! They know sockets, packets and tasks; not what a service, a scenario or a fault is.
#![no_std]
#![no_main]
// The target's `core` has no atomic additions of its own; the build sets RUSTC_BOOTSTRAP for `build-std` anyway.
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "atomic_xadd: the only way to a BPF atomic addition")]

mod dns;
mod drops;
mod kernel;
mod l7;
mod maps;
mod packets;
mod processes;
mod resets;
mod sockets;

/// Nothing here panics; the linker wants a handler all the same.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Tracing helpers are for programs under a licence compatible with the GPL only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
