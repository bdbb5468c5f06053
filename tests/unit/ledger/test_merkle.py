"""The tree of RFC 6962: its published vectors, an independent implementation, and every wrong proof."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from perturbnet.ledger import merkle
from perturbnet.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    subtrees_of,
    verify_consistency,
    verify_inclusion,
)

# The entries and roots that RFC 6962's authors test their own tree with (certificate-transparency,
# merkletree/merkle_tree_test.cc), and the leaf hashes of rfc6962_test.go.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = [  # index, size, proof
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
]
CONSISTENCY = [  # old, new, proof
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
HASHES = [leaf_hash(entry) for entry in ENTRIES]
SUBTREE = subtrees_of(HASHES)


def test_published_roots() -> None:
    assert root([]) == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert [root(HASHES[: size + 1]).hex() for size in range(8)] == ROOTS


def test_published_hashes() -> None:
    assert leaf_hash(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    assert (
        node_hash(b"N123", b"N456").hex()
        == "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
    )


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_published_inclusion_proofs(index: int, size: int, proof: list[str]) -> None:
    assert [item.hex() for item in inclusion_proof(index, size, SUBTREE)] == proof


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCY)
def test_published_consistency_proofs(old: int, new: int, proof: list[str]) -> None:
    assert [item.hex() for item in consistency_proof(old, new, SUBTREE)] == proof


def test_every_small_tree_against_pymerkle() -> None:
    """Another author's tree: the same roots and inclusion paths, and its roots at both ends of ours."""
    other = InmemoryTree(algorithm="sha256")
    hashes: list[bytes] = []
    for size in range(1, 41):
        other.append_entry(b"%d" % size)
        hashes.append(leaf_hash(b"%d" % size))
        subtree = subtrees_of(hashes)
        assert other.get_root(size) == root(hashes)
        for index in range(size):
            theirs = other.prove_inclusion(index + 1, size).path
            assert [hashes[index], *inclusion_proof(index, size, subtree)] == theirs
            ours = consistency_proof(index + 1, size, subtree)
            assert verify_consistency(index + 1, size, ours, other.get_root(index + 1), other.get_root(size))


def test_every_proof_of_small_trees_verifies_and_no_other() -> None:
    hashes = [leaf_hash(b"%d" % number) for number in range(33)]
    subtree = subtrees_of(hashes)
    for size in range(1, 34):
        tree = root(hashes[:size])
        for index in range(size):
            proof = inclusion_proof(index, size, subtree)
            places = [
                place for place in range(size) if verify_inclusion(hashes[index], place, size, proof, tree)
            ]
            assert places == [index]
        for old in range(size + 1):
            proof = consistency_proof(old, size, subtree)
            sizes = [
                claimed
                for claimed in range(1, size + 1)
                if verify_consistency(claimed, size, proof, root(hashes[:old]), tree)
            ]
            assert sizes == ([old] if old else [])


@given(
    st.integers(2, 300).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))), st.data()
)
def test_a_changed_proof_is_refused(where: tuple[int, int], data: st.DataObject) -> None:
    size, index = where
    hashes = [leaf_hash(b"%d" % number) for number in range(size)]
    tree, proof = root(hashes), inclusion_proof(index, size, subtrees_of(hashes))
    place = data.draw(st.integers(0, len(proof) - 1))
    flipped = bytes([proof[place][0] ^ 1]) + proof[place][1:]
    for wrong in (
        proof[:place] + proof[place + 1 :],
        [*proof[:place], flipped, *proof[place + 1 :]],
        [*proof, proof[-1]],
        [item + b"\0" for item in proof],
        proof * 65,
    ):
        assert not verify_inclusion(hashes[index], index, size, wrong, tree)
    assert not verify_inclusion(flipped, index, size, proof, tree)


@given(st.integers(2, 200).flatmap(lambda new: st.tuples(st.integers(1, new - 1), st.just(new))), st.data())
def test_a_changed_history_is_refused(sizes: tuple[int, int], data: st.DataObject) -> None:
    old, new = sizes
    hashes = [leaf_hash(b"%d" % number) for number in range(new)]
    proof = consistency_proof(old, new, subtrees_of(hashes))
    assert verify_consistency(old, new, proof, root(hashes[:old]), root(hashes))
    changed = data.draw(st.integers(0, old - 1))
    rewritten = [*hashes[:changed], leaf_hash(b"another"), *hashes[changed + 1 :]]
    for other in (
        proof,
        consistency_proof(old, new, subtrees_of(rewritten)),
        proof[:-1],
        [*proof, *proof[-1:]],
    ):
        assert not verify_consistency(old, new, other, root(hashes[:old]), root(rewritten))


def test_ends_of_the_range() -> None:
    one = root(HASHES[:1])
    assert verify_consistency(0, 8, [], EMPTY_ROOT, root(HASHES))
    assert not verify_consistency(0, 8, [], one, root(HASHES))
    assert not verify_consistency(0, 8, [one], EMPTY_ROOT, root(HASHES))
    assert not verify_consistency(9, 8, [], one, one)
    assert not verify_consistency(-1, 8, [], one, one)
    assert not verify_consistency(3, 8, [], one, root(HASHES))
    assert not verify_inclusion(HASHES[0], -1, 8, [], one)
    assert not verify_inclusion(HASHES[0], 1, 1, [], one)
    with pytest.raises(ValueError, match="leaf 8 of a tree of 8"):
        inclusion_proof(8, 8, SUBTREE)
    with pytest.raises(ValueError, match="9 leaves is no beginning of one of 8"):
        consistency_proof(9, 8, SUBTREE)


@given(st.lists(st.binary(max_size=4), max_size=70), st.integers(0, 70))
def test_a_frontier_goes_on_where_it_was_left(data: list[bytes], cut: int) -> None:
    hashes = [leaf_hash(item) for item in data]
    first = Frontier()
    for item in hashes[:cut]:
        first.append(item)
    second = Frontier(first.size, first.hashes)
    third = second.copy()
    for item in hashes[cut:]:
        second.append(item)
    assert second.root() == root(hashes)
    assert third.root() == first.root() == root(hashes[:cut])


@pytest.mark.parametrize(
    ("size", "hashes"), [(1, []), (-1, []), (0, [EMPTY_ROOT]), (1, [b"short"]), (3, [EMPTY_ROOT])]
)
def test_a_frontier_of_wrong_hashes_is_refused(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(ValueError, match="subtrees"):
        Frontier(size, hashes)


def test_complete_subtrees_tile_the_range() -> None:
    for start, stop in ((0, 1), (0, 7), (8, 15), (64, 65), (0, 70_000)):
        found = merkle.complete_subtrees(start, stop)
        covered = [number for level, index in found for number in range(index << level, (index + 1) << level)]
        assert covered == list(range(start, stop))
