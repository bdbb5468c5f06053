# lib.nixosSystem as far as our modules go: their options from stand-ins.nix, units as texts, a system to name.
{ lib, pkgs }:
{ modules }:
let
  anything = lib.mkOption {
    type = lib.types.attrsOf lib.types.unspecified;
    default = { };
  };
  lines =
    name: value:
    if lib.isList value then
      lib.concatMapStrings (lines name) value
    else
      "${name}=${if lib.isBool value then lib.boolToString value else toString value}\n";
  textOf = service: "[Service]\n" + lib.concatStrings (lib.mapAttrsToList lines service.serviceConfig);

  around =
    { config, ... }:
    {
      options = {
        boot = anything;
        environment = anything;
        fileSystems = anything;
        nixpkgs = anything;
        system = anything;
        systemd.units = anything;
        virtualisation = anything;
      };
      config = {
        _module.args.pkgs = lib.mkForce pkgs;
        systemd.units = lib.mapAttrs' (
          name: service: lib.nameValuePair "${name}.service" { text = textOf service; }
        ) config.systemd.services;
        system.build.toplevel = pkgs.runCommand "toplevel" {
          units = lib.mapAttrsToList (_: unit: unit.text) config.systemd.units;
        } "";
      };
    };
  evaluated = lib.evalModules {
    modules = modules ++ [
      around
      ./stand-ins.nix
    ];
  };
  failed = lib.filter (entry: !entry.assertion) evaluated.config.assertions;
in
# As NixOS does: who asks for the system is told what is wrong with it.
evaluated
// {
  config = evaluated.config // {
    system.build.toplevel =
      lib.throwIf (failed != [ ]) (lib.concatMapStrings (entry: "- ${entry.message}\n") failed)
        evaluated.config.system.build.toplevel;
  };
}
