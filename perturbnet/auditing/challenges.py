"""Step 6: a challenge follows from its draw, its block, the leaves before it and a row of the data set.

`check_challenge` needs the log alone; `check_image` and `check_skip` need the row of the auditor's own copy
of the data set.
"""

from __future__ import annotations

from collections.abc import Iterator

from perturbnet.auditing.draws import Skipped
from perturbnet.auditing.findings import AuditStep, Finding
from perturbnet.datasets import SourceImage
from perturbnet.errors import ChallengeError, LedgerCorrupt
from perturbnet.ledger import Entry, LedgerState
from perturbnet.ledger.leaves import ChallengeLeaf, RulesLeaf
from perturbnet.rounds.challenges import choose_view, clean_image, draw_epsilon, draw_views, require_size
from perturbnet.rounds.terms import read_gates, read_metagraph, read_selection
from perturbnet.rules.classification import Engine
from perturbnet.rules.freshness import FRESHNESS_FORMS, Freshness, FreshnessRanges, draw_freshness
from perturbnet.rules.selection import select_miners
from perturbnet.wire.images import Pixels, pixel_digest
from perturbnet.wire.messages import response_limit_bytes


def check_challenge(
    entry: Entry, leaf: ChallengeLeaf, state: LedgerState, *, skips: int
) -> Iterator[Finding]:
    """Everything about a challenge that the leaves before it decide.

    Args:
        entry: the challenge's place.
        leaf: the challenge.
        state: the fold of all leaves before it; config, rules and metagraph are there.
        skips: how many draws were skipped since the last challenge.

    """
    if state.config is None or state.rules is None or state.metagraph is None:
        yield _finding(entry, "config, rules, metagraph", "leaves before it", "none")
        return
    rules, metagraph = state.rules[1], state.metagraph[1]
    facts: list[tuple[str, object, object]] = [
        ("epsilon", draw_epsilon(state.config[1].netuid, leaf.block, leaf.attempt), leaf.epsilon),
        ("task_id", f"{leaf.epoch}-{leaf.draw}", leaf.task_id),
        ("freshness", bool(rules.challenges.get("augment")), bool(leaf.freshness)),
        ("augment", rules.challenges.get("augment") in {0, *FRESHNESS_FORMS}, True),
    ]
    for name, expected, got in facts:
        if expected != got:
            yield _finding(entry, name, expected, got)
    most = min(skips, rules.challenges.get("max_attempts", 0) - 1)
    if not 0 <= leaf.attempt <= most:
        yield _finding(entry, "attempt", f"0 to {most}", leaf.attempt)
    if leaf.block < metagraph.block:
        yield _finding(entry, "block", f"{metagraph.block} or later", leaf.block)
    yield from _check_selection(entry, leaf, state, rules)


def read_ranges(rules: RulesLeaf) -> FreshnessRanges | None:
    """What freshness is drawn from under these rules; None where there is none, or of an unknown form."""
    return FRESHNESS_FORMS.get(rules.challenges.get("augment", 0))


def check_image(
    entry: Entry, leaf: ChallengeLeaf, image: SourceImage, ranges: FreshnessRanges | None
) -> tuple[Pixels | None, list[Finding]]:
    """The clean image again, or None where it is not the one that was sent, and what is wrong with it."""
    findings = []
    try:
        pixels = clean_image(image, leaf.freshness)
        if leaf.freshness and ranges is not None:
            got = Freshness.from_leaf(leaf.freshness)
            view = min(got.view, ranges.views - 1)
            height, width, _ = image.pixels.shape
            expected = draw_freshness(bytes.fromhex(got.seed), height, width, ranges, view=view)
            if expected != got:
                findings.append(_finding(entry, "freshness", expected, got))
    except ChallengeError as error:
        return None, [_finding(entry, "freshness", "one that an image can have", error.message)]
    if leaf.source_label != image.label:
        findings.append(_finding(entry, "source_label", image.label, leaf.source_label))
    digest = pixel_digest(pixels)
    if digest != leaf.clean_pixels:
        return None, [*findings, _finding(entry, "clean_pixels", digest, leaf.clean_pixels)]
    return pixels, findings


def check_view(
    entry: Entry, leaf: ChallengeLeaf, image: SourceImage, ranges: FreshnessRanges, engine: Engine
) -> list[Finding]:
    """Of the views that the seed names, the model must choose the one that was sent."""
    sent = Freshness.from_leaf(leaf.freshness)
    try:
        chosen = choose_view(image.row, image.pixels, bytes.fromhex(sent.seed), engine, ranges)
    except ChallengeError as error:
        return [_finding(entry, "freshness.view", f"none: {error.message}", sent.view)]
    if chosen.freshness.view == sent.view:
        return []
    return [_finding(entry, "freshness.view", chosen.freshness.view, sent.view)]


def check_skip(skipped: Skipped, image: SourceImage, rules: RulesLeaf, engine: Engine | None) -> bool | None:
    """Whether a row that the auditor can read makes no challenge; None where only the model could say.

    A row is skipped when it cannot be read, when it is too small, too large or its answer would be, or when
    the engine is unsure of its own sums.
    """
    ranges, most = read_ranges(rules), rules.challenges.get("max_body_bytes", 0)
    try:
        require_size(image.row, image.pixels)
        views = [image.pixels]
        if ranges is not None:
            views = [
                clean for _, clean in draw_views(image.row, image.pixels, skipped.freshness_seed, ranges)
            ]
        if all(_response_bytes(pixels) > most for pixels in views):
            return True
        if engine is None:
            return None
        if ranges is None:
            return not engine.classify(views)[0].healthy
        chosen = choose_view(image.row, image.pixels, skipped.freshness_seed, engine, ranges)
    except ChallengeError:
        return True
    return _response_bytes(chosen.clean) > most


def skipped_without_reason(entry: Entry, reason: str) -> Finding:
    """A skip for which the auditor finds no reason."""
    return _finding(entry, "reason", "a challenge: the row makes one", reason)


def _check_selection(
    entry: Entry, leaf: ChallengeLeaf, state: LedgerState, rules: RulesLeaf
) -> Iterator[Finding]:
    if state.config is None or state.metagraph is None:
        return
    try:
        levels = read_gates(rules).levels(leaf.epsilon)
        chosen = select_miners(
            read_metagraph(state.metagraph[1]),
            own_hotkey=state.config[1].validator,
            processed=state.processed(),
            rules=read_selection(rules),
            seed=bytes.fromhex(leaf.selection_seed),
        )
    except (LedgerCorrupt, ValueError, ArithmeticError) as error:
        yield _finding(entry, "selection_seed, rules", "ones that can be read", error)
        return
    asked = [neuron.uid for neuron in chosen.neurons]
    if asked != leaf.asked:
        yield _finding(entry, "asked", asked, leaf.asked)
    if not levels:
        yield _finding(entry, "epsilon", "one that allows a change", leaf.epsilon)


def _response_bytes(pixels: Pixels) -> int:
    return response_limit_bytes(pixels.shape[0], pixels.shape[1])


def _finding(entry: Entry, name: str, expected: object, got: object) -> Finding:
    return Finding(AuditStep.CHALLENGES, entry.position, name, str(expected), str(got))
