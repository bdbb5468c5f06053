"""What an audit begins with: anchors, data set and model, where a log is published, files of the user's.

The imports wait until they are needed: the command line reads this module when it starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from perturbnet.auditing.run import Means
    from perturbnet.config import Settings
    from perturbnet.transparency.anchors import Anchor

MAX_FILE_BYTES = 1 << 28

T = TypeVar("T")


def open_means(settings: Settings, *, data: bool, model: bool) -> tuple[Means, str]:
    """The data set and the model that this machine has prepared, and the digest of their manifest.

    Raises:
        ArtifactMissing: it has prepared none; the hint says how to.
        DigestMismatch: something is not what the manifest names.

    """
    from perturbnet.auditing.run import Means
    from perturbnet.bootstrap.holdings import open_checked, open_manifest, require_engine
    from perturbnet.bootstrap.records import Workplace
    from perturbnet.classifier import open_engine
    from perturbnet.rules.classification import CANONICAL

    if not data:
        return Means(), ""
    place = Workplace(settings.cache_dir, settings.profile)
    manifest = open_manifest(place)
    source = open_checked(place, manifest, paranoid=settings.paranoid)
    if not model:
        return Means(source), manifest.digest
    kind = settings.engine if settings.engine in CANONICAL else CANONICAL[0]
    engine = open_engine(settings.profile, cache_dir=settings.cache_dir, device=settings.device, kind=kind)
    require_engine(manifest, engine)
    return Means(source, engine), manifest.digest


def read_anchors(given: str | None, hotkey: str, settings: Settings) -> list[Anchor]:
    """From the chain or a file; none where none were given, which the audit calls a finding."""
    from perturbnet.transparency.anchors import parse_anchors

    if given is None:
        return []
    if given == "chain":
        found = _on_chain(hotkey, settings)
        return [] if found is None else [found[0]]
    return parse_anchors(read_file(Path(given)))


def published_at(hotkey: str, settings: Settings) -> str:
    """The address that stands beside the newest anchor."""
    from perturbnet.errors import AuditError

    found = _on_chain(hotkey, settings)
    if found is None or not found[1]:
        raise AuditError(f"{hotkey} has no address of a published log on chain", hint="name its BUNDLE")
    return found[1]


def _on_chain(hotkey: str, settings: Settings) -> tuple[Anchor, str] | None:
    from perturbnet.chain import open_chain
    from perturbnet.transparency.anchors import read_commitment

    async def read() -> tuple[Anchor, str] | None:
        chain = open_chain(settings.network, settings.netuid, local_path=settings.local_chain)
        try:
            return read_commitment(await chain.commitment(hotkey))
        finally:
            await chain.close()

    return _wait(read())


def _wait(work: Coroutine[None, None, T]) -> T:
    """Run it to its end; in a thread of its own where this one has an event loop, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def read_file(path: Path) -> bytes:
    """A file of the user's, capped."""
    from perturbnet.errors import AuditError

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise AuditError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise AuditError(f"{path}: {error.strerror}") from None
