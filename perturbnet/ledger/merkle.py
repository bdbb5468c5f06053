"""The Merkle tree of RFC 6962: roots, inclusion proofs, consistency proofs. Pure, SHA-256, no I/O.

Rules
- A leaf's hash is SHA-256(0x00 || data), a node's SHA-256(0x01 || left || right): no node passes for a leaf.
- A tree of n leaves splits at the largest power of two below n. The tree of nothing is SHA-256("").
- A proof is computed from the hashes of subtrees, which the caller gives as a function of a range of leaves
  (`Subtree`), so a log of a million leaves reads some twenty hashes and not a million. Every range a proof
  asks for begins at a multiple of the smallest power of two that is no shorter than the range.
- Verifying takes anything: a proof of a wrong length or with a hash of a wrong length is false, no error.

Source: RFC 6962, section 2.1; RFC 9162, sections 2.1.3.2 and 2.1.4.2 (the verifying loops).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import reduce

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
MAX_PROOF_HASHES = 64

Subtree = Callable[[int, int], bytes]
"""`subtree(start, stop)`: the 32-byte root over the leaves from `start` to before `stop`."""


def leaf_hash(data: bytes) -> bytes:
    """The 32-byte hash of one leaf: RFC 6962, section 2.1."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The 32-byte hash of an inner node over two 32-byte hashes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Iterable[bytes]) -> bytes:
    """The 32-byte root over these 32-byte leaf hashes; of none, `EMPTY_ROOT`."""
    frontier = Frontier()
    for item in leaf_hashes:
        frontier.append(item)
    return frontier.root()


class Frontier:
    """What has to be remembered of a tree in order to append to it: one hash for each bit of its size."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Take up a tree of `size` leaves from the roots of its complete subtrees, the largest first.

        Raises:
            ValueError: not one 32-byte hash for each bit of `size`.

        """
        if size < 0 or len(hashes) != size.bit_count() or any(len(item) != HASH_BYTES for item in hashes):
            raise ValueError(f"a tree of {size} leaves has not the {len(hashes)} subtrees that were given")
        self.size = size
        self._hashes = list(hashes)

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The roots of the complete subtrees, the largest first."""
        return tuple(self._hashes)

    def append(self, item: bytes) -> list[bytes]:
        """Take in the next 32-byte leaf hash; returns the roots of the subtrees it completes, by level.

        The first is the leaf itself, the next the root over 2 leaves if it is the second of them, and so on.
        """
        completed, rest = [item], self.size
        while rest & 1:  # one merge for each trailing one of the size
            item = node_hash(self._hashes.pop(), item)
            completed.append(item)
            rest >>= 1
        self._hashes.append(item)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """The root over all leaves so far."""
        return join(self._hashes) if self._hashes else EMPTY_ROOT

    def copy(self) -> Frontier:
        """An independent frontier of the same tree."""
        return Frontier(self.size, self._hashes)


def subtrees_of(leaf_hashes: Sequence[bytes]) -> Subtree:
    """The subtrees of a tree whose leaf hashes are all in memory."""

    def subtree(start: int, stop: int) -> bytes:
        return root(leaf_hashes[start:stop])

    return subtree


def complete_subtrees(start: int, stop: int) -> list[tuple[int, int]]:
    """Split a range into its complete subtrees, left to right, as (level, index): 2^level leaves each.

    `start` is a multiple of the smallest power of two that is no shorter than the range.
    """
    found = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        found.append((level, start >> level))
        start += 1 << level
    return found


def join(hashes: Sequence[bytes]) -> bytes:
    """The root over complete subtrees that stand left to right, the largest first."""
    return reduce(lambda right, left: node_hash(left, right), reversed(hashes))


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The hashes that lead from leaf `index` to the root of the first `size` leaves, the lowest first.

    Raises:
        ValueError: there is no such leaf.

    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} of a tree of {size}")
    start, stop = 0, size
    proof = []
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            proof.append(subtree(middle, stop))
            stop = middle
        else:
            proof.append(subtree(start, middle))
            start = middle
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], tree_root: bytes) -> bool:
    """Whether `proof` leads from the 32-byte hash `leaf` at `index` to the root of `size` leaves."""
    if not 0 <= index < size or not _well_formed(proof):
        return False
    position, last, found = index, size - 1, leaf
    for item in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            found = node_hash(item, found)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found = node_hash(found, item)
        position, last = position >> 1, last >> 1
    return last == 0 and found == tree_root


def consistency_proof(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """The hashes that show the first `old` of `new` leaves to be unchanged; empty for 0 and for `new`.

    Raises:
        ValueError: `old` is negative or above `new`.

    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {old} leaves is no beginning of one of {new}")
    if old in {0, new}:
        return []
    start, stop, known = 0, new, True
    proof = []
    while old < stop:
        middle = start + _split(stop - start)
        if old <= middle:
            proof.append(subtree(middle, stop))
            stop = middle
        else:
            proof.append(subtree(start, middle))
            start, known = middle, False
    return ([] if known else [subtree(start, stop)]) + proof[::-1]


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether `proof` shows the tree of `new` leaves to begin with the tree of `old` leaves.

    Everything begins with the tree of nothing, whose root is `EMPTY_ROOT`.
    """
    if not 0 <= old <= new or not _well_formed(proof):
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    hashes = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    return consistency_roots(old, new, hashes) == (old_root, new_root)


def consistency_roots(old: int, new: int, hashes: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """The roots of the first `old` and of all `new` leaves, 0 < old < new, that a consistency proof leads to.

    `hashes` is the proof; before it, where `old` is a power of two, stands the root over those leaves, which
    RFC 6962 leaves out because a verifier knows it. None where they are not as many as the sizes ask for.
    """
    if not 0 < old < new or not hashes or not _well_formed(hashes):
        return None
    shift = _trailing_ones(old - 1)
    position, last = (old - 1) >> shift, (new - 1) >> shift
    first = second = hashes[0]
    for item in hashes[1:]:
        if last == 0:
            return None
        if position & 1 or position == last:
            first, second = node_hash(item, first), node_hash(item, second)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            second = node_hash(second, item)
        position, last = position >> 1, last >> 1
    return (first, second) if last == 0 else None


def _split(size: int) -> int:
    """The largest power of two below `size`, which is 2 or more."""
    return 1 << ((size - 1).bit_length() - 1)


def _trailing_ones(number: int) -> int:
    return (~number & (number + 1)).bit_length() - 1


def _well_formed(proof: Sequence[bytes]) -> bool:
    return len(proof) <= MAX_PROOF_HASHES and all(len(item) == HASH_BYTES for item in proof)
