{ archibald.machine.audio.server = "jack"; }
