# The script that a unit runs before it starts: put the operator's manifest in its place, insist on its fingerprint.
{
  lib,
  coreutils,
  folder,
  manifest,
  fingerprint,
}:
''
  set -eu
''
+ lib.optionalString (manifest != null) ''
  ${coreutils}/bin/install -D -m 0600 ${lib.escapeShellArg "${manifest}"} ${folder}/manifest.json
''
+ lib.optionalString (fingerprint != null) ''
  found=$(${coreutils}/bin/sha256sum < ${folder}/manifest.json | ${coreutils}/bin/cut -c1-64)
  if test "$found" != ${fingerprint}; then
    echo "this node's protocol fingerprint is $found; the option fingerprint asks for ${fingerprint}" >&2
    exit 3
  fi
''
