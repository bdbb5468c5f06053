# A whole machine: a validator with a GPU and a miner without. Evaluated as nixosConfigurations.example by
# `nix flake check`; nix/template is the one to copy.
{ lib, ... }:
{
  nixpkgs.hostPlatform = "x86_64-linux";
  nixpkgs.config.allowUnfreePredicate = package: lib.hasPrefix "nvidia" (lib.getName package);
  system.stateVersion = "26.05";

  boot.loader.grub.device = "/dev/vda";
  fileSystems."/" = {
    device = "/dev/vda1";
    fsType = "ext4";
  };

  hardware.graphics.enable = true;
  hardware.nvidia.open = true;
  services.xserver.videoDrivers = [ "nvidia" ];
  services.chrony.enable = true;

  services.perturb.validators.main = {
    enable = true;
    hotkeyFile = "/run/secrets/validator-hotkey";
    environmentFile = "/run/secrets/validator.env";
    cuda.enable = true;
    settings = {
      netuid = 44;
      network = "finney";
      device = "cuda";
      publish_to = "/var/lib/perturb-validator-main/published";
    };
  };

  services.perturb.miners.main = {
    enable = true;
    hotkeyFile = "/run/secrets/miner-hotkey";
    openFirewall = true;
    settings = {
      netuid = 44;
      network = "finney";
      axon_port = 8091;
      metrics_port = 9478;
    };
  };
}
