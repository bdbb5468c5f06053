"""A page for people about what was prepared: digests to compare, where it came from, how it looks, how long.

One file that needs nothing else: styles, histogram (SVG) and sample pictures (JPEG) are inside. It is made
from the manifest and the records only, so it can be made again. Its last line is the SHA-256 of all before
it: a page that was cut short or edited is noticed like any other output.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from perturbnet.bootstrap.manifest import Manifest
from perturbnet.bootstrap.records import Recorded, Workplace, read_fingerprint, read_json
from perturbnet.datasets.source import picture_stored
from perturbnet.datasets.tables import ParquetTable
from perturbnet.errors import ArtifactMissing, DigestMismatch, RowUnreadable
from perturbnet.hub.disk import readable_bytes
from perturbnet.wire.digests import sha256_hex

SAMPLES = 24
_THUMB = 150  # pixels, the longer side
_SEAL = "\n<!-- sha256 of all above: "
_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882;--mark:#2a6fdb}
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2.5rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
.key{background:var(--soft);border-left:4px solid var(--mark);padding:.8rem 1rem;margin:1.2rem 0}
table{border-collapse:collapse;width:100%}td,th{padding:.25rem .6rem;border-bottom:1px solid var(--line);
text-align:left;vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.8rem}
figure{margin:0}figure img{width:100%;display:block}figcaption{font-size:12px}
svg{width:100%;height:auto}rect{fill:var(--mark)}text{font:9px system-ui;fill:currentColor}
.wide{overflow-x:auto}
"""


def render_report(place: Workplace, manifest: Manifest, fetched: Mapping[str, Path]) -> bytes:
    """Return the page; `fetched` are the records of what came from the hub (or was rendered), by name.

    Raises:
        ArtifactMissing, ArtifactError, DigestMismatch: a record is missing or damaged.
        DatasetError: the files cannot be read.

    """
    recorded = read_fingerprint(place.fingerprint)
    table = ParquetTable([Path(file.path) for file in recorded.files])
    body = "\n".join(
        [
            _head(manifest),
            _digests(manifest),
            _files({name: read_json(record) for name, record in sorted(fetched.items())}, recorded),
            _histogram(recorded.fingerprint.classes, table.class_names),
            _samples(table),
            _undecodable(recorded),
        ]
    )
    title = f"Perturb: {escape(manifest.profile)}"
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>"
    ).encode()
    return page + _seal(page)


