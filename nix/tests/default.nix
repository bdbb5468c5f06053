# `nix flake check`: what is built and run in the sandbox. `vm` wants a builder with KVM.
{
  environments,
  lib,
  pkgs,
  self,
}:
let
  # The least that NixOS evaluates.
  base = {
    nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system;
    nixpkgs.config.allowUnfree = true; # the driver, in configurations that name it
    system.stateVersion = "26.05";
    boot.loader.grub.enable = false;
    fileSystems."/".device = "/dev/vda";
  };
  evaluate =
    module:
    (lib.nixosSystem {
      modules = [
        base
        self.nixosModules.default
        module
      ];
    }).config;
  outcomes = import ./outcomes.nix { inherit evaluate lib; };

  inTree =
    name: packages: commands:
    pkgs.runCommand "perturb-${name}" { nativeBuildInputs = [ environments.testing ] ++ packages; } ''
      cp -r ${self} tree
      chmod -R u+w tree
      cd tree
      export HOME=$TMPDIR
      ${commands}
      touch $out
    '';
in
{
  tests = inTree "tests" [
    pkgs.gcc
    pkgs.gnumake
    pkgs.systemd
  ] ''python -m pytest -p no:cacheprovider -m "not slow and not gpu and not network"'';

  lint = inTree "lint" [ ] ''
    ruff check perturbnet neurons tests tools bench recipes
    ruff format --check perturbnet neurons tests tools bench recipes
    mypy perturbnet neurons tests tools bench recipes
    python tools/nix_lint.py
  '';

  modules =
    assert lib.assertMsg (lib.all (found: found == { }) (lib.attrValues outcomes))
      "configurations that did not go as nix/tests/configurations.nix says: ${builtins.toJSON outcomes}";
    pkgs.runCommand "perturb-modules" { } "touch $out";

  units = import ./units.nix {
    inherit lib pkgs;
    inherit (self.nixosConfigurations.example) config;
  };

  vm = import ./vm.nix { inherit environments pkgs self; };
}
