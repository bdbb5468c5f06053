# The files that the package is built from. Documentation, tests and tools are left out: changing them builds nothing.
{ lib }:
lib.fileset.toSource {
  root = ../.;
  fileset = lib.fileset.unions [
    ../LICENSE
    ../README.md
    ../Snakefile
    ../config
    ../neurons
    ../perturbnet
    ../profiles
    ../pyproject.toml
    ../workflow
  ];
}