def require_whole(path: Path) -> None:
    """Return if a page is as it was written.

    Raises:
        ArtifactMissing: there is none.
        DigestMismatch: it was cut short or changed.

    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactMissing(f"{path} does not exist") from None
    page, _, _ = data.rpartition(_SEAL.encode())
    if data != page + _seal(page):
        raise DigestMismatch(str(path), "the digest in its last line", sha256_hex(page))


def _seal(page: bytes) -> bytes:
    return f"{_SEAL}{sha256_hex(page)} -->\n".encode()


def _head(manifest: Manifest) -> str:
    return (
        f"<h1>What this node holds: {escape(manifest.profile)}</h1>\n"
        f'<div class="key">Protocol fingerprint<br><code>{manifest.digest}</code><br>'
        "Two nodes that show the same digest have the same pixels, the same model and the same wire.</div>"
    )


def _digests(manifest: Manifest) -> str:
    data, model = manifest.dataset, manifest.model
    rows = (
        ("data set", f"{data.repository}, {data.split}"),
        ("revision", data.revision),
        ("rows", f"{data.rows:,} ({len(data.undecodable)} undecodable)"),
        ("root over pixels", data.root),
        ("model", model.name),
        ("artefact", model.artefact),
        ("weights", model.weights),
        ("wire version", str(manifest.protocol)),
    )
    lines = (f"<tr><th>{name}</th><td><code>{escape(text)}</code></td></tr>" for name, text in rows)
    return f"<h2>Digests</h2><table>{''.join(lines)}</table>"


def _files(fetched: Mapping[str, Mapping[str, Any]], recorded: Recorded) -> str:
    """Each file: how much came over the network in how long, and how long its rows took to decode."""
    parts = {part.name: part for part in recorded.fingerprint.parts}
    head = "".join(
        f'<th class="n">{name}</th>' for name in ("size", "fetched", "in", "rows", "decoded in", "rows/s")
    )
    lines = []
    for name, stated in fetched.items():
        part = parts.get(name)
        came, took_s = stated.get("bytes_fetched"), int(stated.get("milliseconds", 0)) / 1000
        cells = [
            readable_bytes(int(stated.get("size", 0))),
            "–" if came is None else readable_bytes(int(came)),
            "–" if came is None else f"{took_s:.1f} s",
            "–" if part is None else f"{part.rows:,}",
            "–" if part is None else f"{part.seconds:.1f} s",
            "–" if part is None else f"{part.rows / max(part.seconds, 1e-3):,.0f}",
        ]
        numbers = "".join(f'<td class="n">{cell}</td>' for cell in cells)
        digest = escape(str(stated.get("sha256", ""))[:16])
        lines.append(f"<tr><td><code>{escape(name)}</code><br><code>{digest}…</code></td>{numbers}</tr>")
    spoken = {
        " and ".join(f"{name} {text}" for name, text in sorted(part.decoder.items()))
        for part in parts.values()
    }
    return (
        f'<h2>Files</h2><div class="wide"><table><tr><th>file, SHA-256</th>{head}</tr>'
        f"{''.join(lines)}</table></div><p>Decoded by {escape('; '.join(sorted(spoken)))}.</p>"
    )


def _histogram(classes: Mapping[int, int], names: Sequence[str]) -> str:
    """Bars of rows per class; the axis begins at 0."""
    wide, high, base = 1000, 180, 20
    most, step = max(classes.values(), default=1), wide / max(1, len(classes))
    bars = []
    for place, (index, count) in enumerate(sorted(classes.items())):
        name = names[index] if 0 <= index < len(names) else "no class"
        tall = count / most * (high - base)
        bars.append(
            f'<rect x="{place * step + step * 0.1:.1f}" y="{high - tall:.1f}" width="{step * 0.8:.1f}" '
            f'height="{tall:.1f}"><title>{index} {escape(name)}: {count:,} rows</title></rect>'
        )
    least = min(classes.values(), default=0)
    return (
        f"<h2>Classes</h2><p>{len(classes)} classes, {least:,} to {most:,} rows each "
        "(hold the pointer over a bar).</p>"
        f'<svg viewBox="0 0 {wide} {high}" role="img" aria-label="rows per class">'
        f'<text x="2" y="11">{most:,} rows</text>{"".join(bars)}</svg>'
    )


def _samples(table: ParquetTable) -> str:
    figures = "".join(
        f'<figure><img alt="row {row}" src="data:image/jpeg;base64,{picture}">'
        f"<figcaption>row {row}: {escape(name)}</figcaption></figure>"
        for row, name, picture in _thumbnails(table)
    )
    return f'<h2>Sample pictures</h2><div class="pictures">{figures}</div>'


def _thumbnails(table: ParquetTable) -> Iterator[tuple[int, str, str]]:
    """Rows at equal distances, first and last included, each with its class and a small JPEG in base64."""
    count = min(SAMPLES, len(table))
    for row in (number * (len(table) - 1) // max(1, count - 1) for number in range(count)):
        stored, label = table.read(row)
        try:
            picture = picture_stored(row, stored if isinstance(stored, bytes) else b"")
        except RowUnreadable:
            continue
        picture.thumbnail((_THUMB, _THUMB))
        target = io.BytesIO()
        picture.save(target, "JPEG", quality=85)
        known = isinstance(label, int) and 0 <= label < len(table.class_names)
        name = table.class_names[label] if known and isinstance(label, int) else "no class"
        yield row, name, base64.b64encode(target.getvalue()).decode()


def _undecodable(recorded: Recorded) -> str:
    faults = recorded.fingerprint.undecodable
    if not faults:
        return "<h2>Undecodable rows</h2><p>None.</p>"
    lines = "".join(
        f"<tr><td>{fault.row}</td><td>{escape(fault.reason)}</td><td><code>{fault.stored_sha256}</code></td></tr>"
        for fault in faults
    )
    head = "<tr><th>row</th><th>why</th><th>SHA-256 of its stored bytes</th></tr>"
    return f'<h2>Undecodable rows</h2><div class="wide"><table>{head}{lines}</table></div>'
