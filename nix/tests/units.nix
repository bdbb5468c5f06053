# The units of a machine as NixOS writes them: systemd understands every line, and exposes little.
{
  config,
  lib,
  pkgs,
}:
let
  # Tenths, as `systemd-analyze security --threshold` counts them.
  limits = {
    "perturb-miner-main.service" = 15;
    "perturb-validator-main.service" = 20;
  };
  write = name: pkgs.writeTextDir name config.systemd.units.${name}.text;
  folder = pkgs.symlinkJoin {
    name = "perturb-units";
    paths = map write (
      lib.attrNames limits
      ++ [
        "perturb-miner-bootstrap.service"
        "perturb-validator-bootstrap.service"
      ]
    );
  };
  measure = name: tenths: ''
    systemd-analyze security --offline=true --threshold=${toString tenths} ${folder}/${name}
  '';
in
pkgs.runCommand "perturb-units-verified" { nativeBuildInputs = [ pkgs.systemd ]; } ''
  systemd-analyze verify --man=no --recursive-errors=no ${folder}/*.service
  ${lib.concatStrings (lib.mapAttrsToList measure limits)}
  touch $out
''
