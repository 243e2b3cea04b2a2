# expect: names the group recorders
{ systemd.tmpfiles.rules = [ "d /srv/takes 0775 root recorders -" ]; }
