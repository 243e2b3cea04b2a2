# expect: The option `archibald.machine.audio.quantun' does not exist
{ archibald.machineFile = ./misspelt.toml; }
