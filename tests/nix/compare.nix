# The evaluated machine beside the Debian image, item by item. A row that is not ok fails the check; what
# differs on purpose stands in guest-files.tsv and packages.tsv with its reason, and in docs/nixos.md.
{ fault ? { } }:
let
  inherit (builtins) attrNames concatLists concatMap elem elemAt filter foldl' head isList length map match readDir readFile toJSON;
  lib = import ./nixpkgs/lib;
  guest = import ../../modules/ArchibaldVM/guest-files.nix { inherit lib; };
  config = (import ./with.nix { inherit fault; }).machine.config;
  jack = (import ./with.nix { fault.archibald.machine.audio.server = "jack"; }).machine.config;
  file = lib.importTOML ../../archibald.toml;

  row = group: item: debian: nixos: { inherit group item debian nixos; ok = debian == nixos; };

  table = path: map (lib.splitString "\t")
    (filter (line: line != "" && !(lib.hasPrefix "#" line)) (lib.splitString "\n" (readFile path)));

  # Kernel
  # Each once, in any order.
  sorted = builtins.sort (a: b: a < b);
  kernel = [
    (row "kernel" "arguments"
      (sorted (filter (l: l != "") (lib.splitString "\n" (readFile ./kernel-arguments))))
      (sorted config.boot.kernelParams))
  ];

  # sysctls: files of sysctl.d in order, NixOS' own 60-nixos.conf after ours
  wantedSysctls = guest.sysctls "/etc/sysctl.d/50-archibald.conf";
  sysctls = lib.mapAttrsToList
    (key: value: row "sysctl" key value (toString (config.boot.kernel.sysctl.${key} or value)))
    wantedSysctls
  ++ [ (row "sysctl" "the file" (guest.read "/etc/sysctl.d/50-archibald.conf") config.environment.etc."sysctl.d/50-archibald.conf".text) ];

  # Limits: pam_limits takes the last entry for a domain and an item
  last = entries: foldl' (all: e: all // { "${e.domain} ${e.item}" = toString e.value; }) { } entries;
  effective = last config.security.pam.loginLimits;
  limits = lib.mapAttrsToList
    (key: value: row "limit" key value (effective.${key} or "not set"))
    (last (guest.limits "/etc/security/limits.d/99-archibald.conf"));

  whole = [
    (row "module options" "modprobe.d" (guest.read "/etc/modprobe.d/archibald.conf") config.boot.extraModprobeConfig)
    (row "journal" "journald.conf.d" (guest.read "/etc/systemd/journald.conf.d/50-archibald.conf")
      config.environment.etc."systemd/journald.conf.d/50-archibald.conf".text)
    (row "devices" "udev rules" true (lib.hasInfix (guest.read "/etc/udev/rules.d/60-archibald.rules") config.services.udev.extraRules))
    (row "login" "sudo" (guest.read "/etc/sudoers.d/archibald") config.security.sudo.extraConfig)
    (row "locale" "LANG" true (lib.hasInfix "LANG=${config.i18n.defaultLocale}\n" (guest.read "/etc/locale.conf")))
    (row "root file system" "noatime" true (elem "noatime" config.fileSystems."/".options))
  ];

  # PipeWire: each template of the guest, and what it comes to
  dropIns = config.services.pipewire.configPackages ++ config.services.pipewire.wireplumber.configPackages;
  textOf = path: let found = filter (p: p.path == "share/${path}") dropIns; in if found == [ ] then "not there" else (head found).text;
  templates = concatMap
    (daemon: map (d: "${daemon}/${d}") (attrNames (readDir (guest.path "/usr/share/archibald/templates/etc/${daemon}"))))
    [ "pipewire" "wireplumber" ];
  settingOf = key: text:
    let
      values = map (match "[{ ]*${lib.escapeRegex key} *= (.*)") (map lib.trim (lib.splitString "\n" text));
      found = filter (value: value != null) values;
    in
    if found == [ ] then "not set" else lib.trim (lib.last (head found));
  graph = textOf "pipewire/pipewire.conf.d/50-archibald.conf";
  pulse = textOf "pipewire/pipewire-pulse.conf.d/50-archibald.conf";
  card = textOf "wireplumber/wireplumber.conf.d/zz-archibald.conf";
  quantum = toString file.audio.quantum;
  rate = toString file.audio.rate;
  pipewire =
    map
      (folder:
        let path = "${folder}/${head (attrNames (readDir (guest.path "/usr/share/archibald/templates/etc/${folder}")))}"; in
        row "PipeWire" path true (textOf path != "not there"))
      templates
    ++ map (key: row "PipeWire" key quantum (settingOf key graph)) [ "default.clock.quantum" "default.clock.min-quantum" "default.clock.max-quantum" ]
    ++ [
      (row "PipeWire" "default.clock.rate" rate (settingOf "default.clock.rate" graph))
      (row "PipeWire" "loop.rt-prio" (toString file.realtime.audio-priority) (settingOf "loop.rt-prio" graph))
      (row "PipeWire" "thread.affinity" "[ ${file.realtime.isolated} ]" (settingOf "thread.affinity" graph))
      (row "PipeWire" "pulse.min.quantum" "${quantum}/${rate}" (settingOf "pulse.min.quantum" pulse))
      (row "PipeWire" "api.alsa.period-size" quantum (settingOf "api.alsa.period-size" card))
      (row "PipeWire" "minimum in a virtual machine undone" true
        (lib.hasInfix "cpu.vm.name = !null } ]\n        actions = { update-props = { default.clock.min-quantum = ${quantum} } }" graph))
      (row "PipeWire" "no rtkit" false config.security.rtkit.enable)
      (row "JACK2" "in PipeWire's place" [ false true ] [ jack.services.pipewire.enable (jack.systemd.user.services ? jackd) ])
      (row "JACK2" "rate, period, priority" [ rate quantum (toString file.realtime.audio-priority) ]
        (let e = jack.systemd.user.services.jackd.environment; in [ e.RATE e.QUANTUM e.PRIORITY ]))
      (row "JACK2" "CPUs" file.realtime.isolated jack.systemd.user.services.jackd.serviceConfig.CPUAffinity)
    ];

  # rtirq
  rtirq = config.environment.etc."rtirq.conf".source.text;
  rtirqRows = map
    (line:
      let wanted = guest.fill { IRQ_PRIORITY = file.realtime.irq-priority; } line; in
      row "rtirq" (head (lib.splitString "=" line)) true (lib.hasInfix "${wanted}\n" rtirq))
    (filter (lib.hasPrefix "RTIRQ_") (lib.splitString "\n" (guest.template "/etc/default/rtirq")));

  # Units: every line of [Service], save those that name a path or come from the machine file
  hardening = name: evaluated: skipped:
    let service = (guest.unit "/usr/lib/systemd/system/${name}.service").Service; in
    map (key: row name key service.${key} (evaluated.serviceConfig.${key} or "not set"))
      (filter (key: !(elem key skipped)) (attrNames service));
  streamdb = config.systemd.services.streamdb;
  dropIn = guest.fill
    { STREAMDB_PORT = file.streamdb.port; HOUSEKEEPING = "0"; STREAMDB_ACCESS = "--open"; STREAMDB_FROM = "10.0.2.0/24"; }
    (guest.read "/usr/share/archibald/units/streamdb.service.d/50-archibald.conf");
  units =
    hardening "streamdb" streamdb [ "ExecStart" "IPAddressAllow" ]
    ++ hardening "archibald-guest-setup" config.systemd.services.archibald-guest-setup [ "ExecStart" ]
    ++ hardening "archibald-guest-ready" config.systemd.services.archibald-guest-ready [ "ExecStart" ]
    ++ [
      (row "streamdb" "CPUAffinity" true (lib.hasInfix "CPUAffinity=${streamdb.serviceConfig.CPUAffinity}\n" dropIn))
      (row "streamdb" "IPAddressAllow" true
        (lib.hasInfix "IPAddressAllow=${lib.last streamdb.serviceConfig.IPAddressAllow}\n" dropIn && head streamdb.serviceConfig.IPAddressAllow == "localhost"))
      (row "streamdb" "arguments"
        (lib.replaceStrings [ "\${PORT}" "\${ACCESS}" "/usr/bin/" ] [ (toString file.streamdb.port) "--open" "" ] (guest.unit "/usr/lib/systemd/system/streamdb.service").Service.ExecStart)
        (lib.last (lib.splitString "/bin/" streamdb.serviceConfig.ExecStart)))
      (row "trial of an accelerator" "known to the initrd" true
        (lib.hasInfix "${config.boot.initrd.systemd.services.archibald-trial.unitConfig.ConditionKernelCommandLine}) poweroff" (readFile ../../guest/initrd/init)))
      (row "archibald-guest-setup" "only with settings" "archibald.settings" config.systemd.services.archibald-guest-setup.unitConfig.ConditionCredential)
    ];

  # sshd: the template's global part against the options
  sshd = guest.template "/etc/ssh/sshd_config.d/10-archibald.conf";
  said = key: { yes = true; no = false; }.${settingOfSshd key} or (settingOfSshd key);
  settingOfSshd = key: head (match ".*\n${key} ([^\n]*)\n.*" sshd);
  ssh = map (key: row "sshd" key (said key) (let v = config.services.openssh.settings.${key}; in if v == "no" then false else v))
    [ "PermitRootLogin" "PasswordAuthentication" "KbdInteractiveAuthentication" "X11Forwarding" ]
  ++ [
    (row "sshd" "HostKey" (settingOfSshd "HostKey") (head config.services.openssh.hostKeys).path)
    (row "sshd" "keys of the settings" true (elem "/run/archibald/keys/%u" config.services.openssh.authorizedKeysFiles && lib.hasInfix "/run/archibald/keys/%u" sshd))
    (row "sshd" "where the password opens" true (lib.hasInfix "Match Address 10.0.2.0/24,127.0.0.0/8\n    PasswordAuthentication yes" config.services.openssh.extraConfig
      && lib.hasInfix "Match Address @PASSWORD_FROM@,127.0.0.0/8\n    PasswordAuthentication yes" sshd))
  ];

  # Ports: what the machine file forwards must get through the firewall
  firewall = config.networking.firewall;
  open = port: udp:
    elem port (if udp then firewall.allowedUDPPorts else firewall.allowedTCPPorts)
    || lib.any (r: r.from <= port && port <= r.to) (if udp then firewall.allowedUDPPortRanges else firewall.allowedTCPPortRanges);
  ports = map
    (port: row "port" port.name true (open port.number port.udp))
    [
      { name = "22/tcp"; number = 22; udp = false; }
      { name = "4713/tcp"; number = 4713; udp = false; }
      { name = "4713/udp"; number = 4713; udp = true; }
      { name = "8080/tcp"; number = 8080; udp = false; }
      { name = "8000/tcp"; number = 8000; udp = false; }
      { name = "9000/tcp"; number = 9000; udp = false; }
    ]
  ++ [ (row "port" "9001/tcp stays closed" false (open 9001 false)) ];

  # Users
  users = concatMap
    (user:
      let made = config.users.users.${user.name}; in
      [ (row "user" "${user.name}: groups" user.groups made.extraGroups) ])
    file.users
  ++ [ (row "user" "the audio session starts with the machine" true config.users.users.${(head file.users).name}.linger) ];

  # Packages
  installed = map (p: p.pname or p.name) config.environment.systemPackages;
  mapping = table ./packages.tsv;
  packages = map
    (name:
      let
        entry = filter (e: head e == name) mapping;
        nix = elemAt (head entry) 1;
      in
      if entry == [ ] then row "package" name "a line in tests/nix/packages.tsv" "none"
      else if nix == "-" then row "package" name true (length (head entry) > 2)
      else row "package" name true (nix == "*" || elem nix installed))
    (guest.list ../../guest/packages)
  ++ concatMap (e: lib.optional (!(elem (head e) (guest.list ../../guest/packages))) (row "package" (head e) "in guest/packages" "only in packages.tsv")) mapping;

  # Files: each one of guest/root has its line
  walk = path: concatLists (lib.mapAttrsToList
    (name: kind: if kind == "directory" then walk "${path}${name}/" else [ "${path}${name}" ])
    (readDir (guest.path "/${path}")));
  patterns = table ./guest-files.tsv;
  all = walk "";
  first = file: filter (p: match (head p) file != null) patterns;
  files = map (f: row "file" f true (first f != [ ])) all
    ++ map (p: row "file" "pattern ${head p}" true (lib.any (f: match (head p) f != null) all)) patterns
    ++ map (p: row "file" "reason of ${head p}" true (elemAt p 1 == "same" || length p > 2)) patterns;

  rows = kernel ++ sysctls ++ limits ++ whole ++ pipewire ++ rtirqRows ++ units ++ ssh ++ ports ++ users ++ packages ++ files;
  show = value: if isList value then toJSON value else toString (if value == true then "yes" else if value == false then "no" else value);
  cell = lib.replaceStrings [ "|" ] [ "\\|" ];
  reason = line: if length line > 2 then elemAt line 2 else "";
in
{
  compared = length rows;
  wrong = map (r: "${r.group}: ${r.item}: Debian ${show r.debian}, NixOS ${show r.nixos}") (filter (r: !r.ok) rows);
  # The table of docs/nixos.md.
  differences = lib.concatLines (
    [ "| Debian image | NixOS | why |" "|---|---|---|" ]
    ++ map (p: "| `/${cell (lib.replaceStrings [ "\\" ] [ "" ] (head p))}` | ${{ own = "its own way"; none = "not there"; }.${elemAt p 1}} | ${reason p} |")
      (filter (p: elemAt p 1 != "same") patterns)
    ++ map (p: "| package `${head p}` | not there | ${reason p} |") (filter (p: elemAt p 1 == "-") mapping)
  );
}
