# Two machines: `host` has a local chain, a validator and two miners; `stranger` only reaches it over the network.
#
# The local chain is a file, so its neurons are on one machine. Weights are set, kill -9 loses nothing, a loop that stands
# still is ended by the watchdog, and what a unit or a stranger may not do is denied.
{
  environments,
  pkgs,
  self,
}:
let
  inherit (pkgs) lib;
  network = "/srv/network";
  chain = "${network}/chain.sqlite";

  common = {
    network = "local";
    netuid = 1;
    local_chain = chain;
    profile = "reference";
    log_level = "INFO";
    log_format = "text";
  };
  neuron = name: settings: {
    enable = true;
    hotkeyFile = "${network}/${name}.hotkey";
    settings = common // settings;
  };
  minerSettings = port: {
    axon_port = port;
    axon_external_ip = "192.168.1.1";
    metrics_port = 0;
  };
  # The chain is ours and in a file; on a live network no unit writes outside of its own folders.
  sharesChain = {
    wantedBy = lib.mkForce [ ];
    serviceConfig.ReadWritePaths = [ network ];
  };
in
pkgs.testers.runNixOSTest {
  name = "perturb";

  nodes.host = {
    imports = [ self.nixosModules.default ];
    virtualisation = {
      cores = 2;
      memorySize = 6144;
      diskSize = 8192;
    };
    environment.systemPackages = [ environments.perturb ];
    services.chrony.enable = true;

    services.perturb.validators.main = neuron "validator" {
      query_interval_seconds = 0;
      challenge_retry_delay_seconds = 1;
      timeout_seconds = 5;
      history_size = 2;
      min_processed_count = 2;
    };
    services.perturb.miners.one = neuron "miner-one" (minerSettings 8091) // {
      openFirewall = true;
    };
    services.perturb.miners.two = neuron "miner-two" (minerSettings 8092);

    systemd.services = {
      perturb-validator-main = sharesChain;
      perturb-miner-one = sharesChain;
      perturb-miner-two = sharesChain;
    };
  };

  nodes.stranger = { };

  testScript = ''
    VALIDATOR = "perturb-validator-main.service"
    STATE = "/var/lib/perturb-validator-main"


    def rounds() -> int:
        said = host.succeed(f"journalctl -u {VALIDATOR} -o cat | grep -c 'Round [0-9]* closed' || true")
        return int(said.strip())


    def wait_for_rounds(count: int) -> None:
        retry(lambda _: rounds() >= count, 900)


    start_all()
    host.wait_for_unit("multi-user.target")
    host.succeed(
        "${environments.perturb}/bin/python ${../../tests/nix/open_network.py}"
        " ${network} validator miner-one miner-two"
    )

    with subtest("units start, each after its bootstrap"):
        host.systemctl("start perturb-miner-one perturb-miner-two perturb-validator-main")
        for unit in ("perturb-miner-one", "perturb-miner-two", "perturb-validator-main"):
            host.wait_for_unit(unit)
        host.succeed("test -s /var/cache/perturb-validator/bootstrap/reference/manifest.json")

    with subtest("rounds are closed and weights are set"):
        wait_for_rounds(3)
        host.wait_until_succeeds(f"journalctl -u {VALIDATOR} -o cat | grep 'set_weights: .* at block'", 900)

    with subtest("kill -9: the same state goes on"):
        before = rounds()
        host.succeed(f"systemctl kill -s KILL {VALIDATOR}")
        host.wait_for_unit(VALIDATOR)
        wait_for_rounds(before + 2)
        closed = host.succeed(f"journalctl -u {VALIDATOR} -o cat | grep -o 'Round [0-9]* closed'").split("\n")
        assert len(closed) == len(set(closed)), f"a round was closed twice: {closed}"

    with subtest("the watchdog ends a process that stands still"):
        host.succeed(f"systemctl kill -s STOP {VALIDATOR}")
        host.wait_until_succeeds(f"journalctl -u {VALIDATOR} | grep -i 'watchdog timeout'", 300)
        host.wait_for_unit(VALIDATOR)

    with subtest("a stranger reaches what was opened, and nothing else"):
        stranger.wait_for_unit("multi-user.target")
        stranger.succeed("timeout 5 bash -c '</dev/tcp/192.168.1.1/8091'")
        stranger.fail("timeout 5 bash -c '</dev/tcp/192.168.1.1/8092'")
        stranger.fail("timeout 5 bash -c '</dev/tcp/192.168.1.1/9477'")

    with subtest("a unit may not do what it has no use for"):
        pid = host.succeed(f"systemctl show -p MainPID --value {VALIDATOR}").strip()
        inside = f"nsenter -t {pid} -m -S follow -- "
        for path in ("/etc/denied", "/var/lib/denied", "/srv/denied"):
            host.fail(inside + f"touch {path}")
        host.succeed(inside + "sh -c 'test -z \"$(ls -A /root /home)\"'")
        host.succeed(f"grep -q 'NoNewPrivs:.1' /proc/{pid}/status")
        host.succeed(f"grep -q 'CapEff:.0000000000000000' /proc/{pid}/status")
        host.succeed(f"grep -q 'Seccomp:.2' /proc/{pid}/status")
        host.succeed(f"test $(stat -c %a $(readlink -f {STATE})) = 700")
  '';
}
