//! A small synth for JACK: one note with eight partials. Type a frequency in Hz and press Enter.
//!
//! `Synth::process` runs in JACK's real-time thread, once a period. Nothing in it may wait: no
//! allocation, no lock, no print, no file. What it and `main` tell each other goes through atomics.

mod jack;

use std::f32::consts::TAU;
use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const PARTIALS: u32 = 8;

/// What `main` tells the audio thread: a frequency in Hz, as the bits of an `f32`.
struct Wanted(AtomicU32);

struct Synth {
    wanted: Arc<Wanted>,
    rate: f32,
    frequency: f32,
    phase: f32,
}

impl jack::Process for Synth {
    fn process(&mut self, left: &mut [f32], right: &mut [f32]) {
        let wanted = f32::from_bits(self.wanted.0.load(Ordering::Relaxed));
        for out in left.iter_mut() {
            // Glides in some 20 ms, so that a new note does not click.
            self.frequency += (wanted - self.frequency) * 0.001;
            self.phase = (self.phase + self.frequency / self.rate).fract();
            *out = 0.0;
            for partial in 1..=PARTIALS {
                let partial = partial as f32;
                *out += 0.1 / partial * (TAU * self.phase * partial).sin();
            }
        }
        right.copy_from_slice(left);
    }
}

fn main() -> ExitCode {
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("my-synth: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> Result<(), jack::Error> {
    let client = jack::Client::open(c"my-synth")?;
    // A page that is not in memory when the callback needs it costs more than a period.
    if let Err(error) = jack::lock_memory() {
        eprintln!("my-synth: memory is not locked: {error}");
    }
    let wanted = Arc::new(Wanted(AtomicU32::new(220_f32.to_bits())));
    let synth =
        Synth { wanted: Arc::clone(&wanted), rate: client.rate(), frequency: 220.0, phase: 0.0 };
    let playing = client.play(Box::new(synth))?;
    if !playing.connect() {
        eprintln!("my-synth: nothing to play through; connect it with jack_connect");
    }
    println!("my-synth plays 220 Hz");
    // Reading waits, and the end must not: so a thread of its own, which goes with the program.
    thread::spawn(move || listen(&wanted));
    let mut told = 0;
    while !jack::stopped() {
        thread::sleep(Duration::from_millis(200));
        if playing.server_gone() {
            return Err(jack::Error::Gone);
        }
        let xruns = playing.xruns();
        if xruns != told {
            eprintln!("my-synth: {xruns} xruns");
        }
        told = xruns;
    }
    Ok(())
}

/// Takes a frequency from every line.
fn listen(wanted: &Wanted) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.trim().parse::<f32>() {
            Ok(frequency) if (20.0..=5000.0).contains(&frequency) => {
                wanted.0.store(frequency.to_bits(), Ordering::Relaxed);
                println!("{frequency:.0} Hz");
            }
            _ => println!("a frequency from 20 to 5000, please"),
        }
    }
}
