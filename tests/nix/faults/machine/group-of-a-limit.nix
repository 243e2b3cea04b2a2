# expect: names the group realtime
{ security.pam.loginLimits = [{ domain = "@realtime"; type = "-"; item = "rtprio"; value = "98"; }]; }
