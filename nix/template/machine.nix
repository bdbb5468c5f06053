# One machine: a validator with a GPU. Lines that want your own values are marked with <-.
{ lib, ... }:
{
  # The machine itself: `nixos-generate-config` writes a file with its disks and boot loader; import it here.
  # imports = [ ./hardware-configuration.nix ];
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";

  # The driver is not free software; nothing else of NVIDIA's is let in.
  nixpkgs.config.allowUnfreePredicate = package: lib.hasPrefix "nvidia" (lib.getName package);
  hardware.graphics.enable = true;
  hardware.nvidia.open = true;
  services.xserver.videoDrivers = [ "nvidia" ];

  # Requests are signed with the time; two seconds of difference are allowed.
  services.chrony.enable = true;

  services.perturb.validators.main = {
    enable = true;
    cuda.enable = true;
    hotkeyFile = "/run/secrets/perturb-hotkey"; # <- the hotkey's file, as btcli made it; readable by root
    # environmentFile = "/run/secrets/perturb.env"; # HF_TOKEN=…, WANDB_API_KEY=…
    settings = {
      netuid = 44; # <- the subnet
      network = "finney";
    };
  };

  # A miner on the same machine:
  # services.perturb.miners.main = {
  #   enable = true;
  #   hotkeyFile = "/run/secrets/perturb-miner-hotkey";
  #   openFirewall = true;
  #   settings = {
  #     netuid = 44;
  #     network = "finney";
  #     metrics_port = 9478; # the validator's is 9477
  #   };
  # };
}
