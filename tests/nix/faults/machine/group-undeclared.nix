# expect: names the group jackaudio
{ users.users.audio-user.extraGroups = [ "jackaudio" ]; }
