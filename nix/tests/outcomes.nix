# What became of each configuration: the names of those that did not go as configurations.nix says, with what was said.
{ lib, evaluate }:
let
  cases = import ./configurations.nix;
  failures = module: map (entry: entry.message) (lib.filter (entry: !entry.assertion) (evaluate module).assertions);
  # Forces what a machine is built from.
  isAccepted =
    module:
    let
      config = evaluate module;
      forced = builtins.tryEval (
        builtins.deepSeq [
          config.networking.firewall.allowedTCPPorts
          (lib.mapAttrs (_: service: [
            service.environment
            service.serviceConfig
            service.unitConfig
          ]) (lib.filterAttrs (name: _: lib.hasPrefix "perturb-" name) config.systemd.services))
        ] true
      );
    in
    forced.success;
  keepUnequal = lib.filterAttrs (_: said: said != null);
in
{
  right = keepUnequal (
    lib.mapAttrs (
      _: module:
      let
        said = failures module;
      in
      if said == [ ] && isAccepted module then null else said
    ) cases.right
  );
  refused = keepUnequal (
    lib.mapAttrs (
      _: case:
      let
        said = failures case.module;
      in
      if lib.elem case.says said then null else said
    ) cases.refused
  );
  # The message of a type error cannot be caught in Nix; tests/nix reads it.
  mistyped = lib.filterAttrs (_: accepted: accepted) (
    lib.mapAttrs (_: case: isAccepted case.module) cases.mistyped
  );
}
