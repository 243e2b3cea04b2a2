#!/usr/bin/env python3
"""A small synth for JACK in Python: one note with eight partials. Type a level from 0 to 1 and press Enter.

process() runs in JACK's real-time thread, once a period. Nothing in it may wait: no lock, no print, no
file, no large arrays. Python itself is not made for this, and what holds all the same is:

- NumPy does the work, into JACK's own buffer; the period's statements take what little memory they need
  from Python's pool, without a system call.
- The garbage collector is off: it would run whenever it likes.
- No other thread runs Python code. One that does holds the interpreter's lock for up to five
  milliseconds, and process() waits for it. What takes time belongs into another process
  (multiprocessing), which has an interpreter of its own.
"""

import ctypes
import gc
import os
import select
import signal
import sys

import jack
import numpy as np

MCL_CURRENT, MCL_FUTURE = 1, 2
LONGEST_PERIOD = 8192

try:
    client = jack.Client("my-synth", no_start_server=True)
except jack.JackOpenError:
    sys.exit("my-synth: no JACK server answers")
left, right = client.outports.register("left"), client.outports.register("right")
rate = client.samplerate

# One second of sound, and a period more, so that no period has to be put together at its end.
time = np.arange(rate) / rate
wave = sum(0.1 / n * np.sin(2 * np.pi * 220 * n * time) for n in range(1, 9)).astype(np.float32)
wave = np.concatenate((wave, wave[:LONGEST_PERIOD]))
level = np.float32(1)
place = 0
xruns = 0


@client.set_process_callback
def process(frames):
    global place
    out = left.get_array()
    np.multiply(wave[place : place + frames], level, out=out)
    right.get_array()[:] = out
    place += frames
    if place >= rate:
        place -= rate


@client.set_xrun_callback
def count_xrun(delay):
    global xruns
    xruns += 1


def connect():
    """To whatever plays: the first two inputs of a sound card, or of what stands in for one."""
    inputs = client.get_ports(is_audio=True, is_physical=True, is_input=True)
    inputs = inputs or client.get_ports(":playback_", is_audio=True, is_input=True)
    if not inputs:
        print("my-synth: nothing to play through; connect it with jack_connect", file=sys.stderr)
        return
    left.connect(inputs[0])
    right.connect(inputs[min(1, len(inputs) - 1)])


def main():
    global level
    # A page that is not in memory when process() needs it costs more than a period.
    if ctypes.CDLL(None, use_errno=True).mlockall(MCL_CURRENT | MCL_FUTURE) != 0:
        print(f"my-synth: memory is not locked: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
    gc.disable()
    # SIGTERM ends it as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with client:
        connect()
        print("my-synth plays 220 Hz", flush=True)
        told, listening = 0, [sys.stdin]
        while True:
            ready, _, _ = select.select(listening, [], [], 0.2)
            if xruns != told:
                told = xruns
                print(f"my-synth: {told} xruns", file=sys.stderr)
            if not ready:
                continue
            line = sys.stdin.readline()
            if not line:
                listening = []  # nobody types: it goes on playing
                continue
            try:
                level = np.float32(min(max(float(line), 0), 1))
                print(f"level {level:.2f}", flush=True)
            except ValueError:
                print("a level from 0 to 1, please", flush=True)


try:
    main()
except KeyboardInterrupt:
    pass
