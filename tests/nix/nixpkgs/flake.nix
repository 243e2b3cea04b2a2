{
  description = "A stand-in for nixpkgs: the options and packages that the modules use, by their real names and types";
  outputs = _: import ./. { };
}
