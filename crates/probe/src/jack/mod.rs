//! A client of JACK, safe to use: the one place with unsafe code, because the API is C's.
//!
//! The callbacks are given a pointer to the client's state, which lives until the client is closed. Each
//! callback owns its own part of it, so that no two threads meet in one.
#![allow(unsafe_code)]

mod ffi;

use std::cell::UnsafeCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ffi::{Functions, RawClient, RawPort};

use crate::ProbeError;
use crate::callback::{Cycle, Watcher, Work, XrunWatcher, now_ns};

/// The longest period that JACK2 and PipeWire take, twice. What lies behind it of a longer one is
/// neither read nor written.
const LONGEST: usize = 16384;

/// The server's number of a port.
pub type PortId = u32;

/// libjack, loaded.
pub struct Library(Functions);

/// Something that changed in the graph, with its time in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// When the server told.
    pub at_ns: u64,
    /// What.
    pub event: Event,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client came or went.
    Client {
        /// Its name.
        name: String,
        /// Whether it came.
        came: bool,
    },
    /// A port came or went.
    Port {
        /// Its number.
        id: PortId,
        /// Its name, if the server still knows it.
        name: Option<String>,
        /// Whether it came.
        came: bool,
    },
    /// Two ports were connected or parted.
    Connection {
        /// The port that gives.
        from: (PortId, Option<String>),
        /// The port that takes.
        to: (PortId, Option<String>),
        /// Whether they were connected.
        made: bool,
    },
    /// The number of frames in a period changed, or was told for the first time.
    Quantum {
        /// To this.
        frames: u32,
    },
}

/// A port that was there when one looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// With its client's name: `system:playback_1`.
    pub name: String,
    /// The ports that it gives to.
    pub leads_to: Vec<String>,
}

/// What the callbacks work on.
struct State {
    library: Functions,
    client: *mut RawClient,
    input: *mut RawPort,
    output: *mut RawPort,
    /// The process callback's own.
    watcher: UnsafeCell<Option<Watcher>>,
    /// The xrun callback's own.
    xruns: UnsafeCell<Option<XrunWatcher>>,
    /// The process callback's own: what it does, and a copy of what came in, because a port that is
    /// connected to the client's own has the same buffer.
    work: UnsafeCell<Option<Working>>,
    /// Filled by callbacks that need not be real-time.
    notices: Mutex<Vec<Notice>>,
    lost: AtomicBool,
}

/// What a client does, and the copy of its input.
type Working = (Box<dyn Work>, Vec<f32>);

/// A client that is not active yet.
pub struct Opened(Box<State>);

/// A client that takes part in the graph.
pub struct Client(Box<State>);

impl Library {
    /// Loads libjack.so.0.
    ///
    /// # Errors
    /// [`ProbeError::Static`], [`ProbeError::NoLibrary`], [`ProbeError::NoFunction`].
    pub fn open() -> Result<Self, ProbeError> {
        if cfg!(target_feature = "crt-static") {
            return Err(ProbeError::Static);
        }
        let functions = Functions::load()?;
        // The library's own choice for what it has to tell is standard output, which is the result's.
        // That nobody answers it says in five lines; the status says it in one.
        // SAFETY: both are functions for the life of the program.
        unsafe {
            (functions.set_info_function)(say_nothing);
            (functions.set_error_function)(say_nothing);
        }
        Ok(Self(functions))
    }
}

unsafe extern "C" fn say_nothing(_: *const c_char) {}

#[allow(clippy::print_stderr)]
unsafe extern "C" fn say_error(text: *const c_char) {
    // SAFETY: the library hands a string over, or nothing.
    if let Some(text) = unsafe { owned(text) } {
        eprintln!("archibald-probe: libjack: {}", text.trim_end());
    }
}

