# expect: audio-user is to be in realtime
{ archibald.machine.users = [{ name = "audio-user"; groups = [ "audio" "realtime" ]; }]; }
