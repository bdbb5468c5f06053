"""Write the golden verdicts: challenge and response pairs, with the bytes of the verdict each must get.

    python -m tests.golden.make_verdicts [FOLDER]

Valid ones, and one at least for every reject code that bytes can earn. The engine is
`tests.support.fakes.BlockEngine` (integers only), and no PNG encoder takes part, so the files are the same
whoever writes them. `index.json` holds the rules, the tasks and the verdicts; `NAME.body` is a response as it
arrived, `NAME.png` a clean image.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from perturbnet.rules.verification import Task, verify
from perturbnet.wire.images import Pixels, encode_base64, pixel_digest
from perturbnet.wire.messages import Rules, response_limit_bytes
from tests.golden.png_blocks import IEND, SIGNATURE, chunk, ihdr, png, zlib_stored
from tests.support.fakes import LABELS, MAGENTA, RULES, BlockEngine, flip, push, texture

FOLDER = Path(__file__).parent / "verdicts"
SIDE = 32
TASK_ID = "0-17"
CHALLENGE_ID = "c" * 64
ENGINE = BlockEngine()


@dataclass(frozen=True)
class Case:
    """One response to one task. `clean` names one of `clean_images`; `task` replaces fields of the task."""

    name: str
    clean: str
    body: bytes
    task: dict[str, Any] = field(default_factory=dict)
    signed_pixels: str | None = None

    def to_task(self) -> Task:
        """The task it answers."""
        pixels = clean_images()[self.clean]
        fields: dict[str, Any] = {
            "task_id": TASK_ID,
            "challenge_id": CHALLENGE_ID,
            "clean": pixels,
            "true_label": ENGINE.classify([pixels])[0].text,
            "epsilon": "0.1000",
            "rules": RULES,
            "max_body_bytes": response_limit_bytes(SIDE, SIDE),
        }
        return Task(**{**fields, **self.task})


def clean_images() -> dict[str, Pixels]:
    """The clean images by name."""
    nearly = texture("noise-0", SIDE, SIDE).copy()
    nearly[0, 0] = (254, 1, 254)
    return {
        "noise": texture("noise-0", SIDE, SIDE),
        "flat": np.full((SIDE, SIDE, 3), 128, np.uint8),
        "nearly-magenta": nearly,
        "twin": texture("noise-1", SIDE, SIDE),
    }


def plain_png(pixels: Pixels, stream: bytes | None = None) -> bytes:
    """A PNG of stored blocks; `stream` replaces the whole zlib stream."""
    height, width, _ = pixels.shape
    whole = zlib_stored(b"".join(b"\0" + row.tobytes() for row in pixels)) if stream is None else stream
    return png(ihdr(height, width), chunk(b"IDAT", whole), IEND)


def message(pixels: Pixels, **changes: Any) -> bytes:
    """A response in the protocol's form; `changes` replace fields, and the value `...` removes one."""
    fields: dict[str, Any] = {
        "task_id": TASK_ID,
        "challenge_id": CHALLENGE_ID,
        "perturbed_image_b64": encode_base64(plain_png(pixels)),
        "pixels_sha256": pixel_digest(pixels),
        "reason": None,
    }
    fields = {name: value for name, value in {**fields, **changes}.items() if value is not ...}
    return json.dumps(fields, separators=(",", ":")).encode()


def with_png(pixels: Pixels, data: bytes) -> bytes:
    """A response that carries this file and signs for these pixels."""
    return message(pixels, perturbed_image_b64=encode_base64(data))


def cases() -> Iterator[Case]:
    """Every case, in the order of the checks."""
    yield from _accepted()
    yield from _messages()
    yield from _files()
    yield from _distortions()
    yield from _labels()


def _accepted() -> Iterator[Case]:
    noise = clean_images()["noise"]
    best = flip(ENGINE, noise)
    yield Case("ok", "noise", message(best))
    reasoned = message(best, reason="as small as it gets")
    yield Case("ok-signed", "noise", reasoned, signed_pixels=pixel_digest(best))
    edge = best.copy()
    edge[5, 5, 1] = noise[5, 5, 1] + 7
    yield Case("ok-at-the-cap", "noise", message(edge))


def _messages() -> Iterator[Case]:
    noise = clean_images()["noise"]
    best = flip(ENGINE, noise)
    whole = message(best)
    yield Case("body-too-large", "noise", whole, {"max_body_bytes": len(whole) - 1})
    yield Case("body-as-large-as-allowed", "noise", whole, {"max_body_bytes": len(whole)})
    yield Case("empty", "noise", b"")
    yield Case("not-json", "noise", whole[:-1])
    yield Case("unknown-field", "noise", message(best, score=1))
    yield Case("missing-field", "noise", message(best, task_id=...))
    yield Case("other-task", "noise", message(best, task_id="0-18"))
    yield Case("other-challenge", "noise", message(best, challenge_id="d" * 64))
    yield Case(
        "no-image", "noise", message(best, perturbed_image_b64=None, pixels_sha256=None, reason="none")
    )


