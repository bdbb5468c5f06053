"""Rules change at a block: before it the ledger's hold, from it on the settings'."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from perturbnet.config import load_settings
from perturbnet.ledger import Entry
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import ChallengeLeaf, RulesLeaf
from perturbnet.rounds.policy import RoundPolicy, build_policy, build_rules_leaf
from perturbnet.rules.from_settings import build_rules
from perturbnet.validator.rule_change import RuleChange, read_policy
from tests.support.validator.weights import set_weights
from tests.support.validator.world import World, make_world

BEGINS = 50
NEWER = {
    "PERTURB_RULES_VERSION": "2",
    "PERTURB_MIN_SSIM": "0.99",
    "PERTURB_K_MINERS": "2",
    "PERTURB_DUPLICATES": "split",
    "PERTURB_CHALLENGE_AUGMENT": "false",
}


def policy_of(world: World, **changed: str) -> tuple[RoundPolicy, RulesLeaf]:
    """What settings say, as `validator.main` builds it."""
    settings = load_settings({**world._settings(), **changed}).settings
    policy = build_policy(settings, build_rules(settings), world.fingerprint)
    return policy, build_rules_leaf(settings, policy, block=BEGINS)


async def play(world: World, change: bool) -> None:
    """One process that lives through the block: a round before it, two after."""
    validator = world.open()
    with closing(validator.journal):
        coming = RuleChange(validator.journal, *policy_of(world, **NEWER)) if change else None
        for at in (10, BEGINS - 1, BEGINS, BEGINS + 10):
            await world.chain.advance(max(0, at - await world.chain.block()))
            if coming is not None and coming.pending:
                validator.rounds.policy = coming.policy_at(await world.chain.block())
            await validator.rounds.run()
            await validator.rounds.finish_telling()


def versions(entries: list[Entry]) -> list[tuple[int, int]]:
    """Block and version of the rules of each challenge."""
    rules = {entry.position: entry.leaf for entry in entries if isinstance(entry.leaf, RulesLeaf)}
    leaves = [entry.leaf for entry in entries if isinstance(entry.leaf, ChallengeLeaf)]
    return [(leaf.block, rules[leaf.rules].version) for leaf in leaves]


def test_old_and_new_validators_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = make_world(tmp_path / "old"), make_world(tmp_path / "new")
    asyncio.run(play(old, change=False))
    asyncio.run(play(new, change=True))
    assert versions(old.entries()) == [(10, 1), (49, 1), (50, 1), (60, 1)]
    assert versions(new.entries()) == [(10, 1), (49, 1), (50, 2), (60, 2)]
    asked = [(message.rules.version, message.rules.min_ssim) for message in new.courier.asked]
    assert asked == [(1, "0.98"), (1, "0.98"), (2, "0.99"), (2, "0.99")]
    leaves = [entry.leaf for entry in new.entries() if isinstance(entry.leaf, ChallengeLeaf)]
    assert [len(leaf.asked) for leaf in leaves] == [3, 3, 2, 2]
    assert [bool(leaf.freshness) for leaf in leaves] == [True, True, False, False]
    [_, leaf] = [entry.leaf for entry in new.entries() if isinstance(entry.leaf, RulesLeaf)]
    assert (leaf.version, leaf.activation_block) == (2, BEGINS)


def test_a_restart_before_the_block_changes_nothing(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.open().journal.close()
    for block in (10, 20):
        with closing(Journal(world.state_dir)) as journal:
            before = journal.state.size
            change = RuleChange(journal, *policy_of(world, **NEWER))
            assert change.policy_at(block) == policy_of(world)[0]
            assert (change.pending, journal.state.size) == (True, before)


@pytest.mark.parametrize("block", [BEGINS, BEGINS + 500])
def test_a_restart_after_the_block_records_the_rules_once(block: int, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.open().journal.close()
    for _ in range(2):
        with closing(Journal(world.state_dir)) as journal:
            change = RuleChange(journal, *policy_of(world, **NEWER))
            assert change.policy_at(block) == policy_of(world, **NEWER)[0]
            assert not change.pending
    found = [entry.leaf for entry in world.entries() if isinstance(entry.leaf, RulesLeaf)]
    assert [(leaf.version, leaf.activation_block) for leaf in found] == [(1, 1), (2, BEGINS)]


def test_a_ledger_without_rules_begins_with_those_of_the_settings(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with closing(Journal(world.state_dir)) as journal:
        change = RuleChange(journal, *policy_of(world, **NEWER))
        assert change.policy_at(7) == policy_of(world, **NEWER)[0]
        assert journal.state.rules is not None
        assert journal.state.rules[1].activation_block == 7


def test_the_policy_is_read_back_from_its_leaf(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    policy, leaf = policy_of(world, **NEWER)
    other = replace(policy_of(world)[0], keep_bodies_rounds=policy.keep_bodies_rounds)
    assert read_policy(leaf, other) == policy


def test_the_weights_version_key_changes_with_the_rules(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    asyncio.run(play(world, change=True))
    keys: list[int] = []
    real = world.chain.set_weights

    async def submit(signer: object, weights: object, version_key: int) -> object:
        keys.append(version_key)
        return await real(signer, weights, version_key)  # type: ignore[arg-type]

    setattr(world.chain, "set_weights", submit)  # noqa: B010 - mypy sees a method
    world.environment |= NEWER
    set_weights(world)
    assert keys == [2]
