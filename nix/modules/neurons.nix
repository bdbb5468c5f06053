# services.perturb.validators.<instance> and services.perturb.miners.<instance>.
#
# Each instance is a unit of its own with its own key, settings and state; those of one role share account, cache and
# bootstrap. The units are packaging/service.json; added here is what NixOS knows better: where the operator's files lie,
# the driver, the firewall.
{ packageFor, role }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  collection = "${role}s";
  account = "perturb-${role}";
  unitOf = name: "${account}-${name}";
  instances = lib.filterAttrs (_: instance: instance.enable) config.services.perturb.${collection};
  # One bootstrap for all; assertions.nix sees to it that they agree on the profile.
  prepared = lib.filter (instance: instance.bootstrap.enable) (lib.attrValues instances);

  settings = import ./settings.nix { inherit lib role; };
  units = import ./units.nix { inherit lib; };
  defaultPackage = packageFor pkgs.stdenv.hostPlatform.system;

  # A unit of service.json as NixOS takes it; `settings` are rendered into its environment.
  service =
    {
      part,
      unit,
      instance,
      arguments ? [ ],
    }:
    let
      found = units.unit {
        inherit account part unit;
        cuda = instance.cuda.enable;
      };
    in
    {
      description = found.unit.Description;
      wantedBy = found.install.WantedBy or [ ];
      wants = found.unit.Wants or [ ];
      after = found.unit.After or [ ];
      path = [ pkgs.bash ]; # what Snakemake, and so the bootstrap, runs its steps with
      unitConfig = lib.removeAttrs found.unit [
        "After"
        "Description"
        "Wants"
      ];
      environment =
        found.environment
        // lib.optionalAttrs instance.cuda.enable { LD_LIBRARY_PATH = "/run/opengl-driver/lib"; }
        // settings.toEnvironment instance.settings;
      serviceConfig =
        found.service
        // {
          ExecStart = lib.escapeShellArgs ([ (lib.getExe instance.package) ] ++ found.arguments ++ arguments);
        }
        // lib.optionalAttrs (instance.environmentFile != null) {
          EnvironmentFile = [ instance.environmentFile ];
        };
    };

  neuron =
    name: instance:
    let
      plain = service {
        part = role;
        unit = unitOf name;
        inherit instance;
      };
    in
    lib.nameValuePair (unitOf name) (
      plain
      // {
        description = "${plain.description} ${name}";
        serviceConfig = plain.serviceConfig // {
          LoadCredential = [ "hotkey:${instance.hotkeyFile}" ];
          ExecStartPre = beforeStart instance;
        };
      }
    );

  bootstrap =
    let
      # Any of them; but one that has a token for the hub, if there is one.
      instance = lib.findFirst (one: one.environmentFile != null) (lib.head prepared) prepared;
    in
    service {
      part = "${role}-bootstrap";
      unit = "${account}-bootstrap";
      instance = instance // {
        settings = lib.filterAttrs (key: _: key == "profile") instance.settings;
      };
      # A miner that was given its manifest needs the model and no data.
      arguments = lib.optional (
        role == "miner" && lib.all (one: one.manifest != null) prepared
      ) "model";
    };

  # Runs in the unit's own sandbox, as its own user.
  beforeStart =
    instance:
    let
      profile = instance.settings.profile or null;
      text = import ./manifest.nix {
        inherit lib;
        inherit (instance) fingerprint manifest;
        inherit (pkgs) coreutils;
        folder = "/var/cache/${account}/bootstrap/${if profile == null then "imagenet100" else profile}";
      };
    in
    lib.optional (
      instance.manifest != null || instance.fingerprint != null
    ) "${pkgs.writeShellScript "perturb-manifest" text}";
in
{
  options.services.perturb.${collection} = lib.mkOption {
    type = lib.types.attrsOf (
      lib.types.submodule (
        import ./options.nix {
          inherit
            account
            defaultPackage
            lib
            role
            settings
            unitOf
            ;
        }
      )
    );
    default = { };
    description = "The ${collection} of this machine, each by a name of your own; its unit is `${unitOf "<name>"}`.";
  };

  config = lib.mkIf (instances != { }) {
    assertions = import ./assertions.nix {
      inherit
        collection
        config
        defaultPackage
        instances
        lib
        role
        settings
        ;
    };

    systemd.services =
      lib.mapAttrs' neuron instances
      // lib.optionalAttrs (prepared != [ ]) { "${account}-bootstrap" = bootstrap; };

    networking.firewall.allowedTCPPorts = lib.mkIf (role == "miner") (
      map (
        instance: if instance.settings.axon_port or null == null then 8091 else instance.settings.axon_port
      ) (lib.filter (instance: instance.openFirewall or false) (lib.attrValues instances))
    );
  };
}
