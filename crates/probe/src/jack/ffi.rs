//! JACK's functions as its public headers declare them (`jack/jack.h`, `jack/statistics.h`), loaded
//! from libjack.so.0 when the program runs.
//!
//! Loading instead of linking: the library is PipeWire's or JACK2's depending on how the program was
//! started (`pw-jack` sets the search path), and a host without either can build the program.

use std::ffi::{c_char, c_float, c_int, c_ulong, c_void};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::ProbeError;

/// `jack_client_t` and `jack_port_t`: only ever behind pointers.
#[repr(C)]
pub(super) struct RawClient(c_void);
#[repr(C)]
pub(super) struct RawPort(c_void);

pub(super) type Process = unsafe extern "C" fn(frames: u32, arg: *mut c_void) -> c_int;
pub(super) type Xrun = unsafe extern "C" fn(arg: *mut c_void) -> c_int;
pub(super) type BufferSize = unsafe extern "C" fn(frames: u32, arg: *mut c_void) -> c_int;
pub(super) type Shutdown = unsafe extern "C" fn(arg: *mut c_void);
pub(super) type ClientRegistration =
    unsafe extern "C" fn(name: *const c_char, came: c_int, arg: *mut c_void);
pub(super) type PortRegistration = unsafe extern "C" fn(id: u32, came: c_int, arg: *mut c_void);
pub(super) type PortConnect = unsafe extern "C" fn(a: u32, b: u32, made: c_int, arg: *mut c_void);
pub(super) type Say = unsafe extern "C" fn(text: *const c_char);

/// `JackNoStartServer`.
pub(super) const NO_START_SERVER: c_int = 0x01;
/// `JackPortIsInput`.
pub(super) const PORT_IS_INPUT: c_ulong = 0x1;
/// `JackPortIsOutput`.
pub(super) const PORT_IS_OUTPUT: c_ulong = 0x2;
/// `JACK_DEFAULT_AUDIO_TYPE`.
pub(super) const AUDIO: &std::ffi::CStr = c"32 bit float mono audio";

macro_rules! functions {
    ($($name:ident: $type:ty,)*) => {
        /// The functions, under their own names without `jack_`.
        pub(super) struct Functions {
            $(pub(super) $name: $type,)*
            // Closing it would pull the functions from under its own threads.
            _library: std::mem::ManuallyDrop<Library>,
        }

        impl Functions {
            pub(super) fn load() -> Result<Self, ProbeError> {
                // SAFETY: libjack's initialisers do not ask for anything of the program; both JACK2's
                // and PipeWire's are made to be loaded like this.
                let opened = unsafe { Library::open(Some("libjack.so.0"), RTLD_NOW | RTLD_LOCAL) };
                let library = opened.map_err(ProbeError::NoLibrary)?;
                $(
                    // SAFETY: the type is the one of the public header.
                    let $name = unsafe {
                        library.get::<$type>(concat!("jack_", stringify!($name), "\0").as_bytes())
                    };
                    let $name = *$name.map_err(|_| {
                        ProbeError::NoFunction(concat!("jack_", stringify!($name)))
                    })?;
                )*
                Ok(Self { $($name,)* _library: std::mem::ManuallyDrop::new(library) })
            }
        }
    };
}

functions! {
    client_open: unsafe extern "C" fn(*const c_char, c_int, *mut c_int, ...) -> *mut RawClient,
    client_close: unsafe extern "C" fn(*mut RawClient) -> c_int,
    get_client_name: unsafe extern "C" fn(*mut RawClient) -> *const c_char,
    activate: unsafe extern "C" fn(*mut RawClient) -> c_int,
    get_sample_rate: unsafe extern "C" fn(*mut RawClient) -> u32,
    get_buffer_size: unsafe extern "C" fn(*mut RawClient) -> u32,
    cpu_load: unsafe extern "C" fn(*mut RawClient) -> c_float,
    get_xrun_delayed_usecs: unsafe extern "C" fn(*mut RawClient) -> c_float,
    get_time: unsafe extern "C" fn() -> u64,
    last_frame_time: unsafe extern "C" fn(*const RawClient) -> u32,
    get_cycle_times: unsafe extern "C" fn(
        *const RawClient, *mut u32, *mut u64, *mut u64, *mut c_float,
    ) -> c_int,
    set_process_callback: unsafe extern "C" fn(*mut RawClient, Process, *mut c_void) -> c_int,
    set_xrun_callback: unsafe extern "C" fn(*mut RawClient, Xrun, *mut c_void) -> c_int,
    set_buffer_size_callback:
        unsafe extern "C" fn(*mut RawClient, BufferSize, *mut c_void) -> c_int,
    set_client_registration_callback:
        unsafe extern "C" fn(*mut RawClient, ClientRegistration, *mut c_void) -> c_int,
    set_port_registration_callback:
        unsafe extern "C" fn(*mut RawClient, PortRegistration, *mut c_void) -> c_int,
    set_port_connect_callback:
        unsafe extern "C" fn(*mut RawClient, PortConnect, *mut c_void) -> c_int,
    on_shutdown: unsafe extern "C" fn(*mut RawClient, Shutdown, *mut c_void),
    port_register: unsafe extern "C" fn(
        *mut RawClient, *const c_char, *const c_char, c_ulong, c_ulong,
    ) -> *mut RawPort,
    port_get_buffer: unsafe extern "C" fn(*mut RawPort, u32) -> *mut c_void,
    port_by_id: unsafe extern "C" fn(*mut RawClient, u32) -> *mut RawPort,
    port_by_name: unsafe extern "C" fn(*mut RawClient, *const c_char) -> *mut RawPort,
    port_name: unsafe extern "C" fn(*const RawPort) -> *const c_char,
    port_flags: unsafe extern "C" fn(*const RawPort) -> c_int,
    port_get_all_connections:
        unsafe extern "C" fn(*const RawClient, *const RawPort) -> *mut *const c_char,
    connect: unsafe extern "C" fn(*mut RawClient, *const c_char, *const c_char) -> c_int,
    get_ports: unsafe extern "C" fn(
        *mut RawClient, *const c_char, *const c_char, c_ulong,
    ) -> *mut *const c_char,
    free: unsafe extern "C" fn(*mut c_void),
    set_error_function: unsafe extern "C" fn(Say),
    set_info_function: unsafe extern "C" fn(Say),
}
