# The options of one instance. Settings are in modules/settings.nix; what may not go together in modules/assertions.nix.
{
  account,
  defaultPackage,
  lib,
  role,
  settings,
  unitOf,
}:
{ name, ... }:
let
  inherit (lib) mkEnableOption mkOption types;
in
{
  options = {
    enable = mkEnableOption "this ${role}";

    package = mkOption {
      type = types.package;
      default = defaultPackage;
      defaultText = lib.literalMD "the flake's environment, as locked";
      description = "The environment that holds `perturb`.";
    };

    settings = mkOption {
      type = settings.type;
      default = { };
      example = {
        netuid = 44;
        network = "finney";
      };
      description = ''
        Settings by their key in the TOML file: see docs/settings.md. What is not set has the program's default.
        Secrets belong in `environmentFile`.
      '';
    };

    hotkeyFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/secrets/perturb-hotkey";
      description = ''
        The hotkey file of btcli, on this machine and not in the Nix store, readable by root. systemd hands a copy to the
        unit alone.
      '';
    };

    environmentFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/secrets/perturb.env";
      description = "Lines NAME=value with what is secret: HF_TOKEN, WANDB_API_KEY. Not in the Nix store.";
    };

    cuda.enable = mkEnableOption "the NVIDIA GPU; without, the unit sees no device";

    bootstrap.enable = mkOption {
      type = types.bool;
      default = true;
      description = "Fetch and verify data, weights and model before the ${role} starts.";
    };

    manifest = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = ''
        A manifest.json to compare with, instead of one that the bootstrap of this machine makes. It is public. A miner that
        has one needs the model and no data.
      '';
    };

    fingerprint = mkOption {
      type = types.nullOr (types.strMatching "[0-9a-f]{64}");
      default = null;
      description = "The protocol fingerprint this ${role} must hold; with any other it does not start.";
    };

    stateDir = mkOption {
      type = types.path;
      readOnly = true;
      default = "/var/lib/${unitOf name}";
      description = "Where the state is; back it up while the unit is stopped.";
    };

    cacheDir = mkOption {
      type = types.path;
      readOnly = true;
      default = "/var/cache/${account}";
      description = "Where data, weights and model are; all of it can be fetched again.";
    };
  }
  // lib.optionalAttrs (role == "miner") {
    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Open `settings.axon_port` to the world. Validators cannot reach a miner otherwise.";
    };
  };
}
