"""The PNG suite of tests/golden/png: every file gets its code, and every branch that refuses is needed."""

from __future__ import annotations

import ast
import copy
import hashlib
import io
import json
import random
import sys
import tracemalloc
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from perturbnet.errors import ImageError, Reject
from perturbnet.wire import images
from tests.golden import make_png, png_blocks

FOLDER = Path(__file__).parents[2] / "golden" / "png"
INDEX: list[dict[str, Any]] = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
PNG_CODES = {code.value for code in Reject if code.value.startswith("png_")}
Decode = Callable[..., images.Pixels]


def read(row: dict[str, Any]) -> bytes:
    return (FOLDER / f"{row['name']}.png").read_bytes()


def outcome(decode: Decode, row: dict[str, Any], data: bytes) -> str:
    """The code, with a digest of the pixels where there are any; any other exception by its name."""
    height, width = row["expected"] or (None, None)
    try:
        pixels = decode(data, height=height, width=width)
    except ImageError as error:
        return error.reject.value
    except Exception as error:  # noqa: BLE001 - a mutant may fail in any way
        return type(error).__name__
    return f"ok {hashlib.sha256(pixels.tobytes()).hexdigest()}"


def wanted(row: dict[str, Any]) -> str:
    return f"ok {row['rgb_sha256']}" if row["code"] == "ok" else str(row["code"])


@pytest.mark.parametrize("row", INDEX, ids=[row["name"] for row in INDEX])
def test_every_file_gets_its_code(row: dict[str, Any]) -> None:
    data = read(row)
    assert hashlib.sha256(data).hexdigest() == row["sha256"]
    assert outcome(images.decode_png, row, data) == wanted(row)


def test_the_suite_is_large_and_covers_every_code() -> None:
    codes = [row["code"] for row in INDEX]
    assert len(codes) - codes.count("ok") >= 30
    assert set(codes) == PNG_CODES | {"ok"}


def test_the_script_writes_the_committed_bytes(tmp_path: Path) -> None:
    assert make_png.write(tmp_path) == len(INDEX)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    assert made == kept


def test_the_suite_states_the_caps_in_force() -> None:
    assert (make_png.MAX_SIDE, make_png.MAX_DATA_CHUNKS) == (images.MAX_SIDE, images.MAX_DATA_CHUNKS)
    assert images.MAX_PIXELS == 4096 * 4096


@pytest.mark.parametrize("row", [row for row in INDEX if row["code"] == "ok"], ids=lambda row: row["name"])
def test_pillow_agrees_about_the_valid_files(row: dict[str, Any]) -> None:
    data = read(row)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "RGB"
        assert np.array_equal(np.asarray(picture), images.decode_png(data))


def test_a_file_that_breaks_off_anywhere_is_refused() -> None:
    data = make_png.GOOD
    for length in range(len(data)):
        code = "png_signature" if length < len(images.SIGNATURE) else "png_chunk"
        assert outcome(images.decode_png, {"expected": None}, data[:length]) == code


def test_a_stream_that_breaks_off_anywhere_is_refused() -> None:
    stream = make_png.GOOD_STREAM
    for length in range(1, len(stream)):
        data = png_blocks.with_stream(stream[:length])
        assert outcome(images.decode_png, {"expected": None}, data) == "png_data"


def test_no_flipped_bit_is_accepted_as_another_image() -> None:
    data = make_png.GOOD
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        assert outcome(images.decode_png, {"expected": None}, bytes(flipped)) in PNG_CODES


def test_random_damage_ends_in_a_code_or_in_what_pillow_reads() -> None:
    rng, accepted = random.Random(20), 0
    for _ in range(1500):
        stream = bytearray(
            zlib.compress(png_blocks.filtered([rng.randrange(5) for _ in range(11)]), rng.randrange(10))
        )
        for _ in range(rng.randrange(3)):
            stream[rng.randrange(len(stream))] = rng.randrange(256)
        data = png_blocks.with_stream(bytes(stream))
        result = outcome(images.decode_png, {"expected": None}, data)
        if result.startswith("ok "):
            accepted += 1
            with Image.open(io.BytesIO(data)) as picture:
                assert result == f"ok {hashlib.sha256(np.asarray(picture).tobytes()).hexdigest()}"
        else:
            assert result in {"png_data", "png_bomb"}
    assert accepted > 400


def test_a_bomb_costs_no_more_memory_than_the_image_it_claims_to_be() -> None:
    blocks, length = png_blocks.run_of_zeros(100_000)
    bomb = png_blocks.with_deflate(blocks)
    assert length > 25_000_000
    tracemalloc.start()
    try:
        with pytest.raises(ImageError) as refusal:
            images.decode_png(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refusal.value.reject is Reject.PNG_BOMB
    assert peak < 4 * len(bomb)


# --- Mutants: the walk without one of its branches, or with one comparison moved by one ---

GUARDED = (
    "size_is_allowed",
    "_walk",
    "_read_chunk",
    "_read_header",
    "_read_stream",
    "_refuse_kind",
    "_inflate",
    "_check_filters",
)
MOVED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}


def mutants() -> Iterator[tuple[str, ast.Module]]:
    tree = ast.parse(Path(images.__file__).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in GUARDED]
    assert len(functions) == len(GUARDED)
    for function in functions:
        for node in ast.walk(function):
            for what, items, place, new in changes_of(node):
                old, items[place] = items[place], new
                yield f"{function.name}:{getattr(node, 'lineno', '?')} {what}", copy.deepcopy(tree)
                items[place] = old


def changes_of(node: ast.AST) -> Iterator[tuple[str, list[Any], int, ast.AST]]:
    """The changes to make at this node: what it is, and the list, the place in it and what to put there."""
    for field in ("body", "orelse"):
        found = getattr(node, field, None)
        statements: list[Any] = found if isinstance(found, list) else []  # an expression has a body too
        for place, statement in enumerate(statements):
            if isinstance(statement, ast.Raise):
                yield "raise removed", statements, place, ast.Pass()
    if isinstance(node, ast.BoolOp):
        for place in range(len(node.values)):
            yield f"operand {place} removed", node.values, place, ast.Constant(isinstance(node.op, ast.And))
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            if type(operator) in MOVED:
                yield f"comparison {place} moved", node.ops, place, MOVED[type(operator)]()


def load(tree: ast.Module) -> Decode:
    module = types.ModuleType("mutant_of_images")
    sys.modules[module.__name__] = module
    try:
        exec(compile(ast.fix_missing_locations(tree), "<mutant>", "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    decode: Decode = module.__dict__["decode_png"]
    return decode


def test_no_branch_of_the_walk_can_go_unnoticed() -> None:
    files = [(row, read(row), wanted(row)) for row in INDEX]
    survivors, names = [], []
    for name, tree in mutants():
        names.append(name)
        decode = load(tree)
        if all(outcome(decode, row, data) == code for row, data, code in files):
            survivors.append(name)
    assert survivors == []
    assert sum(name.endswith("raise removed") for name in names) == count_png_refusals()
    assert sum(not name.endswith("raise removed") for name in names) >= 10


def count_png_refusals() -> int:
    """All `raise ImageError` of the module but those of check 2."""
    tree = ast.parse(Path(images.__file__).read_text(encoding="utf-8"))
    raised = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return sum("ImageError(" in text and "BAD_BASE64" not in text for text in raised)
