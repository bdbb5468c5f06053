# The NixOS modules. `packageFor` names the environment that this flake builds for a system.
{ packageFor }:
let
  validator = import ./neurons.nix {
    inherit packageFor;
    role = "validator";
  };
  miner = import ./neurons.nix {
    inherit packageFor;
    role = "miner";
  };
in
{
  inherit validator miner;
  default.imports = [
    validator
    miner
  ];
}
