//! What the host and the guest of the virtual-time lab hand each other: a [`Request`] before the
//! guest goes on from its snapshot, a [`Reply`] when it is done, and the format of the memory in
//! which both lie.
//!
//! The memory is a file of the host that the guest sees as a persistent-memory device. Neither an
//! interrupt nor QEMU's main loop has a part in it, so that the same request always reaches the same
//! guest at the same instruction.

mod buffer;
mod parcel;
mod reply;
mod request;

pub use parcel::{ParcelError, ParcelReader, ParcelWriter};
pub use reply::{Problem, Reply, Stage, ThreadUse, Window};
pub use request::{Measure, Request, Shell, Task};

/// Bytes of the whole memory. The host's file is sparse: what is not written takes no room.
pub const SIZE: u64 = 1 << 30;
/// Where the host's parcel begins: [`Request::FILE`] and the program's folder below
/// [`Request::FOLDER`], as a tar archive.
pub const REQUEST_AT: u64 = 0;
/// Where the guest's parcel begins: [`Reply::FILE`] and what it collected, as a tar archive.
pub const REPLY_AT: u64 = 256 << 20;
/// Version of what is written here; host and guest are always of one build, so a difference means
/// that a snapshot is older than it was taken for.
pub const SCHEMA: u32 = 1;

/// Bytes that a request may have.
pub const REQUEST_ROOM: u64 = REPLY_AT - REQUEST_AT;
/// Bytes that a reply may have.
pub const REPLY_ROOM: u64 = SIZE - REPLY_AT;