/// # Safety
/// `text` is null or a string that lives during the call.
unsafe fn owned(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as promised by the caller.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

impl Client {
    /// Opens a client with one port in and one out. It does not start a server.
    ///
    /// # Errors
    /// [`ProbeError::NoServer`], [`ProbeError::Refused`], [`ProbeError::Name`].
    pub fn open(library: Library, name: &str) -> Result<Opened, ProbeError> {
        let name = CString::new(name).map_err(|_| ProbeError::Name)?;
        let Library(library) = library;
        let mut status = 0;
        // SAFETY: name and status live during the call; without further options no further words.
        let client =
            unsafe { (library.client_open)(name.as_ptr(), ffi::NO_START_SERVER, &raw mut status) };
        if client.is_null() {
            return Err(ProbeError::NoServer { status });
        }
        // SAFETY: a function for the life of the program.
        unsafe { (library.set_error_function)(say_error) };
        let register = |name: &CStr, flags| {
            // SAFETY: the client is open, the names live during the call.
            unsafe { (library.port_register)(client, name.as_ptr(), ffi::AUDIO.as_ptr(), flags, 0) }
        };
        let input = register(c"in", ffi::PORT_IS_INPUT);
        let output = register(c"out", ffi::PORT_IS_OUTPUT);
        if input.is_null() || output.is_null() {
            // SAFETY: the client is open, and nobody else has it.
            unsafe { (library.client_close)(client) };
            return Err(ProbeError::Refused("register the probe's ports"));
        }
        Ok(Opened(Box::new(State {
            library,
            client,
            input,
            output,
            watcher: UnsafeCell::new(None),
            xruns: UnsafeCell::new(None),
            work: UnsafeCell::new(None),
            notices: Mutex::new(Vec::new()),
            lost: AtomicBool::new(false),
        })))
    }

    /// The name that the server gave.
    pub fn name(&self) -> String {
        // SAFETY: the client is open; its name lives as long.
        unsafe { owned((self.0.library.get_client_name)(self.0.client)) }.unwrap_or_default()
    }

    /// Sample rate in hertz.
    pub fn rate(&self) -> u32 {
        // SAFETY: the client is open.
        unsafe { (self.0.library.get_sample_rate)(self.0.client) }
    }

    /// Frames in a period.
    pub fn quantum(&self) -> u32 {
        // SAFETY: the client is open.
        unsafe { (self.0.library.get_buffer_size)(self.0.client) }
    }

    /// The server's estimate of its load, in percent.
    pub fn load(&self) -> f32 {
        // SAFETY: the client is open.
        unsafe { (self.0.library.cpu_load)(self.0.client) }
    }

    /// Whether the server shut down or threw the client out.
    pub fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// What changed since the last call.
    pub fn notices(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.0.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The ports that are there, the client's own among them.
    pub fn ports(&self) -> Vec<Port> {
        let state = &*self.0;
        // SAFETY: the client is open; null means no restriction.
        let names = unsafe { (state.library.get_ports)(state.client, ptr::null(), ptr::null(), 0) };
        let names = state.strings(names);
        names.into_iter().map(|name| state.port(name)).collect()
    }

    /// Connects two ports, by their names; that they are connected already is no error.
    ///
    /// # Errors
    /// [`ProbeError::NoConnection`].
    pub fn connect(&self, from: &str, to: &str) -> Result<(), ProbeError> {
        const EXISTS: c_int = 17; // EEXIST
        let name = |text: &str| CString::new(text).map_err(|_| ProbeError::Name);
        let names = (name(from)?, name(to)?);
        // SAFETY: the client is open and active; the names live during the call.
        let status =
            unsafe { (self.0.library.connect)(self.0.client, names.0.as_ptr(), names.1.as_ptr()) };
        match status {
            0 | EXISTS => Ok(()),
            _ => Err(ProbeError::NoConnection { from: from.to_owned(), to: to.to_owned() }),
        }
    }

    /// Leaves the graph. A server that is gone is not asked, because it may never answer; the process
    /// is about to end.
    pub fn close(self) {
        if self.is_lost() {
            std::mem::forget(self);
            return;
        }
        // SAFETY: the client is open, and this was its last use; after it no callback runs.
        unsafe { (self.0.library.client_close)(self.0.client) };
    }
}

impl Opened {
    /// Takes part in the graph: from now on the callbacks run.
    ///
    /// # Errors
    /// [`ProbeError::Refused`].
    pub fn activate(
        self,
        watcher: Watcher,
        xruns: XrunWatcher,
        work: Box<dyn Work>,
    ) -> Result<Client, ProbeError> {
        let Self(mut state) = self;
        // Written, so that every page of it is there.
        *state.work.get_mut() = Some((work, vec![f32::MIN_POSITIVE; LONGEST]));
        *state.watcher.get_mut() = Some(watcher);
        *state.xruns.get_mut() = Some(xruns);
        let (library, client) = (&state.library, state.client);
        let arg = ptr::from_ref(&*state).cast_mut().cast::<c_void>();
        // SAFETY: the client is open and not active; the state stays where it is, in its box, until
        // the client is closed.
        let status = unsafe {
            (library.on_shutdown)(client, on_shutdown, arg);
            (library.set_process_callback)(client, on_process, arg)
                | (library.set_xrun_callback)(client, on_xrun, arg)
                | (library.set_buffer_size_callback)(client, on_buffer_size, arg)
                | (library.set_client_registration_callback)(client, on_client, arg)
                | (library.set_port_registration_callback)(client, on_port, arg)
                | (library.set_port_connect_callback)(client, on_connection, arg)
        };
        // SAFETY: as above.
        if status != 0 || unsafe { (library.activate)(client) } != 0 {
            // SAFETY: nobody else has the client.
            unsafe { (library.client_close)(client) };
            return Err(ProbeError::Refused("activate the probe"));
        }
        Ok(Client(state))
    }
}

impl State {
    fn tell(&self, event: Event) {
        let notice = Notice { at_ns: now_ns(), event };
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }

    fn name_of(&self, id: PortId) -> Option<String> {
        // SAFETY: the client is open while its callbacks run; a port that is gone is null, and one
        // that is not has a name.
        unsafe {
            let port = (self.library.port_by_id)(self.client, id);
            if port.is_null() { None } else { owned((self.library.port_name)(port)) }
        }
        .filter(|name| !name.is_empty())
    }

    fn port(&self, name: String) -> Port {
        let mut leads_to = Vec::new();
        if let Ok(c_name) = CString::new(name.as_str()) {
            // SAFETY: the client is open; null is a port that went in the meantime.
            unsafe {
                let port = (self.library.port_by_name)(self.client, c_name.as_ptr());
                let gives = |flags: c_int| flags & 0x2 != 0;
                if !port.is_null() && gives((self.library.port_flags)(port)) {
                    leads_to =
                        self.strings((self.library.port_get_all_connections)(self.client, port));
                }
            }
        }
        Port { name, leads_to }
    }

    /// The strings of a list of the library's, which is given back.
    fn strings(&self, list: *mut *const c_char) -> Vec<String> {
        let mut strings = Vec::new();
        if list.is_null() {
            return strings;
        }
        // SAFETY: the library's lists of strings end with null, and are freed by jack_free.
        unsafe {
            let mut at = list;
            while let Some(text) = owned(*at) {
                strings.push(text);
                at = at.add(1);
            }
            (self.library.free)(list.cast());
        }
        strings
    }
}

/// # Safety
/// `arg` is the state's address, and the state lives while callbacks run.
unsafe fn state<'a>(arg: *mut c_void) -> &'a State {
    // SAFETY: as promised by the caller.
    unsafe { &*arg.cast::<State>() }
}

/// The period: real time from here on.
unsafe extern "C" fn on_process(frames: u32, arg: *mut c_void) -> c_int {
    let now = now_ns();
    // SAFETY: see `state`. Watcher and work are this callback's alone, and the server calls it from one
    // thread. The ports are the client's own, and their buffers hold `frames` samples.
    unsafe {
        let state = state(arg);
        let (mut at_frame, mut start, mut next, mut length) = (0_u32, 0_u64, 0_u64, 0_f32);
        let known = (state.library.get_cycle_times)(
            state.client,
            &raw mut at_frame,
            &raw mut start,
            &raw mut next,
            &raw mut length,
        ) == 0;
        // The server's clock is not ours: JACK2's is CLOCK_MONOTONIC_RAW, PipeWire's CLOCK_MONOTONIC.
        let late_us = (state.library.get_time)().saturating_sub(start);
        let frame_time = (state.library.last_frame_time)(state.client);
        let input = (state.library.port_get_buffer)(state.input, frames).cast::<f32>();
        let output = (state.library.port_get_buffer)(state.output, frames).cast::<f32>();
        if let Some((work, copy)) = &mut *state.work.get() {
            let length = (frames as usize).min(copy.len());
            let copy = copy.get_mut(..length).unwrap_or_default();
            if !input.is_null() && !output.is_null() {
                ptr::copy(input, copy.as_mut_ptr(), length);
                // The input is not looked at any more, so that nothing else refers to this memory.
                work.period(now, copy, std::slice::from_raw_parts_mut(output, length));
            }
        }
        let left_us = next.saturating_sub((state.library.get_time)());
        let told = |us: u64| known.then_some(us);
        let cycle = Cycle { frames, frame_time, late_us: told(late_us), left_us: told(left_us) };
        if let Some(watcher) = &mut *state.watcher.get() {
            watcher.period(now, &cycle);
        }
    }
    0
}

unsafe extern "C" fn on_xrun(arg: *mut c_void) -> c_int {
    // SAFETY: see `state`. The watcher is this callback's alone, and the server calls it from one
    // thread.
    unsafe {
        let state = state(arg);
        let delayed = (state.library.get_xrun_delayed_usecs)(state.client);
        if let Some(xruns) = &mut *state.xruns.get() {
            xruns.xrun(now_ns(), delayed);
        }
    }
    0
}

unsafe extern "C" fn on_buffer_size(frames: u32, arg: *mut c_void) -> c_int {
    // SAFETY: see `state`.
    unsafe { state(arg) }.tell(Event::Quantum { frames });
    0
}

/// May be called where a signal handler could be: it sets a flag, and no more.
unsafe extern "C" fn on_shutdown(arg: *mut c_void) {
    // SAFETY: see `state`.
    unsafe { state(arg) }.lost.store(true, Ordering::Relaxed);
}

unsafe extern "C" fn on_client(name: *const c_char, came: c_int, arg: *mut c_void) {
    // SAFETY: see `state`; the name lives during the call.
    let (state, name) = unsafe { (state(arg), owned(name)) };
    if let Some(name) = name {
        state.tell(Event::Client { name, came: came != 0 });
    }
}

unsafe extern "C" fn on_port(id: u32, came: c_int, arg: *mut c_void) {
    // SAFETY: see `state`.
    let state = unsafe { state(arg) };
    state.tell(Event::Port { id, name: state.name_of(id), came: came != 0 });
}

unsafe extern "C" fn on_connection(a: u32, b: u32, made: c_int, arg: *mut c_void) {
    // SAFETY: see `state`.
    let state = unsafe { state(arg) };
    let end = |id| (id, state.name_of(id));
    state.tell(Event::Connection { from: end(a), to: end(b), made: made != 0 });
}