def _files() -> Iterator[Case]:
    noise = clean_images()["noise"]
    best = flip(ENGINE, noise)
    data, text = plain_png(best), encode_base64(plain_png(best))
    rows = b"".join(b"\0" + row.tobytes() for row in best)
    yield Case("base64-alphabet", "noise", message(best, perturbed_image_b64="*" + text[1:]))
    yield Case("base64-unused-bits", "noise", message(best, perturbed_image_b64="YWJjZB=="))
    yield Case("png-signature", "noise", with_png(best, data[:1] + b"J" + data[2:]))
    yield Case("png-header", "noise", with_png(best, png(ihdr(SIDE, SIDE, (8, 6, 0, 0, 0)), IEND)))
    yield Case("png-size", "noise", message(texture("other", SIDE, SIDE + 1)))
    yield Case("png-chunk", "noise", with_png(best, png(ihdr(SIDE, SIDE), chunk(b"tEXt", b"hello"), IEND)))
    yield Case("png-crc", "noise", with_png(best, png(chunk(b"IHDR", b"", crc_flip=1))))
    yield Case("png-data", "noise", with_png(best, plain_png(best, zlib_stored(rows[:-1]))))
    yield Case("png-bomb", "noise", with_png(best, plain_png(best, zlib_stored(rows + b"\0"))))
    yield Case("png-trailing", "noise", with_png(best, data + b"\0"))
    yield Case("png-alone", "noise", with_png(best, SIGNATURE))
    yield Case("other-pixels-claimed", "noise", message(best, pixels_sha256=pixel_digest(noise)))
    yield Case("other-pixels-signed", "noise", message(best), signed_pixels=pixel_digest(noise))


def _distortions() -> Iterator[Case]:
    noise, flat = clean_images()["noise"], clean_images()["flat"]
    loud = noise.copy()
    loud[5, 5, 1] ^= 0x20
    yield Case("clean-returned", "noise", message(noise))
    yield Case("beyond-the-cap", "noise", message(_pushed(noise, 8)))
    yield Case("one-value-far-off", "noise", message(loud))
    yield Case("beyond-epsilon", "noise", message(_pushed(noise, 2)), {"epsilon": "0.0078"})
    yield Case("at-epsilon", "noise", message(_pushed(noise, 2)), {"epsilon": "0.0079"})
    yield Case("ssim-low", "flat", message((flat + texture("grain", SIDE, SIDE) % 2 * 7).astype(np.uint8)))
    yield Case("psnr-low", "noise", message(_pushed(noise, 7)))


def _labels() -> Iterator[Case]:
    images = clean_images()
    noise, nearly, twin = images["noise"], images["nearly-magenta"], images["twin"]
    still = noise.copy()
    still[0, 0, 0] += 1
    magenta = flip(ENGINE, nearly)
    magenta[0, 0] = MAGENTA
    other = next(label for label in LABELS if label != ENGINE.classify([noise])[0].text)
    yield Case("mislabelled", "noise", message(flip(ENGINE, noise)), {"true_label": other})
    yield Case("unchanged", "noise", message(still))
    yield Case("same-text-other-class", "twin", message(_to_namesake(twin)))
    yield Case("indeterminate", "nearly-magenta", message(magenta))


def _pushed(clean: Pixels, levels: int) -> Pixels:
    best = ENGINE.classify([flip(ENGINE, clean)])[0]
    return push(ENGINE, clean, ENGINE.classify([clean])[0].index, best.index, levels)


def _to_namesake(clean: Pixels) -> Pixels:
    """An image of the other class with the same text, found by pushing towards it."""
    before = ENGINE.classify([clean])[0]
    for level in range(1, 8):
        pushed = push(ENGINE, clean, before.index, 2 - before.index, level)
        after = ENGINE.classify([pushed])[0]
        if after.index != before.index and after.text == before.text:
            return pushed
    raise AssertionError("no push reaches the namesake; take another image")


def build() -> dict[str, bytes]:
    """Every file by name."""
    files = {f"{name}.png": plain_png(pixels) for name, pixels in clean_images().items()}
    index = []
    for case in cases():
        task = case.to_task()
        verdict = verify(task, case.body, ENGINE, signed_pixels=case.signed_pixels)
        files[f"{case.name}.body"] = case.body
        index.append(_row(case, task, verdict.encode().decode()))
    text = json.dumps({"engine": ENGINE.model_digest, "cases": index}, indent=1)
    return {**files, "index.json": text.encode() + b"\n"}


def _row(case: Case, task: Task, verdict: str) -> dict[str, Any]:
    return {
        "name": case.name,
        "clean": case.clean,
        "true_label": task.true_label,
        "epsilon": task.epsilon,
        "max_body_bytes": task.max_body_bytes,
        "signed_pixels": case.signed_pixels,
        "rules": task.rules.model_dump(mode="json"),
        "verdict": verdict,
    }


def read_case(folder: Path, row: dict[str, Any], clean: Pixels) -> tuple[Task, bytes, bytes]:
    """Task, body and verdict bytes of one row of the index, from the files alone."""
    task = Task(
        task_id=TASK_ID,
        challenge_id=CHALLENGE_ID,
        clean=clean,
        true_label=row["true_label"],
        epsilon=row["epsilon"],
        rules=Rules.model_validate(row["rules"]),
        max_body_bytes=row["max_body_bytes"],
    )
    return task, (folder / f"{row['name']}.body").read_bytes(), row["verdict"].encode()


def main() -> None:
    """Write everything."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in build().items():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
