"""Tiles: the tree's hashes and the leaves in files of 256, as C2SP's tlog-tiles lays them out.

Rules
- The tile (level, index) holds the hashes of 256 neighbours, each the root over 256^level leaves. The last
  one of a level may hold fewer; its name says how many (`.p/W`).
- `entries` bundles hold the leaves of the tile of level 0, each after its length as an unsigned 16-bit
  number.
- A reader believes no tile by itself. The tiles at the right edge give the root, which the checkpoint names;
  any other tile's root stands in the tile above it. So each hash that is used leads to the checkpoint.

Source: c2sp.org/tlog-tiles.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perturbnet.errors import BundleError, BundleTampered
from perturbnet.ledger import merkle
from perturbnet.ledger.merkle import HASH_BYTES

HEIGHT = 8
WIDTH = 1 << HEIGHT
ENTRIES = "entries"
MAX_ENTRY_BUNDLE_BYTES = WIDTH * (2 + 0xFFFF)
_KEPT_TILES = 64


@dataclass(frozen=True)
class Tile:
    """A tile's place: level 0 holds the hashes of leaves; `width` is 256 unless it is the level's last."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it lies below the bundle."""
        return f"tile/{self.level}/{_number(self.index)}{self._part()}"

    @property
    def entries_path(self) -> str:
        """Where the leaves of a tile of level 0 lie."""
        return f"tile/{ENTRIES}/{_number(self.index)}{self._part()}"

    @property
    def whole(self) -> Tile:
        """The same place when it is full."""
        return Tile(self.level, self.index)

    def _part(self) -> str:
        return "" if self.width == WIDTH else f".p/{self.width}"


def tile_of(level: int, index: int, size: int) -> Tile:
    """The tile at a place of a tree of `size` leaves; its width is 0 beyond the edge."""
    hashes = size >> (HEIGHT * level)
    return Tile(level, index, max(0, min(WIDTH, hashes - index * WIDTH)))


def tiles_of(size: int, since: int = 0) -> list[Tile]:
    """The tiles of a tree of `size` leaves that one of `since` leaves has not, level by level."""
    found = []
    level = 0
    while size >> (HEIGHT * level):
        old, new = since >> (HEIGHT * level), size >> (HEIGHT * level)
        if new > old:
            found += [tile_of(level, index, size) for index in range(old // WIDTH, (new - 1) // WIDTH + 1)]
        level += 1
    return found


def encode_entries(leaves: Sequence[bytes]) -> bytes:
    """An entry bundle: each leaf after its length."""
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def parse_entries(data: bytes, count: int) -> list[bytes]:
    """The first `count` leaves of an entry bundle, which holds those or is full.

    Raises:
        BundleError: it ends inside a leaf, or holds another number of leaves.

    """
    leaves: list[bytes] = []
    place = 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 2], "big")
        leaf = data[place + 2 : place + 2 + length]
        if len(data) - place < 2 or len(leaf) != length:
            raise BundleError(f"an entry bundle ends in its leaf {len(leaves)}, expected {count} leaves")
        leaves.append(leaf)
        place += 2 + length
        if len(leaves) > WIDTH:
            break
    if len(leaves) not in {count, WIDTH}:
        raise BundleError(f"an entry bundle holds {len(leaves)} leaves, expected {count}")
    return leaves[:count]


def split_hashes(data: bytes, tile: Tile) -> list[bytes]:
    """The hashes of a tile; of a full tile where a part is wanted, the first ones.

    Raises:
        BundleError: another length.

    """
    if len(data) not in {tile.width * HASH_BYTES, WIDTH * HASH_BYTES}:
        raise BundleError(f"{tile.path} has {len(data)} bytes, expected {tile.width * HASH_BYTES}")
    return [data[place : place + HASH_BYTES] for place in range(0, tile.width * HASH_BYTES, HASH_BYTES)]


class TileTree:
    """A tree read from tiles, every one of them checked up to the root.

    `fetch(tile)` gives a tile's bytes, at least those of its width.
    """

    def __init__(self, size: int, root: bytes, fetch: Callable[[Tile], bytes]) -> None:
        """Read the right edge and compare its root with `root` (32 bytes).

        Raises:
            BundleTampered: the edge does not lead to the root.
            BundleError: a tile of another length. What `fetch` raises passes through.

        """
        self.size = size
        self._fetch = fetch
        self._kept: OrderedDict[Tile, list[bytes]] = OrderedDict()
        self._edge = {tile: split_hashes(fetch(tile), tile) for tile in _edge_of(size)}
        found = self.subtree(0, size) if size else merkle.EMPTY_ROOT
        if found != root:
            raise BundleTampered(
                f"the tiles of {size} leaves have the root {found.hex()}, the checkpoint says {root.hex()}"
            )

    def hashes(self, tile: Tile) -> list[bytes]:
        """A tile's hashes, each of 32 bytes.

        Raises:
            BundleTampered: its root is not the one in the tile above.
            BundleError: another length. What `fetch` raises passes through.

        """
        if tile in self._edge:
            return self._edge[tile]
        if tile not in self._kept:
            self._kept[tile] = self._checked(tile)
            if len(self._kept) > _KEPT_TILES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(tile)
        return self._kept[tile]

    def leaf_hash(self, index: int) -> bytes:
        """The 32-byte hash of a leaf."""
        return self._node(0, index)

    def subtree(self, start: int, stop: int) -> bytes:
        """The root over a range of leaves, as proofs ask for it; see `merkle.Subtree`."""
        nodes = merkle.complete_subtrees(start, stop)
        return merkle.join([self._node(level, index) for level, index in nodes])

    def _node(self, level: int, index: int) -> bytes:
        """The root over the leaves `index << level` to before `(index + 1) << level`."""
        tile_level, below = divmod(level, HEIGHT)
        first = index << below
        tile = tile_of(tile_level, first >> HEIGHT, self.size)
        start = first & (WIDTH - 1)
        return merkle.root(self.hashes(tile)[start : start + (1 << below)])

    def _checked(self, tile: Tile) -> list[bytes]:
        hashes = split_hashes(self._fetch(tile), tile)
        above = self._node((tile.level + 1) * HEIGHT, tile.index)
        if merkle.root(hashes) != above:
            raise BundleTampered(f"{tile.path}: its root is not {above.hex()}, as the tile above it says")
        return hashes


def _edge_of(size: int) -> list[Tile]:
    """The tiles that have none above them: the last of each level, unless it is full."""
    found = []
    level = 0
    while hashes := size >> (HEIGHT * level):
        if hashes % WIDTH:
            found.append(tile_of(level, hashes // WIDTH, size))
        level += 1
    return found


def _number(index: int) -> str:
    digits = f"{index:03}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[place : place + 3] for place in range(0, len(digits), 3)]
    return "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
