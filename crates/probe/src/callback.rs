//! What runs in real time. Nothing here allocates, locks or calls the system; what was seen leaves
//! through a ring that another thread empties. The only thing asked of the kernel is the time, which
//! the C library reads without a system call where the clock source allows it (vDSO).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};
use rustix::time::{ClockId, clock_gettime};

/// Room for 43 seconds of the shortest usual period (32 frames at 48 kHz): as long may the thread
/// that empties the ring be kept from running.
const ROOM: usize = 1 << 16;
/// Xruns are fewer, but a storm has one in each period.
const XRUN_ROOM: usize = 1 << 14;

/// What the server says about a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cycle {
    /// Frames in it.
    pub frames: u32,
    /// The frame clock at its start; wraps around.
    pub frame_time: u32,
    /// How long after its start the callback came, in microseconds of the server's clock, 0 if it came
    /// before; absent if the server does not say.
    pub late_us: Option<u64>,
    /// How much of it was left when the callback's work was done, in microseconds, 0 if it was over;
    /// absent if the server does not say.
    pub left_us: Option<u64>,
}

/// What a client does with a period's samples.
pub trait Work: Send {
    /// Called in real time: must not allocate, lock or call the system. `at_ns` is when the callback
    /// started; `input` and `output` are as long as the period.
    fn period(&mut self, at_ns: u64, input: &[f32], output: &mut [f32]);
}

/// Hands on what comes in: a client in a chain that is not heard.
#[derive(Debug, Clone, Copy)]
pub struct Through;

impl Work for Through {
    fn period(&mut self, _: u64, input: &[f32], output: &mut [f32]) {
        for (out, sample) in output.iter_mut().zip(input) {
            *out = *sample;
        }
    }
}

/// What the callback saw of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Period {
    /// When the callback started, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Frames in the period.
    pub frames: u32,
    /// How long after the start of the period; see [`Cycle::late_us`].
    pub late_us: Option<u64>,
    /// How much of the period was left; see [`Cycle::left_us`].
    pub left_us: Option<u64>,
    /// Frames that passed since the last callback without one; negative if the clock went back.
    pub lost_frames: i32,
}

/// A call of the xrun callback.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Late {
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// The server's word, in microseconds.
    pub delayed_us: f32,
}

/// Now, in nanoseconds of `CLOCK_MONOTONIC`.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The clock starts at the boot; neither part is negative.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let rest = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// The side that the process callback owns.
#[derive(Debug)]
pub struct Watcher {
    ring: Producer<Period>,
    dropped: Arc<AtomicU64>,
    expected: Option<u32>,
}

impl Watcher {
    /// Looks at a period whose callback started at `now_ns`.
    pub fn period(&mut self, now_ns: u64, cycle: &Cycle) {
        // Both clocks wrap; their difference is small and has a sign.
        #[allow(clippy::cast_possible_wrap)]
        let lost =
            self.expected.map_or(0, |expected| cycle.frame_time.wrapping_sub(expected) as i32);
        self.expected = Some(cycle.frame_time.wrapping_add(cycle.frames));
        let Cycle { frames, late_us, left_us, .. } = *cycle;
        let period = Period { at_ns: now_ns, frames, late_us, left_us, lost_frames: lost };
        if self.ring.push(period).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The side that the xrun callback owns. JACK calls it from a thread that need not be real-time, but
/// nothing promises that.
#[derive(Debug)]
pub struct XrunWatcher {
    ring: Producer<Late>,
    dropped: Arc<AtomicU64>,
}

impl XrunWatcher {
    /// Notes an xrun.
    pub fn xrun(&mut self, now_ns: u64, delayed_us: f32) {
        if self.ring.push(Late { at_ns: now_ns, delayed_us }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The side that empties the rings.
#[derive(Debug)]
pub struct Seen {
    periods: Consumer<Period>,
    xruns: Consumer<Late>,
    dropped: Arc<AtomicU64>,
}

impl Seen {
    /// The periods since the last call.
    pub fn periods(&mut self) -> impl Iterator<Item = Period> + '_ {
        std::iter::from_fn(|| self.periods.pop().ok())
    }

    /// The xruns since the last call.
    pub fn xruns(&mut self) -> impl Iterator<Item = Late> + '_ {
        std::iter::from_fn(|| self.xruns.pop().ok())
    }

    /// What found a ring full, so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The rings and their ends. Every page of them has been written once, so that the callback does not
/// fault on them.
pub fn rings() -> (Watcher, XrunWatcher, Seen) {
    let (ring, periods) = touched(ROOM, Period { at_ns: 1, ..Period::default() });
    let (xrun_ring, xruns) = touched(XRUN_ROOM, Late { at_ns: 1, ..Late::default() });
    let dropped = Arc::new(AtomicU64::new(0));
    let watcher = Watcher { ring, dropped: Arc::clone(&dropped), expected: None };
    let xrun_watcher = XrunWatcher { ring: xrun_ring, dropped: Arc::clone(&dropped) };
    (watcher, xrun_watcher, Seen { periods, xruns, dropped })
}

pub(crate) fn touched<T: Copy>(room: usize, any: T) -> (Producer<T>, Consumer<T>) {
    let (mut producer, mut consumer) = RingBuffer::new(room);
    while producer.push(any).is_ok() {}
    while consumer.pop().is_ok() {}
    (producer, consumer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycle(frame_time: u32) -> Cycle {
        Cycle { frames: 32, frame_time, late_us: Some(10), left_us: None }
    }

    #[test]
    fn a_jump_of_the_frame_clock_is_a_gap_even_where_it_wraps() {
        let (mut watcher, _, mut seen) = rings();
        for frame_time in [u32::MAX - 63, u32::MAX - 31, 0, 96, 32] {
            watcher.period(12_345, &cycle(frame_time));
        }
        let lost: Vec<i32> = seen.periods().map(|period| period.lost_frames).collect();
        assert_eq!(lost, [0, 0, 0, 64, -96]);
    }

    #[test]
    fn what_finds_the_ring_full_is_counted() {
        let (mut watcher, mut xruns, mut seen) = rings();
        for i in 0..u32::try_from(ROOM).unwrap() + 5 {
            watcher.period(0, &cycle(i.wrapping_mul(32)));
        }
        for _ in 0..XRUN_ROOM + 2 {
            xruns.xrun(1, 2.5);
        }
        assert_eq!(seen.dropped(), 7);
        assert_eq!(seen.periods().count(), ROOM);
        assert_eq!(seen.xruns().next(), Some(Late { at_ns: 1, delayed_us: 2.5 }));
    }
}
