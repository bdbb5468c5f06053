# The modules with nixpkgs' library alone: `nix-instantiate --eval --argstr library …/lib nix/tests/alone.nix -A outcomes`.
{
  library,
  folder ? "/nowhere",
  manifest ? null,
  fingerprint ? null,
}:
let
  lib = import (/. + library);
  perturb = {
    type = "derivation";
    name = "perturb";
    outPath = "/usr";
    meta.mainProgram = "true";
  };
  modules = import ../modules { packageFor = _system: perturb; };
  evaluate =
    module:
    (lib.evalModules {
      modules = [
        ./stand-ins.nix
        modules.default
        module
      ];
    }).config;
  cases = import ./configurations.nix;
in
{
  outcomes = import ./outcomes.nix { inherit evaluate lib; };
  counts = lib.mapAttrs (_: lib.length) (lib.mapAttrs (_: lib.attrNames) cases);
  mistyped = lib.mapAttrs (_: case: (evaluate case.module).services.perturb) cases.mistyped;
  sentences = lib.mapAttrs (_: case: case.says) cases.mistyped;
  # What a unit runs before it starts, with the machine's own programs.
  script = import ../modules/manifest.nix {
    inherit
      fingerprint
      folder
      lib
      manifest
      ;
    coreutils = "/usr";
  };
  offered = lib.genAttrs [ "miner" "validator" ] (
    role: lib.sort lib.lessThan (import ../modules/settings.nix { inherit lib role; }).known
  );
  units = lib.mapAttrs (
    _: module:
    let
      config = evaluate module;
    in
    {
      inherit (config.systemd) services;
      ports = config.networking.firewall.allowedTCPPorts;
    }
  ) cases.right;
}
