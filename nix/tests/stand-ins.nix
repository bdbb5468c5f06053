# The options of NixOS that our modules read and write, each only as far as they use it: so that the modules can be
# evaluated with nixpkgs' library alone. `nix flake check` evaluates them in NixOS itself.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  flag =
    default:
    mkOption {
      type = types.bool;
      inherit default;
    };
  list =
    type:
    mkOption {
      type = types.listOf type;
      default = [ ];
    };
  scalar = types.oneOf [
    types.bool
    types.int
    types.str
  ];
  section = mkOption {
    type = types.attrsOf (types.either scalar (types.listOf scalar));
    default = { };
  };
  service = types.submodule {
    options = {
      description = mkOption { type = types.singleLineStr; };
      wants = list types.str;
      after = list types.str;
      wantedBy = list types.str;
      path = list (types.either types.package types.str);
      environment = mkOption { type = types.attrsOf types.str; };
      serviceConfig = section;
      unitConfig = section;
    };
  };
in
{
  options = {
    assertions = list types.unspecified;
    hardware.graphics.enable = flag false;
    hardware.nvidia.open = flag false;
    networking.firewall.allowedTCPPorts = list types.port;
    services.chrony.enable = flag false;
    services.ntp.enable = flag false;
    services.ntpd-rs.enable = flag false;
    services.openntpd.enable = flag false;
    services.timesyncd.enable = flag true;
    services.xserver.videoDrivers = list types.str;
    systemd.services = mkOption {
      type = types.attrsOf service;
      default = { };
    };
  };

  # A program that is there on every machine stands for ours, so that the units can be verified.
  config._module.args.pkgs = {
    bash = "/usr";
    coreutils = "/usr";
    stdenv.hostPlatform.system = "x86_64-linux";
    writeShellScript = _name: _text: "/usr/bin/true";
  };
}
