{ services.streamdb.enable = false; services.archibald-guest.enable = false; }
