"""Every setting: name, kind, default, unit, meaning. The environment names are a contract with operators.

One registry: from it come the environment names, the TOML keys, the command line's `--set`, the table of
`perturb config show`, the documentation and the Nix options, so none of them can drift.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from perturbnet.config.kinds import Choice, Flag, Integer, Kind, Location, Number, Text

PREFIX = "PERTURB_"


@dataclass(frozen=True)
class Setting:
    """One entry of the registry.

    `name` is the environment name; `default` is text as an operator would write it, or None when there is no value.
    """

    name: str
    attribute: str
    kind: Kind
    default: str | None
    unit: str
    help: str
    live: bool
    secret: bool

    @property
    def key(self) -> str:
        """The key in the TOML file: the environment name without its prefix, in lower case."""
        return self.name.removeprefix(PREFIX).lower()


def _setting(  # noqa: PLR0913 - a table row
    name: str, kind: Kind, default: str | None, help: str, *, unit: str = "", live: bool = False, secret: bool = False
) -> Any:  # noqa: ANN401 - typed by the field it declares
    row = {"name": name, "kind": kind, "default": default, "unit": unit, "help": help, "live": live, "secret": secret}
    return field(metadata=row)


_NAME = Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "letters, digits, '.', '_' and '-', at most 64")
_SHARE = Number("0", "1")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, parsed. Built by `config.load_settings`, never by hand outside tests."""

    # Who and where.
    wallet_name: str = _setting("WALLET_NAME", _NAME, "default", "coldkey's name", live=True)
    wallet_hotkey: str = _setting("WALLET_HOTKEY", _NAME, "default", "hotkey's name", live=True)
    wallet_path: Path = _setting("WALLET_PATH", Location(), "~/.bittensor/wallets", "folder of wallets")
    netuid: int = _setting("NETUID", Integer(0, 65535), "1", "subnet", live=True)
    network: str = _setting(
        "NETWORK", Text(r"finney|test|local|wss?://\S{1,256}", "finney, test, local or a ws(s):// address"), "finney",
        "chain: finney, test, local (a file, see PERTURB_LOCAL_CHAIN) or an endpoint", live=True,
    )  # fmt: skip
    hf_token: str | None = _setting("HF_TOKEN", Text(), None, "token for the model hub", secret=True)
    log_level: str = _setting(
        "LOG_LEVEL", Choice(("DEBUG", "INFO", "WARNING", "ERROR")), "DEBUG", "least severe line that is logged"
    )
    profile: str = _setting(
        "PERTURB_PROFILE", Choice(("imagenet100", "reference")), "imagenet100", "data set and model"
    )
    state_dir: Path = _setting(
        "PERTURB_STATE_DIR", Location(), "~/.local/state/perturb", "ledger, nonces (default: XDG state)"
    )
    cache_dir: Path = _setting(
        "PERTURB_CACHE_DIR", Location(), "~/.cache/perturb", "data sets and weights (default: XDG cache)"
    )
    device: str = _setting("PERTURB_DEVICE", Text(r"auto|cpu|cuda(:[0-9])?", "auto, cpu or cuda[:N]"), "auto", "device")
    # Rounds.
    timeout_seconds: Decimal = _setting(
        "PERTURB_TIMEOUT_SECONDS", Number("0.5", "600"), "20", "a miner's deadline", unit="s"
    )
    query_interval_seconds: Decimal = _setting(
        "PERTURB_QUERY_INTERVAL_SECONDS", Number("0", "86400"), "120", "from one round's start to the next", unit="s"
    )
    challenge_retry_delay_seconds: Decimal = _setting(
        "PERTURB_CHALLENGE_RETRY_DELAY_SECONDS", Number("0", "86400"), "180", "wait when no challenge came out", unit="s"
    )
    max_challenge_attempts: int = _setting(
        "PERTURB_MAX_CHALLENGE_ATTEMPTS", Integer(1, 1000), "12", "rows tried for one challenge"
    )
    challenge_augment: bool = _setting(
        "PERTURB_CHALLENGE_AUGMENT", Flag(), "true", "freshness: seeded rescale, crop and flip of every image"
    )
    k_miners: int = _setting("PERTURB_K_MINERS", Integer(1, 4096), "100", "miners asked in a round")
    miner_exploration_ratio: Decimal = _setting(
        "PERTURB_MINER_EXPLORATION_RATIO", _SHARE, "0.20", "share of k for miners below the processed count"
    )
    group_by_ip: bool = _setting(
        "PERTURB_GROUP_BY_IP", Flag(), "false", "ask one miner per announced IP (self-declared: can silence a victim)"
    )
    duplicates: str = _setting(
        "PERTURB_DUPLICATES", Choice(("record", "split", "zero")), "record", "identical answers in a round"
    )
    max_response_bytes: int = _setting(
        "PERTURB_MAX_RESPONSE_BYTES", Integer(10_000, 100_000_000), "6000000", "cap on a response's body", unit="B"
    )
    keep_bodies_rounds: int = _setting(
        "PERTURB_KEEP_BODIES_ROUNDS", Integer(1, 2**31), "720", "rounds for which responses are kept", unit="rounds"
    )
    # Rules.
    min_linf_delta: Decimal = _setting("PERTURB_MIN_LINF_DELTA", _SHARE, "0.003", "least L-inf change", unit="of 1")
    max_linf_delta: Decimal = _setting("PERTURB_MAX_LINF_DELTA", _SHARE, "0.03", "most L-inf change", unit="of 1")
    min_ssim: Decimal = _setting("PERTURB_MIN_SSIM", _SHARE, "0.98", "least structural similarity")
    min_psnr_db: Decimal = _setting("PERTURB_MIN_PSNR_DB", Number("0", "100"), "38.0", "least PSNR", unit="dB")
    linf_component_weight: Decimal = _setting(
        "PERTURB_LINF_COMPONENT_WEIGHT", Number("0", "1000"), "0.7", "weight of L-inf in the perturbation's score"
    )
    rmse_component_weight: Decimal = _setting(
        "PERTURB_RMSE_COMPONENT_WEIGHT", Number("0", "1000"), "0.3", "weight of RMSE in the perturbation's score"
    )
    perturbation_weight: Decimal = _setting(
        "PERTURB_PERTURBATION_WEIGHT", _SHARE, "1.0", "weight of a small perturbation in the score"
    )
    speed_weight: Decimal = _setting("PERTURB_SPEED_WEIGHT", _SHARE, "0.0", "weight of a fast answer in the score")
    # Histories and weights.
    history_size: int = _setting("PERTURB_HISTORY_SIZE", Integer(1, 10_000), "50", "scores kept per miner")
    min_processed_count: int = _setting(
        "PERTURB_MIN_PROCESSED_COUNT", Integer(1, 1_000_000), "50", "counted rounds before a miner can earn"
    )
    burn_uid: int | None = _setting(
        "PERTURB_BURN_UID", Integer(0, 65535), None, "uid that takes all while nobody is eligible"
    )
    rules_version: int = _setting("PERTURB_RULES_VERSION", Integer(1, 2**53 - 1), "1", "version key of the weights")
    publish_delay_blocks: int | None = _setting(
        "PERTURB_PUBLISH_DELAY_BLOCKS", Integer(0, 10_000_000), None,
        "age at which entries are published (default: the reveal period)", unit="blocks",
    )  # fmt: skip
    # The chain.
    local_chain: Path | None = _setting("PERTURB_LOCAL_CHAIN", Location(), None, "chain file when NETWORK=local")
    chain_deadline_seconds: Decimal = _setting(
        "PERTURB_CHAIN_DEADLINE_SECONDS", Number("1", "600"), "30", "our own deadline for a call to the chain", unit="s"
    )
    # The axon.
    axon_port: int = _setting("PERTURB_AXON_PORT", Integer(1, 65535), "8091", "port the miner listens on")
    axon_external_ip: str | None = _setting(
        "PERTURB_AXON_EXTERNAL_IP", Text(r"[0-9A-Fa-f:.]{2,45}", "an IPv4 or IPv6 address"), None, "address announced"
    )
    axon_bind: str = _setting("PERTURB_AXON_BIND", Text(r"[0-9A-Fa-f:.]{2,45}", "an IP address"), "0.0.0.0", "bound")  # noqa: S104 - a miner serves the world
    open_network: bool = _setting(
        "PERTURB_OPEN_NETWORK", Flag(), "false", "answer any registered hotkey, permit or not (test networks)"
    )
    attack: str = _setting("PERTURB_ATTACK", _NAME, "pgd", "the miner's attack: `perturb attack --list`")
    # Telemetry.
    wandb_enabled: bool = _setting("PERTURB_WANDB_ENABLED", Flag(), "false", "mirror to Weights & Biases")
    wandb_project: str = _setting("PERTURB_WANDB_PROJECT", _NAME, "perturb-validator", "its project")
    wandb_entity: str | None = _setting("PERTURB_WANDB_ENTITY", _NAME, None, "its entity")
    wandb_run_name: str | None = _setting("PERTURB_WANDB_RUN_NAME", Text(), None, "its run's name")
    wandb_mode: str = _setting("PERTURB_WANDB_MODE", Choice(("online", "offline", "disabled")), "online", "its mode")
    wandb_log_console: bool = _setting("PERTURB_WANDB_LOG_CONSOLE", Flag(), "true", "mirror the console too")
    # Trials.
    max_rounds: int = _setting("PERTURB_MAX_ROUNDS", Integer(0, 2**31), "0", "end after so many rounds (0: never)")
    secret_seed: str | None = _setting(
        "PERTURB_SECRET_SEED", Text(), None, "derive the epoch's secret from this text (NETWORK=local only)", secret=True
    )


@cache
def registry() -> tuple[Setting, ...]:
    """Every setting, in the order of declaration."""
    return tuple(Setting(attribute=entry.name, **entry.metadata) for entry in fields(Settings))
