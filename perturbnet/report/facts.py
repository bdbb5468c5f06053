"""Where the page's numbers come from: the log, how far it was read, who signed it, what pins it."""

from __future__ import annotations

from dataclasses import dataclass

from perturbnet.errors import OutputError
from perturbnet.ledger.leaves import GenesisLeaf
from perturbnet.transparency.bundle import Bundle


@dataclass(frozen=True)
class LogFacts:
    """A published log up to leaf `size`; `anchor_*` as the log itself says, 0 and "" where it has none."""

    place: str
    origin: str
    network: str
    netuid: int
    hotkey: str
    key: str
    since: int
    size: int
    root: str
    published: int
    anchor_block: int = 0
    anchor_size: int = 0
    anchor_root: str = ""

    @property
    def offline(self) -> bool:
        """Whether it is a user's own evaluation, which has no chain."""
        return self.network == "offline"


def read_facts(bundle: Bundle, place: str, since: int, until: int | None) -> LogFacts:
    """Check the log's signature and look up what the page says of it.

    Raises:
        OutputError: a range that the log does not have.
        NoteError: its own key did not sign it.
        LedgerError: a leaf that is missing, or not what it should be.

    """
    size = bundle.size if until is None else until
    if not 0 <= since < size <= bundle.size:
        raise OutputError(
            f"leaves from {since} to {size} of a log of {bundle.size} leaves",
            hint="--since is the first leaf, --until the one after the last; both are counted from 0.",
        )
    authority = bundle.verify_signature()
    genesis = bundle.entry(0).leaf
    anchor = next((one for one in reversed(bundle.anchors) if one.size <= bundle.size), None)
    return LogFacts(
        place=place,
        origin=bundle.checkpoint.origin,
        network=genesis.network if isinstance(genesis, GenesisLeaf) else "",
        netuid=authority.netuid,
        hotkey=authority.hotkey,
        key=authority.key.public.hex(),
        since=since,
        size=size,
        root=bundle.root_at(size).hex(),
        published=bundle.size,
        anchor_block=anchor.block if anchor else 0,
        anchor_size=anchor.size if anchor else 0,
        anchor_root=anchor.root.hex() if anchor else "",
    )
