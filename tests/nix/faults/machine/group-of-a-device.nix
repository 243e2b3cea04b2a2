# expect: names the group midi
{
  services.udev.extraRules = ''
    SUBSYSTEM=="sound", GROUP="midi"
  '';
}
