# A NixOS machine that runs Perturb. Fill in machine.nix, then: nixos-rebuild switch --flake .#perturb
{
  inputs = {
    # Where your copy of Perturb is: a forge (github:…), or a folder on this machine (git+file:///srv/perturb).
    perturb.url = "git+file:///srv/perturb";
    # The very nixpkgs that Perturb is locked to: its environment, and so its records, depend on it.
    nixpkgs.follows = "perturb/nixpkgs";
  };

  outputs =
    { nixpkgs, perturb, ... }:
    {
      nixosConfigurations.perturb = nixpkgs.lib.nixosSystem {
        modules = [
          perturb.nixosModules.default
          ./machine.nix
        ];
      };
    };
}
