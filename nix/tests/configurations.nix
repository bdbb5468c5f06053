# Right configurations, and wrong ones with the sentence they are refused with.
#
# `refused`: the sentence is one of modules/assertions.nix. `mistyped`: it comes from the option's type, and Nix shows it.
let
  # Neurons that lack nothing; what a case gives replaces.
  neuron = extra: {
    enable = true;
    hotkeyFile = "/run/secrets/hotkey";
  }
  // extra
  // {
    settings = {
      netuid = 44;
      network = "finney";
    }
    // (extra.settings or { });
  };
  validator = extra: { services.perturb.validators.main = neuron extra; };
  miner = extra: { services.perturb.miners.main = neuron extra; };
  withSettings = settings: validator { inherit settings; };
  driver = {
    hardware.graphics.enable = true;
    hardware.nvidia.open = true;
    services.xserver.videoDrivers = [ "nvidia" ];
  };

  v = "services.perturb.validators.main";
  m = "services.perturb.miners.main";
in
{
  right = {
    nothing = { };
    validator = validator { };
    miner = miner { openFirewall = true; };
    validator-cuda.imports = [
      driver
      (validator {
        cuda.enable = true;
        settings.device = "cuda:1";
      })
    ];
    miner-cuda.imports = [
      driver
      (miner { cuda.enable = true; })
    ];
    every-kind = validator {
      environmentFile = "/run/secrets/validator.env";
      fingerprint = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
      settings = {
        k_miners = 64;
        min_ssim = 0.985;
        min_psnr_db = "38.25";
        paranoid = true;
        engine = "integer";
        publish_to = "/var/lib/published";
        publish_url = "https://example.org/a%20b";
        log_level = "INFO";
      };
    };
    local = withSettings {
      network = "local";
      local_chain = "/srv/chain.sqlite";
      profile = "reference";
    };
    miner-without-data = miner { manifest = ./configurations.nix; };
    off = validator {
      enable = false;
      hotkeyFile = null;
    };
    two-of-each = {
      services.perturb.validators.a = neuron { };
      services.perturb.validators.b = neuron { settings.metrics_port = 9478; };
      services.perturb.miners.a = neuron { settings.metrics_port = 0; };
      services.perturb.miners.b = neuron {
        settings.metrics_port = 0;
        settings.axon_port = 8092;
      };
    };
  };

  refused = {
    no-key = {
      module = validator { hotkeyFile = null; };
      says = "${v}.hotkeyFile is not set: name the hotkey file that signs, for example /run/secrets/perturb-hotkey.";
    };
    key-in-the-store = {
      module = validator { hotkeyFile = "${builtins.storeDir}/00000000000000000000000000000000-hotkey"; };
      says = "${v}.hotkeyFile lies in the Nix store, which everyone can read: write the path of a file on the machine, in quotes.";
    };
    relative-key = {
      module = validator { hotkeyFile = "secrets/hotkey"; };
      says = "${v}.hotkeyFile is secrets/hotkey: an absolute path is needed.";
    };
    secrets-in-the-store = {
      module = validator { environmentFile = "${builtins.storeDir}/00000000000000000000000000000000-env"; };
      says = "${v}.environmentFile lies in the Nix store, which everyone can read: write the path of a file on the machine, in quotes.";
    };
    secret-setting = {
      module = withSettings { hf_token = "hf_something"; };
      says = "${v}.settings.hf_token is secret, and the Nix store can be read by everyone: write HF_TOKEN=… into the file that ${v}.environmentFile names.";
    };
    no-netuid = {
      module = withSettings { netuid = null; };
      says = "${v}.settings.netuid is not set: say which subnet, a whole number from 0 to 65535.";
    };
    no-network = {
      module = withSettings { network = null; };
      says = "${v}.settings.network is not set: finney, test, local or a ws(s):// address.";
    };
    local-without-chain = {
      module = withSettings { network = "local"; };
      says = "${v}.settings.local_chain is not set: the network local is a file; name it.";
    };
    no-manifest = {
      module = validator { bootstrap.enable = false; };
      says = "${v} has neither bootstrap nor manifest: a validator compares what it holds with a manifest before it starts. Leave bootstrap.enable on, or name a manifest.";
    };
    two-manifests = {
      module = validator { manifest = ./configurations.nix; };
      says = "${v}.manifest would replace what the bootstrap finds: to insist on one set fingerprint to its SHA-256, or turn bootstrap.enable off.";
    };
    typing-error = {
      module = withSettings { k_miner = 64; };
      says = "${v}.settings.k_miner is no setting of Perturb: docs/settings.md lists them all.";
    };
    managed-setting = {
      module = withSettings { state_dir = "/srv/perturb"; };
      says = "${v}.settings.state_dir is set by the unit itself: leave it out. The key's file is hotkeyFile; state and cache have folders of systemd's.";
    };
    another-role = {
      module = withSettings { axon_port = 8091; };
      says = "${v}.settings.axon_port is read by a miner only: leave it out.";
    };
    unseen-gpu = {
      module = withSettings { device = "cuda"; };
      says = "${v}.settings.device is cuda, but the unit sees no GPU: set ${v}.cuda.enable.";
    };
    no-driver = {
      module = validator { cuda.enable = true; };
      says = "${v}.cuda.enable needs the driver: set hardware.graphics.enable = true and services.xserver.videoDrivers = [ \"nvidia\" ].";
    };
    no-time = {
      module.imports = [
        (validator { })
        { services.timesyncd.enable = false; }
      ];
      says = "services.perturb.validators: requests are signed with the time, and two seconds of difference are allowed: set services.timesyncd.enable or services.chrony.enable.";
    };
    same-axon-port = {
      module = {
        services.perturb.miners.main = neuron { settings.metrics_port = 0; };
        services.perturb.miners.other = neuron { settings.metrics_port = 0; };
      };
      says = "${m}.settings.axon_port is 8091, as that of services.perturb.miners.other: give each its own.";
    };
    same-metrics-port = {
      module = {
        services.perturb.validators.main = neuron { };
        services.perturb.miners.main = neuron { };
      };
      says = "${v}.settings.metrics_port is 9477, as that of ${m}: give each its own, or 0 for none.";
    };
    two-profiles = {
      module = {
        services.perturb.validators.main = neuron { };
        services.perturb.validators.other = neuron { settings.profile = "reference"; };
      };
      says = "${v}.settings.profile is imagenet100, that of another validator here is reference: they share one bootstrap, so one profile.";
    };
    bad-name = {
      module.services.perturb.validators.Main = neuron { };
      says = "services.perturb.validators.Main: the name becomes part of a unit's: small letters, digits and '-' are allowed, at most 32.";
    };
    taken-name = {
      module.services.perturb.validators.bootstrap = neuron { };
      says = "services.perturb.validators.bootstrap: this name is taken by the unit that prepares the data: choose another.";
    };
  };

  mistyped = {
    above-range = {
      module = withSettings { netuid = 65536; };
      says = "${v}.settings.netuid' is not of type `a whole number from 0 to 65535";
    };
    below-range = {
      module = withSettings { timeout_seconds = 0.4; };
      says = "${v}.settings.timeout_seconds' is not of type `a decimal number from 0.5 to 600";
    };
    seven-places = {
      module = withSettings { min_ssim = "0.9812345"; };
      says = "${v}.settings.min_ssim' is not of type `a decimal number from 0 to 1, at most 6 decimals";
    };
    tiny-float = {
      module = withSettings { min_ssim = 1.0e-9; };
      says = "${v}.settings.min_ssim' is not of type `a decimal number from 0 to 1, at most 6 decimals";
    };
    wrong-word = {
      module = withSettings { engine = "float16"; };
      says = "${v}.settings.engine' is not of type `one of float64, integer, float32, float64-plain";
    };
    text-for-a-flag = {
      module = withSettings { paranoid = "yes"; };
      says = "${v}.settings.paranoid' is not of type `true or false";
    };
    malformed-text = {
      module = withSettings { network = "finny"; };
      says = "${v}.settings.network' is not of type `finney, test, local or a ws(s):// address";
    };
    relative-path = {
      module = withSettings { local_chain = "chain.sqlite"; };
      says = "${v}.settings.local_chain' is not of type `an absolute path";
    };
    fingerprint-cut-short = {
      module = validator { fingerprint = "0123"; };
      says = "${v}.fingerprint' is not of type `null or string matching the pattern [0-9a-f]{64}";
    };
    no-such-option = {
      module = validator { openFirewall = true; };
      says = "${v}.openFirewall' does not exist";
    };
  };
}
