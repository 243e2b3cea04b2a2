# expect: option `boot.kernelParams' is not of type
{ boot.kernelParams = "quiet"; }
