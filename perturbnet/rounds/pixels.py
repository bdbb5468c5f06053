"""Pixels of a round again: the clean image from the reader's own data set, an answer from its delta.

A published log holds no image. What is put together here is compared with the digests that the leaves name,
so it is either the very image of the round, or an error.
"""

from __future__ import annotations

from collections.abc import Mapping

from perturbnet.datasets import ImageSource
from perturbnet.errors import BundleError, DatasetError, DigestMismatch
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.rounds.attempts import ImageAttempts
from perturbnet.rounds.challenges import clean_image
from perturbnet.rounds.logged import Log
from perturbnet.wire.deltas import apply_delta
from perturbnet.wire.images import Pixels, pixel_digest

_OTHER = "Open the data set that the log's config leaf names, prepared by: perturb bootstrap"


def require_source(source: ImageSource, dataset: Mapping[str, str | int]) -> None:
    """Refuse another data set than `dataset`, a config leaf's: repository, revision, split or rows differ.

    Raises:
        DatasetError: it is another one.

    """
    for name in ("repository", "revision", "split", "rows"):
        found = getattr(source.identity, name)
        if found != dataset.get(name):
            raise DatasetError(
                f"another data set: expected {name} {dataset.get(name)!r}, the one at hand has {found!r}",
                hint=_OTHER,
            )


def clean_pixels(source: ImageSource, attempts: ImageAttempts) -> Pixels:
    """The clean image that a round sent out: uint8 (H, W, 3).

    Raises:
        DatasetError: another data set, or a row that cannot be read.
        ChallengeError: a freshness that no image can have.
        DigestMismatch: other pixels than the challenge names.

    """
    require_source(source, attempts.config.dataset)
    leaf = attempts.challenge
    what = f"leaf {attempts.position}, the clean image"
    return rebuild_clean(source, leaf.row, leaf.freshness, leaf.clean_pixels, what)


def rebuild_clean(
    source: ImageSource, row: int, freshness: Mapping[str, int | str], digest: str, what: str
) -> Pixels:
    """The clean image of a row under a freshness, compared with its digest; `what` names it in an error.

    Raises:
        DatasetError, ChallengeError, DigestMismatch: as `clean_pixels`.

    """
    pixels = clean_image(source.read(row), freshness)
    found = pixel_digest(pixels)
    if found != digest:
        raise DigestMismatch(what, digest, found, hint=_OTHER)
    return pixels


def adversarial_pixels(log: Log, clean: Pixels, receipt: ReceiptLeaf) -> Pixels:
    """The image that a miner answered with: uint8 (H, W, 3), from the clean one and the published delta.

    Raises:
        BundleMissing: the delta is not published (any more).
        BundleError: the receipt names none, or it is damaged or of another size.
        DigestMismatch: other pixels than the receipt names.

    """
    if not receipt.delta or not receipt.adversarial_pixels:
        raise BundleError(f"uid {receipt.uid} answered round {receipt.round} without an image")
    pixels = apply_delta(clean, log.blob(receipt.delta))
    found = pixel_digest(pixels)
    if found != receipt.adversarial_pixels:
        what = f"uid {receipt.uid} in round {receipt.round}, the adversarial image"
        raise DigestMismatch(what, receipt.adversarial_pixels, found)
    return pixels
