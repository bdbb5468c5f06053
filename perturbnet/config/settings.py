"""Every setting: name, kind, default, unit, meaning. The environment names are a contract with operators.

One registry: from it come the environment names, the TOML keys, the command line's `--set`, the table of
`perturb config show`, the documentation and the Nix options, so none of them can drift.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any

from perturbnet.config.kinds import Choice, Flag, Integer, IpAddress, Kind, Location, Number, Text

PREFIX = "PERTURB_"


@dataclass(frozen=True)
class Setting:
    """One entry of the registry.

    `name` is the environment name; `default` is text as an operator would write it, or None when there is no
    value. `role` says who reads it: validator, miner or both. `live` ones must be said on a live network; the
    value of a `secret` is never shown.
    """

    name: str
    attribute: str
    kind: Kind
    default: str | None
    unit: str
    help: str
    live: bool
    secret: bool
    role: str = "both"

    @property
    def key(self) -> str:
        """The key in the TOML file: the environment name without its prefix, in lower case."""
        return self.name.removeprefix(PREFIX).lower()


def _setting(  # noqa: PLR0913 - a table row
    role: str,
    name: str,
    kind: Kind,
    default: str | None,
    meaning: str,
    *,
    unit: str = "",
    live: bool = False,
    secret: bool = False,
) -> Any:
    row = {"role": role, "name": name, "kind": kind, "default": default, "help": meaning, "unit": unit}
    return field(metadata={**row, "live": live, "secret": secret})


_shared = partial(_setting, "both")
_validator = partial(_setting, "validator")
_miner = partial(_setting, "miner")
_NAME = Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "letters, digits, '.', '_' and '-', at most 64")
_SHARE = Number("0", "1")
_DEVICE = Text(r"auto|cpu|cuda(:[0-9])?", "auto, cpu or cuda[:N]")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, parsed. Built by `config.load_settings`, never by hand outside tests."""

    # Who and where.
    wallet_name: str = _shared("WALLET_NAME", _NAME, "default", "coldkey's name", live=True)
    wallet_hotkey: str = _shared("WALLET_HOTKEY", _NAME, "default", "hotkey's name", live=True)
    wallet_path: Path = _shared("WALLET_PATH", Location(), "~/.bittensor/wallets", "folder of wallets")
    hotkey_file: Path | None = _shared(
        "PERTURB_HOTKEY_FILE",
        Location(),
        None,
        "the hotkey's file itself; the three names above are not read",
    )
    netuid: int = _shared("NETUID", Integer(0, 65535), "1", "subnet", live=True)
    network: str = _shared(
        "NETWORK",
        Text(r"finney|test|local|wss?://\S{1,256}", "finney, test, local or a ws(s):// address"),
        "finney",
        "the chain; local is a file, see PERTURB_LOCAL_CHAIN",
        live=True,
    )
    chain_fallbacks: str | None = _shared(
        "PERTURB_CHAIN_FALLBACKS",
        Text(
            r"wss?://[!-+.-~-]{1,256}(,wss?://[!-+.-~-]{1,256}){0,7}",
            "up to 8 ws(s):// addresses, commas between",
        ),
        None,
        "endpoints of the same network, asked in this order when NETWORK's fails",
    )
    hf_token: str | None = _shared("HF_TOKEN", Text(), None, "token for the model hub", secret=True)
    log_level: str = _shared(
        "LOG_LEVEL",
        Choice(("DEBUG", "INFO", "WARNING", "ERROR")),
        "DEBUG",
        "least severe line that is logged",
    )
    log_format: str = _shared(
        "PERTURB_LOG_FORMAT",
        Choice(("auto", "text", "json")),
        "auto",
        "form of log lines; auto is text at a terminal, else JSON",
    )
    profile: str = _shared(
        "PERTURB_PROFILE", Choice(("imagenet100", "reference")), "imagenet100", "data set and model"
    )
    state_dir: Path = _shared(
        "PERTURB_STATE_DIR", Location(), "~/.local/state/perturb", "ledger, nonces (XDG_STATE_HOME counts)"
    )
    cache_dir: Path = _shared(
        "PERTURB_CACHE_DIR", Location(), "~/.cache/perturb", "data sets, weights (XDG_CACHE_HOME counts)"
    )
    device: str = _shared("PERTURB_DEVICE", _DEVICE, "auto", "where the network runs")
    engine: str = _shared(
        "PERTURB_ENGINE",
        Choice(("float64", "integer", "float32", "float64-plain")),
        "float64",
        "engine of verdicts; float64 and integer give the same bits everywhere",
    )
    paranoid: bool = _validator(
        "PERTURB_PARANOID", Flag(), "false", "at start, hash every file and decode every row of the data set"
    )
    # Rounds.
    timeout_seconds: Decimal = _validator(
        "PERTURB_TIMEOUT_SECONDS", Number("0.5", "600"), "20", "a miner's deadline", unit="s"
    )
    query_interval_seconds: Decimal = _validator(
        "PERTURB_QUERY_INTERVAL_SECONDS",
        Number("0", "86400"),
        "120",
        "from a round's start to the next's",
        unit="s",
    )
    challenge_retry_delay_seconds: Decimal = _validator(
        "PERTURB_CHALLENGE_RETRY_DELAY_SECONDS",
        Number("0", "86400"),
        "180",
        "wait after a failed round",
        unit="s",
    )
    max_challenge_attempts: int = _validator(
        "PERTURB_MAX_CHALLENGE_ATTEMPTS", Integer(1, 1000), "12", "rows tried for one challenge"
    )
    challenge_augment: bool = _validator(
        "PERTURB_CHALLENGE_AUGMENT", Flag(), "true", "freshness: seeded rescale, crop and flip of every image"
    )
    k_miners: int = _validator("PERTURB_K_MINERS", Integer(1, 256), "100", "miners asked in a round")
    miner_exploration_ratio: Decimal = _validator(
        "PERTURB_MINER_EXPLORATION_RATIO", _SHARE, "0.20", "share of k for miners below the processed count"
    )
    group_by_ip: bool = _validator(
        "PERTURB_GROUP_BY_IP", Flag(), "false", "ask one miner per announced IP (self-declared!)"
    )
    duplicates: str = _validator(
        "PERTURB_DUPLICATES", Choice(("record", "split", "zero")), "record", "identical answers of a round"
    )
    max_response_bytes: int = _validator(
        "PERTURB_MAX_RESPONSE_BYTES", Integer(10_000, 10**8), "6000000", "cap on a response's body", unit="B"
    )
    keep_bodies_rounds: int = _validator(
        "PERTURB_KEEP_BODIES_ROUNDS", Integer(1, 2**31), "720", "how long responses are kept", unit="rounds"
    )
    # Rules.
    min_linf_delta: Decimal = _validator(
        "PERTURB_MIN_LINF_DELTA", _SHARE, "0.003", "least L-inf change", unit="of 1"
    )
    max_linf_delta: Decimal = _validator(
        "PERTURB_MAX_LINF_DELTA", _SHARE, "0.03", "most L-inf change", unit="of 1"
    )
    min_ssim: Decimal = _validator("PERTURB_MIN_SSIM", _SHARE, "0.98", "least structural similarity")
    min_psnr_db: Decimal = _validator(
        "PERTURB_MIN_PSNR_DB", Number("0", "100"), "38.0", "least PSNR", unit="dB"
    )
    linf_component_weight: Decimal = _validator(
        "PERTURB_LINF_COMPONENT_WEIGHT",
        Number("0", "1000"),
        "0.7",
        "weight of L-inf in a perturbation's score",
    )
    rmse_component_weight: Decimal = _validator(
        "PERTURB_RMSE_COMPONENT_WEIGHT",
        Number("0", "1000"),
        "0.3",
        "weight of RMSE in a perturbation's score",
    )
    perturbation_weight: Decimal = _validator(
        "PERTURB_PERTURBATION_WEIGHT", _SHARE, "1.0", "weight of a small perturbation in the score"
    )
    speed_weight: Decimal = _validator(
        "PERTURB_SPEED_WEIGHT", _SHARE, "0.0", "weight of a fast answer in the score"
    )
    # Histories and weights.
    history_size: int = _validator("PERTURB_HISTORY_SIZE", Integer(1, 10_000), "50", "scores kept per miner")
    min_processed_count: int = _validator(
        "PERTURB_MIN_PROCESSED_COUNT", Integer(1, 1_000_000), "50", "counted rounds before a miner can earn"
    )
    burn_uid: int | None = _validator(
        "PERTURB_BURN_UID", Integer(0, 65535), None, "uid that takes all while nobody is eligible"
    )
    rules_version: int = _validator(
        "PERTURB_RULES_VERSION", Integer(1, 2**53 - 1), "1", "version key of the weights"
    )
    rules_activation_block: int | None = _validator(
        "PERTURB_RULES_ACTIVATION_BLOCK",
        Integer(1, 2**53 - 1),
        None,
        "these settings' rules hold from that block on, until then the ledger's (unset: at once)",
        unit="block",
    )
    weights_window_blocks: int = _validator(
        "PERTURB_WEIGHTS_WINDOW_BLOCKS",
        Integer(1, 10_000_000),
        "60",
        "weights are set so shortly before the end of an epoch, or at once after one without any",
        unit="blocks",
    )
    publish_delay_blocks: int | None = _validator(
        "PERTURB_PUBLISH_DELAY_BLOCKS",
        Integer(0, 10_000_000),
        None,
        "age at which entries are published (unset: the reveal period)",
        unit="blocks",
    )
    publish_to: str | None = _validator(
        "PERTURB_PUBLISH_TO",
        Text(),
        None,
        "folder, or s3://BUCKET/PREFIX, that the log is published in (unset: not published)",
    )
    publish_url: str | None = _validator(
        "PERTURB_PUBLISH_URL",
        Text(r"https?://[!-~]{1,120}", "an http(s):// address of at most 128 characters"),
        None,
        "where that place is read; written on chain with each anchor",
    )
    anchor_interval_blocks: int = _validator(
        "PERTURB_ANCHOR_INTERVAL_BLOCKS",
        Integer(1, 1_000_000),
        "100",
        "least distance of two anchors; an epoch pays for 14",
        unit="blocks",
    )
    keep_deltas_rounds: int = _validator(
        "PERTURB_KEEP_DELTAS_ROUNDS",
        Integer(0, 2**31),
        "5040",
        "how long the answers' deltas are kept and published (0: for ever)",
        unit="rounds",
    )
    # The chain.
    local_chain: Path | None = _shared(
        "PERTURB_LOCAL_CHAIN", Location(), None, "chain file when NETWORK=local"
    )
    chain_deadline_seconds: Decimal = _shared(
        "PERTURB_CHAIN_DEADLINE_SECONDS",
        Number("1", "600"),
        "30",
        "our deadline for a call to the chain",
        unit="s",
    )
    # The axon.
    axon_port: int = _miner("PERTURB_AXON_PORT", Integer(1, 65535), "8091", "port the miner listens on")
    axon_external_ip: str | None = _miner(
        "PERTURB_AXON_EXTERNAL_IP", IpAddress(), None, "address announced (unset: detected, or an error)"
    )
    axon_bind: str = _miner(
        "PERTURB_AXON_BIND",
        IpAddress(),
        "0.0.0.0",  # noqa: S104 - a miner serves the world
        "address the miner listens on",
    )
    open_network: bool = _miner(
        "PERTURB_OPEN_NETWORK", Flag(), "false", "answer every registered hotkey (test networks)"
    )
    attack: str = _miner("PERTURB_ATTACK", _NAME, "exchange", "the miner's attack: `perturb attack --list`")
    answer_reserve_seconds: Decimal = _miner(
        "PERTURB_ANSWER_RESERVE_SECONDS",
        Number("0.05", "60"),
        "1",
        "how long before a challenge's time-out the miner sends its best image",
        unit="s",
    )
    searches: int = _miner(
        "PERTURB_SEARCHES", Integer(1, 64), "24", "challenges searched at once; more wait, by deadline"
    )
    # Telemetry.
    metrics_port: int = _shared(
        "PERTURB_METRICS_PORT",
        Integer(0, 65535),
        "9477",
        "port on 127.0.0.1 of metrics and status (0: none)",
    )
    wandb_enabled: bool = _validator("PERTURB_WANDB_ENABLED", Flag(), "false", "mirror to Weights & Biases")
    wandb_project: str = _validator("PERTURB_WANDB_PROJECT", _NAME, "perturb-validator", "its project")
    wandb_entity: str | None = _validator("PERTURB_WANDB_ENTITY", _NAME, None, "its entity")
    wandb_run_name: str | None = _validator("PERTURB_WANDB_RUN_NAME", Text(), None, "its run's name")
    wandb_mode: str = _validator(
        "PERTURB_WANDB_MODE", Choice(("online", "offline", "disabled")), "online", "its mode"
    )
    wandb_log_console: bool = _validator(
        "PERTURB_WANDB_LOG_CONSOLE", Flag(), "true", "mirror the console too"
    )
    # Trials.
    max_rounds: int = _validator(
        "PERTURB_MAX_ROUNDS", Integer(0, 2**31), "0", "end after so many rounds (0: never)"
    )
    secret_seed: str | None = _validator(
        "PERTURB_SECRET_SEED",
        Text(),
        None,
        "the epochs' secrets follow from this text (NETWORK=local only)",
        secret=True,
    )


@cache
def registry() -> tuple[Setting, ...]:
    """Every setting, in the order of declaration."""
    return tuple(Setting(attribute=entry.name, **entry.metadata) for entry in fields(Settings))
