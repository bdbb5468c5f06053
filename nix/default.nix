# Everything the flake gives for one system: environments, programs, shell, checks, formatter.
{
  inputs,
  lib,
  pkgs,
  self,
}:
let
  environments = import ./environments.nix {
    inherit lib pkgs;
    inherit (inputs) build-systems pyproject-nix uv2nix;
  };
  inherit (environments) perturb;
in
{
  packages = {
    inherit perturb;
    default = perturb;
  };
  apps = import ./apps.nix { inherit lib pkgs perturb; };
  devShells.default = import ./shell.nix { inherit environments pkgs; };
  checks = import ./tests {
    inherit
      environments
      lib
      pkgs
      self
      ;
  };
  formatter = pkgs.nixfmt-tree;
}
