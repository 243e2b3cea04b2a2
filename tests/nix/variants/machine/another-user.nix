{ archibald.machineFile = ./another-user.toml; }
