# expect: The machine file names no user
{ archibald.machine.users = [ ]; }
