"""From a published log and the key that signs it to a certificate."""

from __future__ import annotations

from perturbnet.certificate.envelope import (
    STATEMENT_TYPE,
    Certificate,
    Statement,
    Subject,
    sign_statement,
)
from perturbnet.certificate.predicate import (
    PREDICATE_TYPE,
    VERSION,
    AnchorFacts,
    LogHead,
    Predicate,
    gather,
    sentences,
)
from perturbnet.errors import OutputError
from perturbnet.ledger.leaves import ConfigLeaf, GenesisLeaf
from perturbnet.runtime.progress import Progress
from perturbnet.statistics.intervals import LEVEL
from perturbnet.transparency.bundle import Bundle
from perturbnet.transparency.notes import SigningKey
from perturbnet.version import __version__


def issue_certificate(  # noqa: PLR0913 - what a certificate depends on
    bundle: Bundle,
    key: SigningKey,
    *,
    issued_ms: int,
    model: str | None = None,
    since: int = 0,
    until: int | None = None,
    level: str = LEVEL,
    progress: Progress = lambda _done, _of: None,
) -> Certificate:
    """Count a published log and sign what came out.

    Args:
        bundle: the log.
        key: the one that signs it now.
        issued_ms: wall time since 1970.
        model: hex digest, or name, as a config leaf has it; not needed where the log has one model only.
        since: leave out rounds whose challenge stands before this leaf.
        until: look at nothing from this leaf on; the log's end when not given.
        level: of the intervals, decimal text.
        progress: told (leaves read, leaves in all).

    Raises:
        OutputError: the key is not the log's, there is no such model or range, or nothing in it counts.
        LedgerError: the log is not what it should be.

    """
    head = read_head(bundle, bundle.size if until is None else until)
    if key.public.hex() != head.key or key.name != head.origin:
        raise OutputError(
            f"the key {key.public.hex()} of {key.name} does not sign the log {head.origin}: {head.key} does",
            hint="name the state folder of the validator whose log it is: PERTURB_STATE_DIR",
        )
    digest = find_model(bundle, model, head.size)
    evidence = gather(bundle, digest, since=since, until=head.size, level=level, progress=progress)
    caveats, mappings = sentences(evidence, head.network)
    predicate = Predicate(
        VERSION,
        issued_ms,
        f"perturbnet {__version__}",
        head,
        newest_anchor(bundle),
        evidence,
        caveats,
        mappings,
    )
    subject = Subject(evidence.model.name, {"sha256": digest})
    return sign_statement(Statement(STATEMENT_TYPE, [subject], PREDICATE_TYPE, predicate), key)


def read_head(bundle: Bundle, size: int) -> LogHead:
    """Whose log it is, and the root over its first `size` leaves.

    Raises:
        OutputError: it has not so many.
        LedgerError: its own key did not sign it.

    """
    if not 0 < size <= bundle.size:
        raise OutputError(f"leaves to before {size}: the log has leaves 0 to before {bundle.size}")
    authority = bundle.verify_signature()
    genesis = bundle.entry(0).leaf
    return LogHead(
        origin=authority.origin,
        network=genesis.network if isinstance(genesis, GenesisLeaf) else "",
        netuid=authority.netuid,
        hotkey=authority.hotkey,
        key=authority.key.public.hex(),
        size=size,
        root=bundle.root_at(size).hex(),
        checkpoint=bundle.note.decode(),
    )


def find_model(bundle: Bundle, wanted: str | None, size: int) -> str:
    """The digest of the model that is wanted, among those of the first `size` leaves.

    Raises:
        OutputError: none or several fit; the message names those that are there.

    """
    found: dict[str, str] = {}
    for entry in bundle.entries(0, size):
        if isinstance(entry.leaf, ConfigLeaf):
            found[entry.leaf.model_digest] = entry.leaf.model_name
    fitting = [digest for digest, name in found.items() if wanted in (None, digest, name)]
    if len(fitting) != 1:
        known = ", ".join(f"{name} {digest}" for digest, name in found.items()) or "none"
        wish = "several models" if wanted is None else f"the model {wanted[:100]!r}: {len(fitting)} fit"
        raise OutputError(f"{wish}; models of this log: {known}", hint="name one by its digest: --model")
    return fitting[0]


def newest_anchor(bundle: Bundle) -> AnchorFacts | None:
    """The newest anchor that the log lists, as far as it is about what is published; None without one."""
    found = [anchor for anchor in bundle.anchors if anchor.size <= bundle.size]
    return AnchorFacts(found[-1].block, found[-1].size, found[-1].payload().hex()) if found else None
