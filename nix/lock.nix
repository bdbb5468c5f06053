# nix/python.lock as uv writes it: with the addresses that the committed file leaves out (docs/adr/0005).
#
# They come from nixpkgs' list of mirrors, whose first entry for Python packages ends in `/source/`; files that are
# named by their digest lie beside it. The lock says what each file's SHA-256 is, so the address decides nothing.
{ lib, mirrors }:
let
  first = lib.head mirrors.pypi;
  files = lib.removeSuffix "/source" (lib.removeSuffix "/" first);
  text = lib.replaceStrings [ "@files@" "@index@" ] [ files "index" ] (lib.readFile ./python.lock);
in
assert lib.assertMsg (
  files != lib.removeSuffix "/" first
) "nix/lock.nix: nixpkgs' mirror of Python packages is ${first}; expected an address that ends in /source/";
builtins.fromTOML text
