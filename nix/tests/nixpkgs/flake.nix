# Stands for nixpkgs where nixpkgs is not at hand: its library is real (tests/nix copies it beside this file), its packages
# are names. Enough for `nix flake check --no-build` to evaluate every output of ours with the real uv2nix; nothing that
# it gives can be built.
{
  outputs =
    { self }:
    let
      lib = import ./lib;
      pkgs = import ./packages.nix {
        inherit lib;
        path = "${self}";
      };
    in
    {
      lib = lib // {
        nixosSystem = import ./nixos.nix { inherit lib pkgs; };
      };
      legacyPackages.x86_64-linux = pkgs;
    };
}
