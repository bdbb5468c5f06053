# Perturb as a flake: what it takes in (pinned in flake.lock) and what it gives. How is said in nix/.
{
  description = "Perturb: adversarial robustness whose every verdict can be recomputed";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

    pyproject-nix = {
      url = "github:pyproject-nix/pyproject.nix";
      inputs.nixpkgs.follows = "nixpkgs";
    };

    uv2nix = {
      url = "github:pyproject-nix/uv2nix";
      inputs.nixpkgs.follows = "nixpkgs";
      inputs.pyproject-nix.follows = "pyproject-nix";
    };

    build-systems = {
      url = "github:pyproject-nix/build-system-pkgs";
      inputs.nixpkgs.follows = "nixpkgs";
      inputs.pyproject-nix.follows = "pyproject-nix";
      inputs.uv2nix.follows = "uv2nix";
    };
  };

  outputs =
    inputs@{ self, nixpkgs, ... }:
    let
      inherit (nixpkgs) lib;
      # aarch64-linux is locked and evaluates as well; nobody has built it, so it is not promised.
      systems = [ "x86_64-linux" ];
      perSystem = lib.genAttrs systems (
        system:
        import ./nix {
          inherit inputs lib self;
          pkgs = nixpkgs.legacyPackages.${system};
        }
      );
      output = name: lib.mapAttrs (_: outputs: outputs.${name}) perSystem;
      modules = import ./nix/modules {
        packageFor =
          system:
          lib.throwIfNot (lib.elem system systems)
            "Perturb's flake builds for ${lib.concatStringsSep ", " systems}; on ${system} set the option package."
            self.packages.${system}.default;
      };
    in
    {
      packages = output "packages";
      apps = output "apps";
      devShells = output "devShells";
      checks = output "checks";
      formatter = output "formatter";

      overlays.default = final: _prev: {
        perturb = self.packages.${final.stdenv.hostPlatform.system}.default;
      };

      nixosModules = modules;

      nixosConfigurations.example = lib.nixosSystem {
        modules = [
          modules.default
          ./nix/example.nix
        ];
      };

      templates.default = {
        path = ./nix/template;
        description = "A NixOS machine that runs a Perturb validator or miner";
      };
    };
}
