# `nix run .#miner` and the others: what people look for first. Whatever follows `--` is passed on.
{
  lib,
  pkgs,
  perturb,
}:
let
  app = name: command: description: {
    type = "app";
    program = lib.getExe (
      pkgs.writeShellScriptBin "perturb-${name}" ''exec ${lib.getExe perturb} ${command} "$@"''
    );
    meta = { inherit description; };
  };
  apps = {
    validator = app "validator" "validator run" "Draw images, ask miners, verify, set weights";
    miner = app "miner" "miner run" "Answer validators' challenges";
    bootstrap = app "bootstrap" "bootstrap" "Fetch and verify data, weights and model";
    localnet = app "localnet" "localnet" "A whole network on this machine";
    audit = app "audit" "audit" "Recompute a validator's published log";
  };
in
apps // { default = apps.localnet; }
