"""The sentences of a certificate. They belong to the predicate's version: another sentence, another version.

Sources: Regulation (EU) 2024/1689, Article 15 and Annex IV; NIST AI 100-1 (AI RMF 1.0); ISO/IEC TR
24029-1:2021 and ISO/IEC 24029-2:2023; Hoeffding 1963, J. Amer. Statist. Assoc. 58, section 6
(drawing without replacement).
"""

from __future__ import annotations


def _paragraphs(text: str) -> tuple[str, ...]:
    """Each paragraph on one line."""
    return tuple(" ".join(part.split()) for part in text.strip().split("\n\n"))


SUMMARY, SUMMARY_OFFLINE = _paragraphs("""
Evasion at test time: for each image, miners who compete for pay look for a change of pixels, within
the gates below and in the time below, that makes the model give another label than it gave to the
clean image. They know the model in full (white box). Targets, other kinds of change, poisoning,
extraction and attacks on anything but the model are outside.

Evasion at test time: for each image, the attacks of this run look for a change of pixels, within the
gates below and in the time below, that makes the model give another label than it gave to the clean
image. They know the model in full (white box). Targets, other kinds of change, poisoning, extraction
and attacks on anything but the model are outside.
""")
CAVEATS = _paragraphs("""
This is an empirical upper bound: what these miners broke in this time. An image that nobody broke
may be broken tomorrow, by others or with more time. It is not certified robustness.

It makes no claim of conformity with any law or standard; the mappings say which numbers may serve
as evidence where.

Stability is measured against the model's own label on the clean image, right or wrong. Only clean
and robust accuracy know the truth, and only where the source names it.

The bounds are of the share of images, drawn from such images as this data set holds, that this pool
would leave unbroken. They say nothing about other images, other gates or another pool.

Images are drawn without replacement from a finite data set, and the bounds are those of independent
draws. In simulations they are then too wide rather than too narrow; that is no proof.

The miners adapt: they come, go and improve, so the chance to be broken is not the same for the
first image and the last. The bounds are of what was met on average over this range, and hold
exactly only for a pool that does not change.

Several attempts on one image, and several rounds on it, count once: broken by any. The anytime
bound is exact for images with one round; a later round can turn an image from unbroken to broken.

Rounds in which nobody was there to try are left out and counted. A try that ran out of time or sent
nothing usable counts as a try, so a weak pool makes a model look stable: see time-outs and rounds
without an image.

Times, time-outs and refused connections are the validator's word; nothing else can attest them.

The validator chose the range of leaves. What lies before and after it is in the same log, for
everybody.
""")
# Of an evaluation without a network, paragraph by paragraph; "=" is the network's.
_CAVEATS_OFFLINE = _paragraphs("""
This is an empirical upper bound: what the attacks of this run, and nobody else's, broke in this
time. An image that they did not break may be broken tomorrow, by others or with more time. It is not
certified robustness.

=

=

The bounds are of the share of images, drawn from such images as this folder holds, that these
attacks would leave unbroken. They say nothing about other images, other gates or other attacks.

=

The operator chose the attacks, and nobody is paid for a better one. What they find depends on chance
and on how fast the machine is: another run may break other images.

=

Rounds in which no attack was asked are left out and counted. A try that ran out of time or found
nothing usable counts as a try, so weak attacks and slow machines make a model look stable: see
time-outs and rounds without an image.

Times and time-outs are the operator's word; nothing else can attest them.

The operator chose the images and the range of leaves. What lies before and after it is in the same
log.
""")
CAVEATS_OFFLINE = tuple(
    network if offline == "=" else offline for network, offline in zip(CAVEATS, _CAVEATS_OFFLINE, strict=True)
)
(NOT_REPRODUCIBLE, OFFLINE, UNLABELLED, CHANGED) = _paragraphs("""
The model ran in plain floating point, not in the canonical form: on another machine its last
digits, and with them a label near a boundary, may differ. These labels are the operator's word.

This was an evaluation offline: the attacks were run by the operator, no miner competed, and nothing
pins the log on a chain.

The source names no class for these images: there is no clean and no robust accuracy.

Gates, code, environment or data set changed within the range; each is listed with its rounds.
""")

_ARTICLE_15 = "Regulation (EU) 2024/1689 (AI Act), Article 15"
_ANNEX_IV = "Regulation (EU) 2024/1689 (AI Act), Annex IV"
_RMF = "NIST AI RMF 1.0 (NIST AI 100-1)"
_ISO = "ISO/IEC 24029 (robustness of neural networks)"
_ANCHORED, _NOT_ANCHORED = (
    ", the log it was counted from and the anchor on chain",
    " and the log it was counted from",
)
_MAPPINGS = (
    (
        _ARTICLE_15,
        "paragraphs 1 and 3: levels of accuracy and robustness, declared",
        "clean accuracy, robust accuracy and stability, with their intervals",
    ),
    (
        _ARTICLE_15,
        "paragraph 5: adversarial examples, model evasion",
        "threat model, gates, outcomes of all attempts, smallest distances",
    ),
    (
        _ANNEX_IV,
        "2 (g): validation and testing, metrics, dated and signed test reports",
        f"this statement, its signature{_ANCHORED}",
    ),
    (
        _ANNEX_IV,
        "3: capabilities and limitations in performance",
        "exclusions, caveats, rounds without an image",
    ),
    (
        _RMF,
        "MEASURE 2.5 (valid and reliable), 2.6 (safe), 2.7 (secure and resilient)",
        "stability and robust accuracy under attack, with intervals",
    ),
    (
        _RMF,
        "MEASURE 2.1 (test sets, metrics and tools are documented)",
        "data sets, gates, configurations, ranges of leaves",
    ),
    (
        _ISO,
        "ISO/IEC TR 24029-1: empirical methods; statistical measures of robustness",
        "stability and robust accuracy; not the formal methods of ISO/IEC 24029-2",
    ),
)


def caveats(*, reproducible: bool, offline: bool, labelled: bool, changed: bool) -> list[str]:
    """The sentences that a certificate of these circumstances has to carry."""
    special = (
        (NOT_REPRODUCIBLE, not reproducible),
        (OFFLINE, offline),
        (UNLABELLED, not labelled),
        (CHANGED, changed),
    )
    always = CAVEATS_OFFLINE if offline else CAVEATS
    return [*always, *(text for text, holds in special if holds)]


def summary(*, offline: bool) -> str:
    """Who attacks, and how."""
    return SUMMARY_OFFLINE if offline else SUMMARY


def mappings(*, offline: bool) -> list[dict[str, str]]:
    """Which numbers may serve as evidence where; no anchor pins what was never near a chain."""
    names = ("framework", "reference", "evidence")
    rows = [dict(zip(names, row, strict=True)) for row in _MAPPINGS]
    if offline:
        for row in rows:
            row["evidence"] = row["evidence"].replace(_ANCHORED, _NOT_ANCHORED)
    return rows
