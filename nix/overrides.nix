# What the locked packages need beyond what uv2nix does by itself.
#
# A wheel expects its neighbours' libraries at a relative path inside one site-packages. In the store each package has a
# folder of its own, so the folders of those it loads from are written into its libraries; wheels.json says which.
{ lib }:
let
  inherit (lib.importJSON ./wheels.json) built packages;
  driver = "/run/opengl-driver/lib"; # where NixOS links the driver of the machine
in
final: prev:
let
  withNeighbours =
    wheel: old:
    let
      linked = map (name: final.${name}) (wheel.from or [ ]);
      opened = map (name: final.${name}) (wheel.opens or [ ]);
    in
    {
      autoPatchelfIgnoreMissingDeps = lib.attrNames (wheel.without or { });
      # $ORIGIN: the parts of one package open each other by name.
      appendRunpaths = [ "$ORIGIN" ] ++ map libraries opened ++ [ driver ];
      preFixup = (old.preFixup or "") + lib.concatMapStrings searched linked;
    };

  searched = package: ''
    addAutoPatchelfSearchPath ${package}
  '';
  # What this system, this Python and these extras have no use for is not in the set.
  present = among: lib.flip lib.mapAttrs (lib.filterAttrs (name: _: prev ? ${name}) among);
  libraries = package: "${package}/${final.python.sitePackages}/nvidia/cu13/lib";
in
present packages (name: wheel: prev.${name}.overrideAttrs (withNeighbours wheel))
// present built (
  name: systems:
  prev.${name}.overrideAttrs (old: {
    nativeBuildInputs =
      (old.nativeBuildInputs or [ ]) ++ final.resolveBuildSystem (lib.genAttrs systems (_: [ ]));
  })
)
// {
  # Built from its own files only: editing a page of documentation builds nothing.
  perturbnet = prev.perturbnet.overrideAttrs { src = import ./source.nix { inherit lib; }; };
}
