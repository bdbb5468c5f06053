"""Weights: intent, submission, outcome; and after a doubt the chain is read before anything is repeated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perturbnet.chain import Submission, WeightsOnChain
from perturbnet.errors import ChainError, ChainRejected, ChainTimeout, ChainUnavailable
from perturbnet.validator.weight_setting import DOUBT_BLOCKS, RETRY_BLOCKS
from perturbnet.wire.keys import Keypair
from tests.support.validator.weights import (
    SetWeights,
    fail_after,
    fail_before,
    intents,
    on_chain,
    play,
    replace_submission,
    set_weights,
    submissions,
)
from tests.support.validator.world import CHAIN_RULES, Crash, copycat, good, make_world

SEALED = replace(CHAIN_RULES, commit_reveal_enabled=True, tempo=1000)


def test_the_intent_stands_before_the_submission(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = make_world(tmp_path)
    play(world)
    seen: list[list[list[int]]] = []

    def change(real: SetWeights) -> SetWeights:
        async def submit(keypair: Keypair, weights: Mapping[int, int], version_key: int) -> Submission:
            validator_state = world_journal().state
            assert validator_state.pending_weights is not None
            seen.append(validator_state.pending_weights[1].shares_ppb)
            found: Submission = await real(keypair, weights, version_key)
            return found

        return submit

    opened: list[Any] = []

    def world_journal() -> Any:
        return opened[0].journal

    replace_submission(world, change)

    async def main() -> None:
        opened.append(world.open())
        await opened[0].weights.run()
        opened[0].journal.close()

    asyncio.run(main())
    [intent], [outcome] = intents(world), submissions(world)
    assert seen == [intent.shares_ppb]
    assert outcome.outcome == "set"
    assert [uid for uid, _ in intent.shares_ppb] == [1, 2, 3]
    assert sum(share for _, share in intent.shares_ppb) == 10**9
    assert [uid for uid, _ in on_chain(world).weights] == [1, 2, 3]
    assert dict(on_chain(world).weights)[1] == 65535
    assert f"set_weights: set at block {outcome.block} [uid 1: " in caplog.text


def test_sealed_weights_are_committed(tmp_path: Path) -> None:
    world = make_world(tmp_path, rules=SEALED)
    play(world)
    set_weights(world)
    assert [leaf.outcome for leaf in submissions(world)] == ["committed"]
    assert len(on_chain(world).pending_commits) == 1


def test_nobody_eligible_sets_nothing_and_says_why_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = make_world(tmp_path, PERTURB_MIN_PROCESSED_COUNT="2")
    play(world)
    set_weights(world, times=3)
    assert intents(world) == []
    lines = [message for message in caplog.messages if message.startswith("No weights are set")]
    assert lines == [
        "No weights are set: nobody is eligible: needs 2 counted rounds, 1 scores and a positive mean"
    ]


def test_a_round_that_all_failed_gives_no_weights(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.courier.answers = dict.fromkeys((1, 2, 3), copycat)
    play(world)
    set_weights(world)
    assert intents(world) == []
    assert on_chain(world).weights == ()


def test_the_burn_uid_takes_all_while_nobody_is_eligible(tmp_path: Path) -> None:
    world = make_world(tmp_path, PERTURB_BURN_UID="0", PERTURB_MIN_PROCESSED_COUNT="2")
    play(world)
    set_weights(world)
    assert [leaf.shares_ppb for leaf in intents(world)] == [[[0, 10**9]]]
    assert on_chain(world).weights == ((0, 65535),)


def test_without_rules_nothing_happens(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    async def main() -> None:
        validator = world.open()
        validator.journal.state.rules = None
        await validator.weights.run()
        validator.journal.close()

    asyncio.run(main())
    assert intents(world) == []


def test_the_rate_limit_is_respected_before_the_chain_has_to_refuse(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(tmp_path, rules=replace(CHAIN_RULES, weights_rate_limit=10))
    asyncio.run(world.chain.advance(20))
    play(world)
    for _ in range(15):
        set_weights(world)
        asyncio.run(world.chain.advance(1))
    first, second = submissions(world)
    assert second.block - first.block == 10
    assert {first.outcome, second.outcome} == {"set"}
    assert "refused" not in caplog.text


def test_a_validator_that_never_set_weights_need_not_wait(tmp_path: Path) -> None:
    world = make_world(tmp_path, rules=replace(CHAIN_RULES, weights_rate_limit=1000))
    play(world)
    registered_at = on_chain(world).last_update
    real = world.chain.weights

    async def never_set(uid: int) -> WeightsOnChain:
        return replace(await real(uid), last_update=0)

    set_weights(world)
    assert (intents(world), registered_at) == ([], 1)
    world.chain.weights = never_set  # type: ignore[method-assign]
    set_weights(world)
    assert len(intents(world)) == 1


def test_a_refusal_is_recorded_with_the_runtime_s_reason_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(tmp_path)
    play(world)
    replace_submission(world, fail_before(ChainRejected("NeuronNoValidatorPermit", "uid 0")))
    set_weights(world, times=2)
    assert [leaf.outcome for leaf in submissions(world)] == ["rejected"]
    asyncio.run(world.chain.advance(RETRY_BLOCKS))
    set_weights(world)
    assert [leaf.outcome for leaf in submissions(world)] == ["rejected", "set"]
    assert submissions(world)[0].detail == "NeuronNoValidatorPermit: uid 0"
    assert "set_weights refused by the chain: NeuronNoValidatorPermit: uid 0 [uid 1: " in caplog.text


@pytest.mark.parametrize("error", [ChainTimeout("no answer within 120 s"), ChainUnavailable("gone")])
@pytest.mark.parametrize(
    ("change", "rules", "expected"),
    [
        (fail_after, CHAIN_RULES, ["ambiguous", "applied"]),
        (fail_after, SEALED, ["ambiguous", "committed"]),
        (fail_before, CHAIN_RULES, ["ambiguous", "absent", "set"]),
        (fail_before, SEALED, ["ambiguous", "absent", "committed"]),
    ],
)
def test_after_a_doubt_the_chain_is_read(
    tmp_path: Path, error: ChainError, change: Any, rules: Any, expected: list[str]
) -> None:
    world = make_world(tmp_path, rules=replace(rules, weights_rate_limit=50))
    asyncio.run(world.chain.advance(60))
    play(world)
    replace_submission(world, change(error))
    set_weights(world)
    assert [leaf.outcome for leaf in submissions(world)] == ["ambiguous"]
    set_weights(world)
    assert [leaf.outcome for leaf in submissions(world)] == expected[: 1 if "absent" in expected else 2]
    asyncio.run(world.chain.advance(DOUBT_BLOCKS))
    set_weights(world)
    set_weights(world)
    assert [leaf.outcome for leaf in submissions(world)] == expected
    assert len(intents(world)) == (2 if "absent" in expected else 1)


@pytest.mark.parametrize(("when", "expected"), [("before", ["absent", "set"]), ("after", ["applied"])])
def test_a_process_that_died_in_the_submission_asks_the_chain_first(
    tmp_path: Path, when: str, expected: list[str]
) -> None:
    world = make_world(tmp_path, rules=replace(CHAIN_RULES, weights_rate_limit=50))
    asyncio.run(world.chain.advance(60))
    hit = world.faults.hit

    def dying(name: str) -> None:
        if name == f"{when} LocalChain.set_weights":
            raise Crash(name)
        hit(name)

    world.faults.hit = dying  # type: ignore[method-assign]
    with pytest.raises(Crash):
        asyncio.run(world.live(1))
    world.faults.hit = hit  # type: ignore[method-assign]
    assert (len(intents(world)), submissions(world)) == (1, [])
    asyncio.run(world.chain.advance(DOUBT_BLOCKS))
    set_weights(world)
    assert [leaf.outcome for leaf in submissions(world)] == expected


def test_a_chain_that_cannot_be_read_leaves_the_doubt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(tmp_path)
    play(world)
    replace_submission(world, fail_after(ChainTimeout("no answer")))
    set_weights(world)
    real = world.chain.uid

    async def silent(hotkey: str) -> int | None:
        raise ChainUnavailable("no endpoint answers")

    world.chain.uid = silent  # type: ignore[method-assign]
    set_weights(world)
    assert "set_weights: still in doubt: no endpoint answers" in caplog.text
    assert [leaf.outcome for leaf in submissions(world)] == ["ambiguous"]
    world.chain.uid = real  # type: ignore[method-assign]
    set_weights(world)
    assert [leaf.outcome for leaf in submissions(world)][1] == "applied"


def test_a_hotkey_that_lost_its_uid_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(tmp_path)
    play(world)

    async def gone(hotkey: str) -> int | None:
        return None

    real, world.chain.uid = world.chain.uid, gone  # type: ignore[method-assign]
    set_weights(world)
    assert "is not registered any more" in caplog.text
    assert intents(world) == []
    world.chain.uid = real  # type: ignore[method-assign]
    replace_submission(world, fail_before(ChainTimeout("no answer")))
    set_weights(world)
    world.chain.uid = gone  # type: ignore[method-assign]
    set_weights(world)
    assert "still in doubt: hotkey" in caplog.text
    assert [leaf.outcome for leaf in submissions(world)] == ["ambiguous"]


def test_the_version_key_is_the_rules_version(tmp_path: Path) -> None:
    world = make_world(tmp_path, PERTURB_RULES_VERSION="42")
    play(world)
    keys: list[int] = []

    def change(real: SetWeights) -> SetWeights:
        async def submit(keypair: Keypair, weights: Mapping[int, int], version_key: int) -> Submission:
            keys.append(version_key)
            found: Submission = await real(keypair, weights, version_key)
            return found

        return submit

    replace_submission(world, change)
    set_weights(world)
    assert keys == [42]


def test_the_slot_of_uid_0_is_a_slot_like_any_other(tmp_path: Path) -> None:
    """A bug of the public version: the remainder of the rounding overwrote uid 0's weight."""
    world = make_world(tmp_path)
    world.courier.answers = {1: good}
    play(world)
    set_weights(world)
    assert on_chain(world).weights == ((1, 65535),)
    assert [leaf.shares_ppb for leaf in intents(world)] == [[[1, 10**9]]]
