# expect: option `security.pam.loginLimits
{ security.pam.loginLimits = [{ domain = "@audio"; type = "-"; item = "rtpriority"; value = "98"; }]; }
