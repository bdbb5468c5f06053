# The files that the package is built from: its modules and what pyproject.toml ships beside them. Changing
# documentation, tests or tools builds nothing.
{ lib }:
let
  shipped = lib.concatLists (
    lib.attrValues (lib.importTOML ../pyproject.toml).tool.setuptools.data-files
  );
  # A pattern like `config/*.yaml` stands for its folder.
  toPath = pattern: ../. + "/${if lib.hasInfix "*" pattern then dirOf pattern else pattern}";
in
lib.fileset.toSource {
  root = ../.;
  fileset = lib.fileset.unions (
    [
      ../LICENSE
      ../README.md
      ../neurons
      ../perturbnet
      ../pyproject.toml
    ]
    ++ map toPath shipped
  );
}
