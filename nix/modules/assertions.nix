# What a machine is refused for, and the sentence it is refused with: what is wrong, and what to do.
{
  collection,
  config,
  defaultPackage,
  instances,
  lib,
  role,
  settings,
}:
let
  optionOf = name: "services.perturb.${collection}.${name}";
  settingOr =
    key: fallback: instance:
    if instance.settings.${key} or null == null then fallback else instance.settings.${key};
  axonPortOf = settingOr "axon_port" 8091;
  deviceOf = settingOr "device" "auto";
  metricsPortOf = settingOr "metrics_port" 9477;
  networkOf = settingOr "network" null;
  profileOf = settingOr "profile" "imagenet100";

  refuse = condition: message: {
    assertion = !condition;
    inherit message;
  };

  # The instances of both roles that are on, by their option.
  all =
    let
      listed =
        other:
        lib.mapAttrs' (name: lib.nameValuePair "services.perturb.${other}.${name}") (
          lib.filterAttrs (_: instance: instance.enable) (config.services.perturb.${other} or { })
        );
    in
    listed "validators" // listed "miners";
  sharing =
    at: among: valueOf: value:
    lib.filter (other: other != at && valueOf among.${other} == value) (lib.attrNames among);
  ours = lib.mapAttrs' (name: lib.nameValuePair (optionOf name)) instances;

  names = name: [
    (refuse (builtins.match "[a-z0-9][a-z0-9-]{0,31}" name == null)
      "${optionOf name}: the name becomes part of a unit's: small letters, digits and '-' are allowed, at most 32."
    )
    (refuse (name == "bootstrap")
      "${optionOf name}: this name is taken by the unit that prepares the data: choose another."
    )
  ];

  files =
    at: instance:
    let
      refuseFile = option: path: [
        (refuse (path != null && lib.hasPrefix builtins.storeDir path)
          "${at}.${option} lies in the Nix store, which everyone can read: write the path of a file on the machine, in quotes."
        )
        (refuse (
          path != null && !(lib.hasPrefix "/" path)
        ) "${at}.${option} is ${toString path}: an absolute path is needed.")
      ];
    in
    [
      (refuse (instance.hotkeyFile == null)
        "${at}.hotkeyFile is not set: name the hotkey file that signs, for example /run/secrets/perturb-hotkey."
      )
    ]
    ++ refuseFile "hotkeyFile" instance.hotkeyFile
    ++ refuseFile "environmentFile" instance.environmentFile;

  network = at: instance: [
    (refuse (
      settingOr "netuid" null instance == null
    ) "${at}.settings.netuid is not set: say which subnet, a whole number from 0 to 65535.")
    (refuse (
      networkOf instance == null
    ) "${at}.settings.network is not set: finney, test, local or a ws(s):// address.")
    (refuse (
      networkOf instance == "local" && settingOr "local_chain" null instance == null
    ) "${at}.settings.local_chain is not set: the network local is a file; name it.")
  ];

  device =
    at: instance:
    let
      hasDriver =
        config.hardware.graphics.enable && lib.elem "nvidia" config.services.xserver.videoDrivers;
    in
    [
      (refuse (lib.hasPrefix "cuda" (deviceOf instance) && !instance.cuda.enable)
        "${at}.settings.device is ${deviceOf instance}, but the unit sees no GPU: set ${at}.cuda.enable."
      )
      (refuse (instance.cuda.enable && !hasDriver)
        "${at}.cuda.enable needs the driver: set hardware.graphics.enable = true and services.xserver.videoDrivers = [ \"nvidia\" ]."
      )
    ];

  manifest =
    at: instance:
    let
      isGiven = instance.manifest != null;
      otherProfiles = lib.filter (profile: profile != profileOf instance) (
        map profileOf (lib.attrValues ours)
      );
    in
    [
      (refuse (!isGiven && !instance.bootstrap.enable)
        "${at} has neither bootstrap nor manifest: a ${role} compares what it holds with a manifest before it starts. Leave bootstrap.enable on, or name a manifest."
      )
      (refuse (role == "validator" && isGiven && instance.bootstrap.enable)
        "${at}.manifest would replace what the bootstrap finds: to insist on one set fingerprint to its SHA-256, or turn bootstrap.enable off."
      )
      (refuse (otherProfiles != [ ])
        "${at}.settings.profile is ${profileOf instance}, that of another ${role} here is ${lib.head otherProfiles}: they share one bootstrap, so one profile."
      )
    ];

  ports =
    at: instance:
    let
      metrics = metricsPortOf instance;
      sameMetrics = lib.optionals (metrics != 0) (sharing at all metricsPortOf metrics);
      sameAxon = lib.optionals (role == "miner") (sharing at ours axonPortOf (axonPortOf instance));
    in
    [
      (refuse (sameMetrics != [ ])
        "${at}.settings.metrics_port is ${toString metrics}, as that of ${lib.concatStringsSep ", " sameMetrics}: give each its own, or 0 for none."
      )
      (refuse (sameAxon != [ ])
        "${at}.settings.axon_port is ${toString (axonPortOf instance)}, as that of ${lib.concatStringsSep ", " sameAxon}: give each its own."
      )
    ];

  # Keys that modules/settings.nix does not offer to this role.
  strangers =
    at: instance:
    let
      isGiven = key: instance.settings.${key} != null;
      given = lib.filter isGiven (lib.attrNames instance.settings);
    in
    map (refuseKey at instance) (lib.subtractLists settings.known given);

  refuseKey =
    at: instance: key:
    let
      it = "${at}.settings.${key}";
      reader = if role == "miner" then "validator" else "miner";
    in
    if settings.secrets ? ${key} then
      refuse true "${it} is secret, and the Nix store can be read by everyone: write ${
        settings.secrets.${key}
      }=… into the file that ${at}.environmentFile names."
    else if lib.elem key settings.managed then
      refuse true "${it} is set by the unit itself: leave it out. The key's file is hotkeyFile; state and cache have folders of systemd's."
    else if lib.elem key settings.others then
      refuse true "${it} is read by a ${reader} only: leave it out."
    else
      refuse (
        instance.package == defaultPackage
      ) "${it} is no setting of Perturb: docs/settings.md lists them all.";

  hasExactTime = lib.any (service: config.services.${service}.enable) [
    "chrony"
    "ntp"
    "ntpd-rs"
    "openntpd"
    "timesyncd"
  ];
in
lib.concatMap names (lib.attrNames instances)
++ lib.concatLists (
  lib.mapAttrsToList (
    at: instance:
    lib.concatMap (rule: rule at instance) [
      files
      network
      device
      manifest
      ports
      strangers
    ]
  ) ours
)
++ [
  (refuse (!hasExactTime)
    "services.perturb.${collection}: requests are signed with the time, and two seconds of difference are allowed: set services.timesyncd.enable or services.chrony.enable."
  )
]
