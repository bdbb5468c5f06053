# `nix develop`: the locked environment, in which the checkout is what runs, and what `make` and the second
# implementation in C want. Its uv installs and locks; it never fetches a Python.
{ environments, pkgs }:
pkgs.mkShell {
  packages = [
    environments.editable
    pkgs.git
    pkgs.gnumake
    pkgs.nixfmt
  ];
  env = {
    UV_NO_SYNC = "1";
    UV_PYTHON = environments.pythonSet.python.interpreter;
    UV_PYTHON_DOWNLOADS = "never";
  };
  shellHook = ''
    unset PYTHONPATH
    REPO_ROOT=$(git rev-parse --show-toplevel)
    export REPO_ROOT
  '';
}
