//! As much of JACK as this synth needs, over libjack's C functions: a client with two outputs. All
//! `unsafe` of the program is here.

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::fmt;
use std::io;
use std::ptr::{NonNull, null, null_mut};
use std::slice::{from_raw_parts, from_raw_parts_mut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Opaque: libjack's own.
#[repr(C)]
struct RawClient(c_void);
#[repr(C)]
struct RawPort(c_void);

#[link(name = "jack")]
unsafe extern "C" {
    fn jack_client_open(
        name: *const c_char,
        options: c_int,
        status: *mut c_int,
        ...
    ) -> *mut RawClient;
    fn jack_client_close(client: *mut RawClient) -> c_int;
    fn jack_get_sample_rate(client: *mut RawClient) -> u32;
    fn jack_port_register(
        client: *mut RawClient,
        name: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        size: c_ulong,
    ) -> *mut RawPort;
    fn jack_port_name(port: *const RawPort) -> *const c_char;
    fn jack_port_get_buffer(port: *mut RawPort, frames: u32) -> *mut c_void;
    fn jack_get_ports(
        client: *mut RawClient,
        name: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
    ) -> *mut *const c_char;
    fn jack_free(memory: *mut c_void);
    fn jack_connect(client: *mut RawClient, from: *const c_char, to: *const c_char) -> c_int;
    fn jack_set_process_callback(
        client: *mut RawClient,
        callback: extern "C" fn(u32, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn jack_set_xrun_callback(
        client: *mut RawClient,
        callback: extern "C" fn(*mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn jack_on_shutdown(
        client: *mut RawClient,
        callback: extern "C" fn(*mut c_void),
        argument: *mut c_void,
    );
    fn jack_activate(client: *mut RawClient) -> c_int;
}

unsafe extern "C" {
    fn mlockall(flags: c_int) -> c_int;
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
}

// <jack/types.h>
const NO_START_SERVER: c_int = 1;
const IS_INPUT: c_ulong = 1;
const IS_OUTPUT: c_ulong = 2;
const IS_PHYSICAL: c_ulong = 4;
const AUDIO: &CStr = c"32 bit float mono audio";
// <sys/mman.h>, <signal.h>
const MCL_CURRENT_AND_FUTURE: c_int = 1 | 2;
const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;

#[derive(Debug)]
pub enum Error {
    NoServer,
    Refused,
    Gone,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoServer => "no JACK server answers",
            Self::Refused => "the JACK server refuses it",
            Self::Gone => "the JACK server has gone",
        })
    }
}

/// What computes the sound. Called from the real-time thread: it must not wait.
pub trait Process: Send {
    fn process(&mut self, left: &mut [f32], right: &mut [f32]);
}

/// A client that does not play yet; closed when dropped.
pub struct Client(NonNull<RawClient>);

/// A client that plays; stops when dropped. Fields are dropped in this order: `state` must be the last.
pub struct Playing {
    client: Client,
    outputs: [NonNull<RawPort>; 2],
    state: Kept,
}

/// A `State` that JACK has a pointer to as well, and so nobody a `&mut`.
struct Kept(NonNull<State>);

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: made from a box, and given up by JACK, whose client is closed by now.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

struct State {
    process: Box<dyn Process>,
    outputs: [NonNull<RawPort>; 2],
    xruns: AtomicU32,
    gone: AtomicBool,
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: an open client. When this returns, no callback runs any more.
        unsafe { jack_client_close(self.0.as_ptr()) };
    }
}

impl Client {
    pub fn open(name: &CStr) -> Result<Self, Error> {
        // SAFETY: `name` ends with NUL; no options that take further arguments.
        let client = unsafe { jack_client_open(name.as_ptr(), NO_START_SERVER, null_mut()) };
        NonNull::new(client).map(Self).ok_or(Error::NoServer)
    }

    /// Sample rate in Hz.
    pub fn rate(&self) -> f32 {
        // SAFETY: an open client.
        unsafe { jack_get_sample_rate(self.0.as_ptr()) as f32 }
    }

    fn output(&self, name: &CStr) -> Result<NonNull<RawPort>, Error> {
        let client = self.0.as_ptr();
        // SAFETY: an open client; both strings end with NUL.
        let port =
            unsafe { jack_port_register(client, name.as_ptr(), AUDIO.as_ptr(), IS_OUTPUT, 0) };
        NonNull::new(port).ok_or(Error::Refused)
    }

    pub fn play(self, process: Box<dyn Process>) -> Result<Playing, Error> {
        let outputs = [self.output(c"left")?, self.output(c"right")?];
        let (xruns, gone) = (AtomicU32::new(0), AtomicBool::new(false));
        let state = Box::leak(Box::new(State { process, outputs, xruns, gone }));
        let playing = Playing { client: self, outputs, state: Kept(NonNull::from(state)) };
        let (client, argument) = (playing.client.0.as_ptr(), playing.state.0.as_ptr().cast());
        // SAFETY: an open client that is not active yet. What `argument` points to outlives it.
        let refused = unsafe {
            jack_on_shutdown(client, server_has_gone, argument);
            jack_set_process_callback(client, process_period, argument)
                | jack_set_xrun_callback(client, count_xrun, argument)
                | jack_activate(client)
        };
        if refused == 0 { Ok(playing) } else { Err(Error::Refused) }
    }
}

impl Playing {
    /// Connects the outputs to the first two inputs of a sound card, or of what stands in for one; false:
    /// there are none.
    pub fn connect(&self) -> bool {
        let client = self.client.0.as_ptr();
        // SAFETY: an open client. The list ends with a null pointer, and its names with NUL.
        unsafe {
            let mut list = jack_get_ports(client, null(), AUDIO.as_ptr(), IS_PHYSICAL | IS_INPUT);
            if list.is_null() {
                list = jack_get_ports(client, c":playback_".as_ptr(), AUDIO.as_ptr(), IS_INPUT);
            }
            if list.is_null() {
                return false;
            }
            let count = (0..2).take_while(|at| !(*list.add(*at)).is_null()).count();
            let inputs = from_raw_parts(list, count);
            for (port, at) in self.outputs.iter().zip([0, 1]) {
                if let Some(input) = inputs.get(at).or(inputs.first()) {
                    jack_connect(client, jack_port_name(port.as_ptr()), *input);
                }
            }
            jack_free(list.cast());
            count > 0
        }
    }

    pub fn xruns(&self) -> u32 {
        // SAFETY: `state` lives, and atomics may be shared.
        unsafe { (*self.state.0.as_ptr()).xruns.load(Ordering::Relaxed) }
    }

    pub fn server_gone(&self) -> bool {
        // SAFETY: `state` lives, and atomics may be shared.
        unsafe { (*self.state.0.as_ptr()).gone.load(Ordering::Relaxed) }
    }
}

extern "C" fn process_period(frames: u32, argument: *mut c_void) -> c_int {
    let state: *mut State = argument.cast();
    // SAFETY: `state` lives as long as the client. `process` and `outputs` are this thread's alone, and
    // the two buffers are two ports', for the length of this call.
    unsafe {
        let [left, right] = (*state).outputs.map(|port| {
            let buffer = jack_port_get_buffer(port.as_ptr(), frames);
            from_raw_parts_mut(buffer.cast::<f32>(), frames as usize)
        });
        (*state).process.process(left, right);
    }
    0
}

extern "C" fn count_xrun(argument: *mut c_void) -> c_int {
    let state: *const State = argument.cast();
    // SAFETY: as above; atomics may be shared.
    unsafe { (*state).xruns.fetch_add(1, Ordering::Relaxed) };
    0
}

extern "C" fn server_has_gone(argument: *mut c_void) {
    let state: *const State = argument.cast();
    // SAFETY: as above.
    unsafe { (*state).gone.store(true, Ordering::Relaxed) };
}

/// Keeps every page that the program has and will have in memory.
pub fn lock_memory() -> io::Result<()> {
    // SAFETY: changes no memory, only whether it may be taken away.
    match unsafe { mlockall(MCL_CURRENT_AND_FUTURE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

static STOPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: c_int) {
    STOPPED.store(true, Ordering::Relaxed);
}

/// Whether Ctrl-C or SIGTERM has come, from the first call on.
pub fn stopped() -> bool {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for number in [SIGINT, SIGTERM] {
            // SAFETY: the handler only sets an atomic.
            unsafe { signal(number, stop) };
        }
    });
    STOPPED.load(Ordering::Relaxed)
}
