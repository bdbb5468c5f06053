# Python environments, exactly as nix/python.lock has them: `perturb` to run, `testing` to check, `editable` to work in.
#
# - Python is said by name. A new default of nixpkgs must not change what a record was made with.
# - Wheels are taken where there are any: the bits of the published records came from them.
# - There is one environment for machines with and without a GPU. The index's torch for x86_64 is the one with CUDA;
#   one without comes from a second index, and its records would name another environment (docs/nix.md).
{
  lib,
  pkgs,
  pyproject-nix,
  uv2nix,
  build-systems,
}:
let
  python = pkgs.python312;

  workspace = uv2nix.lib.workspace.loadWorkspace {
    workspaceRoot = ../.;
    uvLock = import ./lock.nix {
      inherit lib;
      mirrors = import "${pkgs.path}/pkgs/build-support/fetchurl/mirrors.nix";
    };
  };

  pythonSet =
    (pkgs.callPackage pyproject-nix.build.packages { inherit python; }).overrideScope
      (
        lib.composeManyExtensions [
          build-systems.overlays.wheel
          (workspace.mkPyprojectOverlay { sourcePreference = "wheel"; })
          (import ./overrides.nix { inherit lib; })
        ]
      );

  environment =
    set: name: dependencies:
    (set.mkVirtualEnv name dependencies).overrideAttrs {
      # Three packages ship a top-level folder of documentation, each its own.
      venvSkip = [ "${python.sitePackages}/docs" ];
      meta.mainProgram = "perturb";
    };

  # $REPO_ROOT is set by the shell: edits of the checkout are what runs.
  editableSet = pythonSet.overrideScope (
    workspace.mkEditablePyprojectOverlay { root = "$REPO_ROOT"; }
  );
in
{
  inherit pythonSet workspace;
  perturb = environment pythonSet "perturb" { perturbnet = [ "s3" ]; };
  testing = environment pythonSet "perturb-testing" workspace.deps.all;
  editable = environment editableSet "perturb-editable" workspace.deps.all;
}
