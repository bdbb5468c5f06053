"""Posing a challenge: what is sent is what the log says; a row that gives none is skipped and recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perturbnet.config import load_settings
from perturbnet.errors import ChallengeError, ModelError
from perturbnet.ledger.leaves import ChallengeLeaf, SkipLeaf
from perturbnet.rounds.challenges import build_challenge
from perturbnet.rounds.draws import SeededDraw
from perturbnet.rounds.policy import build_policy
from perturbnet.rounds.posing import pose
from perturbnet.rules.freshness import FRESHNESS_FORMS
from perturbnet.rules.from_settings import build_rules
from perturbnet.rules.traversal import Draw
from perturbnet.wire.images import decode_base64, decode_png, pixel_digest
from tests.support.fakes import BlockEngine, MemorySource
from tests.support.validator.world import (
    Validator,
    leaves,
    make_world,
    run_once,
    session,
)


def test_the_message_is_what_the_leaf_says(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    run_once(world)
    [leaf] = leaves(world, ChallengeLeaf)
    [sent] = world.courier.asked
    assert (sent.task_id, sent.true_label) == (leaf.task_id, leaf.true_label)
    assert sent.epsilon == float(leaf.epsilon)
    assert pixel_digest(decode_png(decode_base64(sent.clean_image_b64))) == leaf.clean_pixels
    assert sent.timeout_seconds == 20.0
    assert sent.model_name == "block-means"


def test_without_freshness_the_plain_image_is_sent(tmp_path: Path) -> None:
    world = make_world(tmp_path, PERTURB_CHALLENGE_AUGMENT="false")
    run_once(world)
    [leaf] = leaves(world, ChallengeLeaf)
    assert leaf.freshness == {}
    sent = decode_png(decode_base64(world.courier.asked[0].clean_image_b64))
    assert np.array_equal(sent, MemorySource().read(leaf.row).pixels)


@pytest.mark.parametrize("form", sorted(FRESHNESS_FORMS))
def test_the_policys_form_of_freshness_is_drawn(form: int) -> None:
    """Whoever goes on by an older form, a validator or an evaluation, poses what its rules leaf says."""
    settings = load_settings({}, overrides={"PERTURB_PROFILE": "reference"}).settings
    policy = replace(build_policy(settings, build_rules(settings), "f" * 64), augment=form)
    engine, source = BlockEngine(), MemorySource()
    for row in range(6):
        seeded = SeededDraw(Draw(0, row, row), bytes([row]) * 32, bytes(32))
        posed = pose(source.read(row), seeded, engine, policy, netuid=1, block=row)
        expected = build_challenge(
            source.read(row),
            draw=seeded.draw,
            engine=engine,
            netuid=1,
            block=row,
            attempt=0,
            freshness_seed=seeded.freshness_seed,
            rules=policy.rules,
            ranges=FRESHNESS_FORMS[form],
        )
        assert posed.freshness is not None
        assert posed.freshness == expected.freshness
        stretched = posed.freshness.scaled_height * 80 != posed.freshness.scaled_width * 60
        assert stretched or form == 1


def test_an_unreadable_row_is_skipped_once_and_recorded(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.source.broken = frozenset(range(12)) - {0, 1, 2, 3}
    entries = world.run(4)
    skips = [entry.leaf for entry in entries if isinstance(entry.leaf, SkipLeaf)]
    asked = [entry.leaf for entry in entries if isinstance(entry.leaf, ChallengeLeaf)]
    assert {leaf.row for leaf in asked} == {0, 1, 2, 3}
    assert all(leaf.reason == f"row {leaf.row} is unreadable: broken on purpose" for leaf in skips)
    assert len({leaf.row for leaf in skips}) == len(skips)
    draws = [leaf.draw for leaf in skips] + [leaf.draw for leaf in asked]
    assert sorted(draws) == list(range(len(skips) + 4))
    assert len(world.source.reads) == len(set(world.source.reads))


def test_only_so_many_attempts_are_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(tmp_path)
    world.source.broken = frozenset(range(12))
    assert run_once(world) is None
    assert len(leaves(world, SkipLeaf)) == 3
    assert "No challenge came out of 3 attempts" in caplog.text
    assert world.courier.asked == []


def test_an_image_whose_honest_answer_could_not_be_sent_is_skipped(tmp_path: Path) -> None:
    world = make_world(tmp_path, PERTURB_MAX_RESPONSE_BYTES="10000")
    assert run_once(world) is None
    skips = leaves(world, SkipLeaf)
    assert len(skips) == 3
    assert all(leaf.reason.startswith("an honest answer may take ") for leaf in skips)
    assert all(leaf.reason.endswith(" bytes, allowed are 10000") for leaf in skips)


def test_a_draw_that_was_never_recorded_is_drawn_again(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    classify, failures = world.engine.classify, [True]

    def failing(images: Any) -> Any:
        if failures.pop() if failures else False:
            raise ModelError("no memory")
        return classify(images)

    async def act(validator: Validator) -> None:
        world.engine.classify = failing  # type: ignore[method-assign]
        with pytest.raises(ModelError):
            await validator.rounds.run()
        await validator.rounds.run()

    session(world, act)
    assert world.source.reads[0] == world.source.reads[1]
    assert [leaf.draw for leaf in leaves(world, ChallengeLeaf)] == [0]


def test_no_challenge_without_config_and_rules(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    async def act(validator: Validator) -> None:
        validator.journal.state.rules = None
        with pytest.raises(ChallengeError, match="stand in the ledger before the first challenge"):
            await validator.rounds.run()

    session(world, act)
