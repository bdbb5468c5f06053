"""From settings to rules, policy and leaves."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from perturbnet.config import Settings, load_settings
from perturbnet.rounds.policy import build_config_leaf, build_policy, build_rules_leaf, secret_source
from perturbnet.rules.from_settings import build_rules
from perturbnet.wire.messages import Rules
from tests.support.fakes import BlockEngine, MemorySource


def settings(**environment: str) -> Settings:
    local = {"NETWORK": "local", "PERTURB_LOCAL_CHAIN": "chain.sqlite", "PERTURB_STATE_DIR": "state"}
    return load_settings({**local, **environment}).settings


def test_the_default_rules_are_the_design_s() -> None:
    rules = build_rules(settings())
    assert rules.model_dump() == {
        "version": 1,
        "timeout_ms": 20_000,
        "min_linf_delta": "0.003",
        "max_linf_delta": "0.03",
        "min_ssim": "0.98",
        "min_psnr_db": "38.0",
        "linf_component_weight": "0.7",
        "rmse_component_weight": "0.3",
        "perturbation_weight": "1.0",
        "speed_weight": "0",
    }


@pytest.mark.parametrize("text", ["0.000001", "0.00001", "0.010000", "0"])
def test_small_numbers_are_decimal_text_never_scientific(text: str) -> None:
    rules = build_rules(settings(PERTURB_MIN_LINF_DELTA=text))
    assert Decimal(rules.min_linf_delta) == Decimal(text)
    assert "E" not in rules.min_linf_delta


def test_grouping_is_lifted_on_a_local_network_only() -> None:
    rules = build_rules(settings())
    local = build_policy(settings(PERTURB_GROUP_BY_IP="true"), rules, "f" * 64)
    assert (local.selection.group_by_coldkey, local.selection.group_by_ip) == (False, False)
    live = load_settings({"NETWORK": "test", "PERTURB_GROUP_BY_IP": "true"}).settings
    policy = build_policy(live, rules, "f" * 64)
    assert (policy.selection.group_by_coldkey, policy.selection.group_by_ip) == (True, True)


def test_the_rules_leaf_holds_what_a_recomputation_needs() -> None:
    chosen = settings(PERTURB_BURN_UID="7", PERTURB_DUPLICATES="split")
    rules = build_rules(chosen)
    leaf = build_rules_leaf(chosen, build_policy(chosen, rules, "f" * 64), block=9)
    assert Rules.model_validate(leaf.gates) == rules
    assert leaf.history == {
        "history_size": 50,
        "min_processed_count": 50,
        "duplicates": "split",
        "burn_uid": 7,
    }
    assert leaf.selection == {"k": 100, "exploration": "0.20", "group_by_coldkey": 0, "group_by_ip": 0}
    assert leaf.challenges == {"augment": 2, "max_attempts": 12, "max_body_bytes": 6_000_000}
    assert leaf.activation_block == 9
    none = settings()
    unburnt = build_rules_leaf(none, build_policy(none, rules, "f" * 64), block=9)
    assert unburnt.history["burn_uid"] == ""
    assert leaf.encode() != unburnt.encode()


def test_the_config_leaf_names_model_data_and_environment() -> None:
    engine, source = BlockEngine(), MemorySource()
    leaf = build_config_leaf(settings(), engine, source.identity, hotkey="5V", fingerprint="f" * 64)
    assert (leaf.model_name, leaf.model_digest, leaf.engine) == ("block-means", engine.model_digest, "blocks")
    assert leaf.fingerprint == source.identity.fingerprint
    assert leaf.dataset["rows"] == 12
    assert {"python", "machine", "torch", "numpy"} <= set(leaf.environment)
    leaf.encode()


def test_secrets_are_fresh_unless_a_local_network_asks_for_the_same() -> None:
    fresh = secret_source(None)
    assert len({fresh(0), fresh(0), fresh(1)}) == 3
    same, other = secret_source("a"), secret_source("b")
    assert same(0) == secret_source("a")(0)
    assert len({same(0), same(1), other(0)}) == 3
    assert {len(fresh(0)), len(same(0))} == {32}


def test_a_timeout_is_whole_milliseconds(tmp_path: Path) -> None:
    rules = build_rules(settings(PERTURB_TIMEOUT_SECONDS="0.5", PERTURB_STATE_DIR=str(tmp_path)))
    assert rules.timeout_ms == 500
