"""The registry holds every setting of the design's table, under its name and with its default."""

from __future__ import annotations

import dataclasses
import re
from typing import get_type_hints

import pytest

from perturbnet.config import Settings, load_settings, registry

# The settings' names are a contract; this is their table, literally. An en dash is no value.
TABLE = """
PERTURB_TIMEOUT_SECONDS | 20
PERTURB_QUERY_INTERVAL_SECONDS | 120
PERTURB_CHALLENGE_RETRY_DELAY_SECONDS | 180
PERTURB_MAX_CHALLENGE_ATTEMPTS | 12
PERTURB_K_MINERS | 100
PERTURB_MINER_EXPLORATION_RATIO | 0.20
PERTURB_HISTORY_SIZE | 50
PERTURB_MIN_PROCESSED_COUNT | 50
PERTURB_MIN_LINF_DELTA | 0.003
PERTURB_MAX_LINF_DELTA | 0.03
PERTURB_MIN_SSIM | 0.98
PERTURB_MIN_PSNR_DB | 38.0
PERTURB_LINF_COMPONENT_WEIGHT | 0.7
PERTURB_RMSE_COMPONENT_WEIGHT | 0.3
PERTURB_PERTURBATION_WEIGHT | 1.0
PERTURB_SPEED_WEIGHT | 0.0
PERTURB_WANDB_ENABLED | false
PERTURB_WANDB_LOG_CONSOLE | true
PERTURB_WANDB_PROJECT | perturb-validator
PERTURB_WANDB_ENTITY | –
PERTURB_WANDB_RUN_NAME | –
PERTURB_WANDB_MODE | online
PERTURB_PROFILE | imagenet100
PERTURB_STATE_DIR | ~/.local/state/perturb
PERTURB_CACHE_DIR | ~/.cache/perturb
PERTURB_DEVICE | auto
PERTURB_AXON_PORT | 8091
PERTURB_AXON_EXTERNAL_IP | –
PERTURB_CHALLENGE_AUGMENT | true
PERTURB_BURN_UID | –
PERTURB_GROUP_BY_IP | false
PERTURB_PUBLISH_DELAY_BLOCKS | –
PERTURB_DUPLICATES | record
WALLET_PATH | ~/.bittensor/wallets
HF_TOKEN | –
LOG_LEVEL | DEBUG
"""
DESIGNED = [tuple(line.split(" | ")) for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize(("name", "default"), DESIGNED)
def test_designed_setting_and_default(name: str, default: str) -> None:
    found = {setting.name: setting.default for setting in registry()}
    assert found[name] == (None if default == "–" else default)


def test_what_a_live_network_needs() -> None:
    live = {setting.name for setting in registry() if setting.live}
    assert live == {"WALLET_NAME", "WALLET_HOTKEY", "NETUID", "NETWORK"}


def test_choices_of_the_design() -> None:
    allowed = {setting.name: setting.kind.allowed for setting in registry()}
    assert allowed["PERTURB_PROFILE"] == "one of imagenet100, reference"
    assert allowed["PERTURB_DUPLICATES"] == "one of record, split, zero"
    assert allowed["PERTURB_WANDB_MODE"] == "one of online, offline, disabled"


def test_names_keys_and_attributes_are_one_name() -> None:
    for setting in registry():
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", setting.name)
        assert setting.key == setting.attribute
        assert setting.help
        assert setting.role in {"both", "validator", "miner"}
    for attribute in ("name", "key"):
        assert len({getattr(setting, attribute) for setting in registry()}) == len(registry())


def test_fields_are_typed_as_their_kinds_parse() -> None:
    hints = get_type_hints(Settings)
    settings = load_settings(
        {"HF_TOKEN": "x", "PERTURB_BURN_UID": "0", "PERTURB_AXON_EXTERNAL_IP": "192.0.2.1"}
    ).settings
    for setting in registry():
        assert isinstance(getattr(settings, setting.attribute), hints[setting.attribute])
        assert (setting.default is None) == isinstance(None, hints[setting.attribute])


def test_settings_never_change() -> None:
    settings = load_settings({}).settings
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.k_miners = 5  # type: ignore[misc]
