"""Tiles: names and sizes as tlog-tiles gives them, and a tree that believes no tile."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbnet.errors import BundleError, BundleTampered
from perturbnet.ledger import merkle
from perturbnet.transparency.tiles import (
    Tile,
    TileTree,
    encode_entries,
    parse_entries,
    tile_of,
    tiles_of,
)

HASHES = [merkle.leaf_hash(b"%d" % number) for number in range(70_000)]


def fetch_from(hashes: list[bytes], asked: list[Tile] | None = None) -> object:
    """What a log of these leaves serves."""

    def fetch(tile: Tile) -> bytes:
        if asked is not None:
            asked.append(tile)
        span = 256**tile.level
        starts = range(tile.index * 256 * span, (tile.index * 256 + tile.width) * span, span)
        return b"".join(merkle.root(hashes[start : start + span]) for start in starts)

    return fetch


def test_names_of_the_specification() -> None:
    assert Tile(0, 1234067).path == "tile/0/x001/x234/067"
    assert Tile(0, 0, 5).path == "tile/0/000.p/5"
    assert Tile(1, 999).path == "tile/1/999"
    assert Tile(2, 1000, 17).entries_path == "tile/entries/x001/000.p/17"


def test_the_specification_s_tree_of_70000() -> None:
    tiles = tiles_of(70_000)
    assert [tile for tile in tiles if tile.level == 0 and tile.width == 256] == [
        Tile(0, n) for n in range(273)
    ]
    assert tiles[273:] == [Tile(0, 273, 112), Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert tiles_of(256) == [Tile(0, 0), Tile(1, 0, 1)]
    assert tiles_of(0) == []


def test_what_is_new_since() -> None:
    assert tiles_of(300, 256) == [Tile(0, 1, 44)]
    assert tiles_of(512, 300) == [Tile(0, 1), Tile(1, 0, 2)]
    assert tiles_of(300, 300) == []
    assert tile_of(0, 5, 300).width == 0


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000])
def test_a_tree_read_from_tiles(size: int) -> None:
    asked: list[Tile] = []
    hashes = HASHES[:size]
    tree = TileTree(size, merkle.root(hashes), fetch_from(hashes, asked))  # type: ignore[arg-type]
    assert len(asked) <= 3
    for index in {0, size // 3, size - 1} if size else set():
        assert tree.leaf_hash(index) == hashes[index]
        proof = merkle.inclusion_proof(index, size, tree.subtree)
        assert merkle.verify_inclusion(hashes[index], index, size, proof, merkle.root(hashes))
    for old in {1, size // 2, size} if size > 1 else set():
        assert tree.subtree(0, old) == merkle.root(hashes[:old])


@given(st.integers(1, 70_000), st.data())
@settings(max_examples=30, deadline=None)
def test_one_changed_byte_of_any_tile_is_seen(size: int, data: st.DataObject) -> None:
    hashes = HASHES[:size]
    bad = data.draw(st.sampled_from(tiles_of(size)))
    place = data.draw(st.integers(0, bad.width * 32 - 1))
    honest = fetch_from(hashes)

    def fetch(tile: Tile) -> bytes:
        found = bytearray(honest(tile))  # type: ignore[operator]
        if tile == bad:
            found[place] ^= 1
        return bytes(found)

    with pytest.raises(BundleTampered):
        TileTree(size, merkle.root(hashes), fetch).hashes(bad)


def test_tiles_of_another_length() -> None:
    honest = fetch_from(HASHES[:300])
    for change in (lambda found: found[:-1], lambda found: found + bytes(32), lambda _: b""):
        with pytest.raises(BundleError, match=r"tile/0/001.p/44 has \d+ bytes, expected 1408"):
            TileTree(300, merkle.root(HASHES[:300]), lambda tile, change=change: change(honest(tile)))  # type: ignore[operator, misc]


def test_a_full_tile_serves_for_a_partial_one() -> None:
    honest = fetch_from(HASHES[:512])
    tree = TileTree(300, merkle.root(HASHES[:300]), lambda tile: honest(tile.whole))  # type: ignore[operator]
    assert tree.leaf_hash(299) == HASHES[299]


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_entries_come_back(leaves: list[bytes]) -> None:
    data = encode_entries(leaves)
    assert parse_entries(data, len(leaves)) == leaves
    for data_of_another, count in ((data, len(leaves) + 1), (data + b"\0\1a", len(leaves))):
        with pytest.raises(BundleError, match=f"holds {len(leaves) + (count == len(leaves))} leaves"):
            parse_entries(data_of_another, count)
    with pytest.raises(BundleError, match="ends in its leaf"):
        parse_entries(data + b"\1", len(leaves))
    if data:
        with pytest.raises(BundleError, match="ends in its leaf"):
            parse_entries(data[:-1], len(leaves))


def test_a_full_bundle_serves_for_a_partial_one() -> None:
    leaves = [b"%d" % number for number in range(256)]
    assert parse_entries(encode_entries(leaves), 44) == leaves[:44]
    with pytest.raises(BundleError, match="holds 257 leaves"):
        parse_entries(encode_entries([*leaves, b""]), 256)


def test_entries_are_pinned() -> None:
    assert encode_entries([b"", b"a", b"b" * 300]) == b"\0\0" + b"\0\1a" + b"\x01\x2c" + b"b" * 300
