# expect: option `archibald.machine.audio.quantum' is not of type
{ archibald.machineFile = ./wrong-type.toml; }
