"""From a round's attempts to rows of the data set.

Rules
- A row is an attempt that was accepted, once for each image that came out: who sends what another has sent
  before adds none.
- The published delta must have the numbers that its receipt states (changed values, largest change, sum of
  squares); this needs no picture. With the data set at hand every image is rebuilt and compared with its
  digest; with the model, it is labelled again and must come out as the receipt says.
- An answer that is not published any more is left out and counted. Anything that contradicts itself ends the
  export: such a log wants an audit, not a data set.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perturbnet.adversarial_dataset.layout import Mode, Split, split_of
from perturbnet.adversarial_dataset.licences import licence_of, require_pictures
from perturbnet.datasets import ImageSource
from perturbnet.errors import BundleMissing, BundleTampered, DigestMismatch, OutputError
from perturbnet.rounds.attempts import Attempt, ImageAttempts
from perturbnet.rounds.logged import Log
from perturbnet.rounds.pixels import clean_pixels
from perturbnet.rules.classification import Classification, Engine
from perturbnet.wire import canonical_json
from perturbnet.wire.deltas import read_differences
from perturbnet.wire.images import Pixels, encode_png, pixel_digest
from perturbnet.wire.units import from_ppb

Differences = NDArray[np.int8]
GONE = "answers that are not published any more"
REPEATED = "answers with the pixels of an earlier one"
_WRAPS = 128  # from here on a signed byte no longer is the change itself


@dataclass(frozen=True)
class Row:
    """One row: its split, its values by column, in delta mode the perturbation, int8 (H, W, 3)."""

    split: Split
    values: dict[str, Any]
    differences: Differences | None = None


@dataclass
class Builder:
    """Builds the rows of rounds; `left_out` counts what gave none."""

    log: Log
    mode: Mode
    source: ImageSource | None = None
    engine: Engine | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    gone: set[int] = field(default_factory=set)  # of the last round: receipts whose answer is not published

    def rows(self, attempts: ImageAttempts, repeats: AbstractSet[int]) -> Iterator[Row]:
        """The rows of one round; `repeats` are the receipts whose image an earlier round has.

        Raises:
            OutputError: pictures that may not be handed on; another model than the one at hand.
            BundleTampered: a delta with other numbers than its receipt's.
            BundleError: a delta that is none.
            DatasetError, ChallengeError: a clean image that the data set at hand does not make.
            DigestMismatch: pixels or logits other than the log names.

        """
        found = list(self._answers(attempts, repeats))
        if not found:
            return
        if self.mode is Mode.FULL:
            require_pictures(attempts.config.dataset)
        clean = None if self.source is None else clean_pixels(self.source, attempts)
        pictures = [None if clean is None else _rebuild(clean, *one) for one in found]
        labels = self._classify(attempts, [one for one in pictures if one is not None])
        shared = _shared_values(attempts)
        picture = encode_png(clean) if self.mode is Mode.FULL and clean is not None else b""
        for number, (attempt, differences) in enumerate(found):
            margin = _check_label(attempt, labels[number]) if labels else None
            values = {**shared, **_values(attempt, differences), "margin": margin}
            if self.mode is Mode.FULL:
                values["clean"] = {"bytes": picture, "path": None}
                values["adversarial"] = {"bytes": encode_png(_there(pictures[number])), "path": None}
                differences_kept = None
            else:
                values["delta"] = attempt.leaf.delta
                differences_kept = differences
            split = split_of(attempts.config.dataset, attempts.challenge.row)
            yield Row(split, values, differences_kept)

    def _answers(
        self, attempts: ImageAttempts, repeats: AbstractSet[int]
    ) -> Iterator[tuple[Attempt, Differences]]:
        """The accepted attempts that bring a new image, with their checked differences."""
        seen: set[str] = set()
        self.gone = set()
        for attempt in attempts.attempts:
            if not attempt.accepted:
                continue
            if attempt.leaf.adversarial_pixels in seen or attempt.position in repeats:
                self.left_out[REPEATED] += 1
                continue
            seen.add(attempt.leaf.adversarial_pixels)
            try:
                differences = read_differences(self.log.blob(attempt.leaf.delta))
            except BundleMissing:
                self.left_out[GONE] += 1
                self.gone.add(attempt.position)
                continue
            _check_numbers(attempt, differences)
            yield attempt, differences

    def _classify(self, attempts: ImageAttempts, pictures: Sequence[Pixels]) -> list[Classification]:
        if self.engine is None or not pictures:
            return []
        if self.engine.model_digest != attempts.config.model_digest:
            raise OutputError(
                f"leaf {attempts.position}: judged by the model {attempts.config.model_digest}, "
                f"the one at hand is {self.engine.model_digest}",
                hint="Leave --margins out, or prepare the profile that the log was made with.",
            )
        return self.engine.classify(pictures)


def unpack(differences: Differences) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """The sparse form: ascending positions (K,) of values that change, and the changes (K,)."""
    flat = differences.reshape(-1)
    positions = np.flatnonzero(flat).astype(np.int32)
    return positions, flat[positions]


def _there(pixels: Pixels | None) -> Pixels:
    if pixels is None:
        raise OutputError("a full export needs the data set", hint="perturb bootstrap prepares it")
    return pixels


def _rebuild(clean: Pixels, attempt: Attempt, differences: Differences) -> Pixels:
    if differences.shape != clean.shape:
        raise BundleTampered(
            f"leaf {attempt.position}: a delta for {differences.shape}, its clean image has {clean.shape}"
        )
    pixels = np.add(clean, differences.view(np.uint8), dtype=np.uint8)
    found = pixel_digest(pixels)
    if found != attempt.leaf.adversarial_pixels:
        what = f"leaf {attempt.position}, the adversarial image"
        raise DigestMismatch(what, attempt.leaf.adversarial_pixels, found)
    return pixels


def _check_numbers(attempt: Attempt, differences: Differences) -> None:
    """Compare a delta with its receipt; from 128 levels on only the number of changes can be."""
    leaf = attempt.leaf
    facts = [("changed", leaf.changed, int(np.count_nonzero(differences)))]
    facts.append(("sum_sq", leaf.sum_sq, max(leaf.sum_sq, 0)))
    if leaf.linf_u8 < _WRAPS:
        wide = differences.astype(np.int32)
        facts.append(("linf_u8", leaf.linf_u8, int(np.abs(wide).max())))
        facts.append(("sum_sq", leaf.sum_sq, int(np.square(wide).sum(dtype=np.int64))))
    for name, stated, found in facts:
        if stated != found:
            raise BundleTampered(f"leaf {attempt.position}: {name} is {stated}, its delta has {found}")


def _check_label(attempt: Attempt, label: Classification) -> float:
    leaf = attempt.leaf
    for name, stated, found in (
        ("label_after", f"{leaf.index_after} {leaf.label_after}", f"{label.index} {label.text}"),
        ("logits_after", leaf.logits_after, label.logits_digest),
    ):
        if stated != found:
            raise DigestMismatch(f"leaf {attempt.position}, {name}", stated, found)
    return label.margin


def _shared_values(attempts: ImageAttempts) -> dict[str, Any]:
    """What all rows of a round have in common."""
    leaf, config = attempts.challenge, attempts.config
    dataset = {name: str(config.dataset.get(name, "")) for name in ("repository", "revision", "split")}
    return {
        "challenge_leaf": attempts.position,
        "challenge_id": attempts.hash,
        "round": leaf.round,
        "epoch": leaf.epoch,
        "task_id": leaf.task_id,
        "block": leaf.block,
        "validator": config.validator,
        **{f"source_{name}": text for name, text in dataset.items()},
        "row": leaf.row,
        "source_label": leaf.source_label,
        "freshness": canonical_json.encode(leaf.freshness).decode(),
        "label": leaf.true_index,
        "label_text": leaf.true_label,
        "epsilon": leaf.epsilon,
        "model_name": config.model_name,
        "model_digest": config.model_digest,
        "engine": config.engine,
        "rules_version": attempts.terms.rules.version,
        "clean_pixels": leaf.clean_pixels,
        "logits_before": leaf.clean_logits,
        "licence": licence_of(config.dataset).terms,
    }


def _values(attempt: Attempt, differences: Differences) -> dict[str, Any]:
    """What is a row's own."""
    leaf = attempt.leaf
    height, width, _ = differences.shape
    return {
        "leaf": attempt.position,
        "leaf_hash": attempt.hash,
        "miner": leaf.hotkey,
        "uid": leaf.uid,
        "height": height,
        "width": width,
        "adversarial_label": leaf.index_after,
        "adversarial_label_text": leaf.label_after,
        "linf_u8": leaf.linf_u8,
        "linf": leaf.linf_u8 / 255,
        "sum_sq": leaf.sum_sq,
        "rmse": math.sqrt(leaf.sum_sq / differences.size) / 255,
        "changed": leaf.changed,
        "ssim_ppb": leaf.ssim_ppb,
        "ssim": from_ppb(leaf.ssim_ppb),
        "psnr_micro_db": leaf.psnr_micro_db,
        "psnr_db": leaf.psnr_micro_db / 10**6,
        "score_ppb": leaf.score_ppb,
        "score": from_ppb(leaf.score_ppb),
        "response_ms": leaf.response_ms,
        "adversarial_pixels": leaf.adversarial_pixels,
        "logits_after": leaf.logits_after,
    }
