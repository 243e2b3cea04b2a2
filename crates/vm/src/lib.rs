//! From a checked machine and an image to a running QEMU, and back to nothing.
//!
//! Here live the argument list (a pure function, [`argv`]), the choice of the accelerator, what the
//! guest is told, the instance's directory and its keeper process, QMP, and the placement of threads.
//! Building images and drawing on the terminal are done elsewhere; paths come in as values.

pub mod accel;
pub mod argv;
pub mod credentials;
pub mod instance;
pub mod keeper;
pub mod launch;
pub mod libvirt;
pub mod network;
pub mod placement;
pub mod ports;
pub mod qemu;
pub mod qmp;
pub mod ready;
pub mod relay;
pub mod snapshot;
pub mod ssh;
