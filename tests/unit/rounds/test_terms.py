"""Leaves to the rules' own values and back; what is a stranger's and cannot be read is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import asdict

from perturbnet.config import load_settings
from perturbnet.errors import LedgerCorrupt
from perturbnet.ledger.leaves import ChallengeLeaf, ConfigLeaf, MetagraphLeaf, RulesLeaf
from perturbnet.rounds.policy import build_policy, build_rules_leaf
from perturbnet.rounds.terms import (
    build_terms,
    metagraph_leaf,
    read_gates,
    read_metagraph,
    read_selection,
    weigh,
)
from perturbnet.rules.from_settings import build_rules
from perturbnet.rules.subnet import Metagraph, Neuron
from perturbnet.rules.weights import Standing
from perturbnet.wire.units import PPB
from tests.support.ledger.samples import plain


def rules_leaf(**settings: str) -> RulesLeaf:
    """The leaf that a validator with these settings writes."""
    found = load_settings({"NETWORK": "local", "PERTURB_LOCAL_CHAIN": "x", **settings}).settings
    rules = build_rules(found)
    return build_rules_leaf(found, build_policy(found, rules, "f" * 64), block=1)


def neuron(uid: int, ip: str | None = "192.0.2.1") -> Neuron:
    return Neuron(uid, f"hot{uid}", f"cold{uid}", 0, uid == 0, False, ip, 8091, 0, 0)


def test_a_metagraph_comes_back_from_its_leaf() -> None:
    metagraph = Metagraph(7, 3, (neuron(0, None), neuron(1)))
    assert read_metagraph(metagraph_leaf(metagraph)) == metagraph


def test_settings_come_back_from_their_leaf() -> None:
    leaf = rules_leaf(PERTURB_K_MINERS="7", PERTURB_MINER_EXPLORATION_RATIO="0.35", PERTURB_MIN_SSIM="0.9")
    selection = read_selection(leaf)
    assert (selection.k, selection.exploration, selection.min_processed) == (7, Decimal("0.35"), 50)
    assert (selection.group_by_coldkey, selection.group_by_ip) == (False, False)
    assert read_gates(leaf).min_ssim == "0.9"


def test_weights_follow_from_the_leaf_and_the_standings() -> None:
    leaf = rules_leaf(PERTURB_HISTORY_SIZE="2", PERTURB_MIN_PROCESSED_COUNT="2")
    assert weigh([Standing(4, 2, (5, 6))], leaf).shares_ppb == {4: PPB}
    assert weigh([Standing(4, 1, (5,))], leaf).shares_ppb == {}
    assert weigh([], rules_leaf(PERTURB_BURN_UID="9")).shares_ppb == {9: PPB}


def test_terms_name_where_each_asked_miner_listens() -> None:
    challenge = plain(ChallengeLeaf, asked=[1])
    config = plain(ConfigLeaf, engine="float64", model_digest="ab")
    metagraph = metagraph_leaf(Metagraph(7, 3, (neuron(0), neuron(1), neuron(2))))
    terms = build_terms(challenge, config, rules_leaf(), metagraph)
    assert [(target.uid, target.hotkey, target.host) for target in terms.targets] == [
        (1, "hot1", "192.0.2.1")
    ]
    assert (terms.engine, terms.model_digest, terms.duplicates) == ("float64", "ab", "record")
    with pytest.raises(LedgerCorrupt, match=r"uids \[5\] are not in its metagraph"):
        build_terms(plain(ChallengeLeaf, asked=[5]), config, rules_leaf(), metagraph)


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ({"gates": {"version": 1}}, read_gates),
        ({"selection": {}}, read_selection),
        ({"selection": {**rules_leaf().selection, "exploration": "half"}}, read_selection),
        ({"selection": {**rules_leaf().selection, "k": "many"}}, read_selection),
        ({"history": {}}, lambda leaf: weigh([], leaf)),
        ({"history": {**rules_leaf().history, "burn_uid": "me"}}, lambda leaf: weigh([], leaf)),
    ],
)
def test_rules_that_cannot_be_read_are_refused(
    values: dict[str, Any], read: Callable[[RulesLeaf], object]
) -> None:
    leaf = RulesLeaf(**{**asdict(rules_leaf()), **values})
    with pytest.raises(LedgerCorrupt, match="a rules leaf whose"):
        read(leaf)


def test_a_neuron_that_is_none_is_refused() -> None:
    with pytest.raises(LedgerCorrupt, match="neuron"):
        read_metagraph(MetagraphLeaf(1, 1, [[1, "hot", "cold"]]))
