"""Posing a challenge: from a draw to the leaf that stands in the log, and the message that goes out.

A round of the validator's and one of an evaluation's pose theirs here, so that both mean the same by it.
"""

from __future__ import annotations

from perturbnet.datasets import SourceImage
from perturbnet.errors import ChallengeError
from perturbnet.ledger import LedgerState, OpenRound
from perturbnet.ledger.leaves import ChallengeLeaf
from perturbnet.rounds.challenges import Challenge, build_challenge
from perturbnet.rounds.draws import SeededDraw
from perturbnet.rounds.policy import RoundPolicy
from perturbnet.rules.classification import Engine
from perturbnet.rules.freshness import FRESHNESS_FORMS, FRESHNESS_RANGES
from perturbnet.wire.images import encode_base64, encode_png
from perturbnet.wire.messages import AttackChallenge


def pose(
    image: SourceImage,
    seeded: SeededDraw,
    engine: Engine,
    policy: RoundPolicy,
    *,
    netuid: int,
    block: int,
    attempt: int = 0,
) -> Challenge:
    """Make the challenge of a draw. Raises `ChallengeError` where none can be made of this image."""
    return build_challenge(
        image,
        draw=seeded.draw,
        engine=engine,
        netuid=netuid,
        block=block,
        attempt=attempt,
        freshness_seed=seeded.freshness_seed if policy.augment else None,
        rules=policy.rules,
        ranges=FRESHNESS_FORMS.get(policy.augment, FRESHNESS_RANGES),
    )


def challenge_leaf(
    state: LedgerState,
    challenge: Challenge,
    seeded: SeededDraw,
    asked: list[int],
    *,
    nonce: str,
    created_ms: int,
) -> ChallengeLeaf:
    """What the log says of a challenge before anybody sees it.

    Raises:
        ChallengeError: the log does not say yet what it would be asked under.

    """
    if state.config is None or state.rules is None or state.metagraph is None:
        raise ChallengeError("config, rules and metagraph stand in the ledger before the first challenge")
    return ChallengeLeaf(
        round=state.rounds,
        config=state.config[0],
        rules=state.rules[0],
        metagraph=state.metagraph[0],
        epoch=challenge.draw.epoch,
        draw=challenge.draw.index,
        row=challenge.draw.row,
        attempt=challenge.attempt,
        block=challenge.block,
        task_id=challenge.task_id,
        nonce=nonce,
        epsilon=challenge.epsilon,
        freshness=challenge.freshness.to_leaf() if challenge.freshness else {},
        true_label=challenge.label.text,
        true_index=challenge.label.index,
        source_label=challenge.source_label,
        clean_pixels=challenge.clean_digest,
        clean_logits=challenge.label.logits_digest,
        selection_seed=seeded.selection_seed.hex(),
        asked=asked,
        created_ms=created_ms,
    )


def challenge_message(
    opened: OpenRound, challenge: Challenge, policy: RoundPolicy, *, model_name: str
) -> AttackChallenge:
    """What the miners are sent."""
    return AttackChallenge(
        task_id=opened.leaf.task_id,
        model_name=model_name,
        clean_image_b64=encode_base64(encode_png(challenge.clean)),
        true_label=challenge.label.text,
        epsilon=float(challenge.epsilon),
        min_delta=float(policy.rules.min_linf_delta),
        timeout_seconds=policy.rules.timeout_ms / 1000,
        challenge_id=opened.hash,
        protocol_fingerprint=policy.protocol_fingerprint,
        rules=policy.rules,
    )
