"""The state follows from the leaves alone, by the rules in the docstring of `folds`."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from perturbnet.errors import LedgerCorrupt, Reject
from perturbnet.ledger import Entry, Leaf, fold, leaf_hash
from perturbnet.ledger.leaves import (
    GenesisLeaf,
    KeyLeaf,
    RulesLeaf,
    SubmissionLeaf,
    WeightsLeaf,
)
from tests.support.ledger.samples import (
    Log,
    certificate,
    metagraph,
    plain,
    random_log,
    random_log_step,
    refuse,
    rules,
    started,
)


def scores(log: Log) -> dict[int, list[int]]:
    return {uid: list(miner.scores_ppb) for uid, miner in log.state.miners.items()}


def test_everyone_asked_gets_its_score_in_a_counted_round() -> None:
    log = started(u1="a", u2="b", u3="c")
    log.round(u1=("ok", 900), u2=("timeout", 0))
    assert scores(log) == {1: [900], 2: [0], 3: []}
    assert log.state.processed() == {1: 1, 2: 1, 3: 0}
    assert log.state.counted_rounds == log.state.rounds == 1
    assert log.state.miners[2].rejects == {"timeout": 1}


def test_round_without_success_leaves_histories_alone() -> None:
    log = started()
    log.round(u1=("ok", 900), u2=("timeout", 0))
    log.round(u1=("label_unchanged", 0), u2=("timeout", 0))
    assert scores(log) == {1: [900], 2: [0]}
    assert log.state.processed() == {1: 1, 2: 1}
    assert (log.state.counted_rounds, log.state.rounds) == (1, 2)
    assert log.state.miners[1].asked == 2


def test_success_without_score_still_counts_the_round() -> None:
    """Duplicates may be scored 0; they did succeed."""
    log = started()
    log.round(u1=("ok", 0), u2=("timeout", 0))
    assert scores(log) == {1: [0], 2: [0]}


@pytest.mark.parametrize("reject", [Reject.INTERRUPTED, Reject.CLEAN_MISLABELLED])
def test_what_the_validator_spoiled_never_counts(reject: Reject) -> None:
    log = started()
    log.round(u1=("ok", 900), u2=(reject, 0))
    assert scores(log) == {1: [900], 2: []}
    assert log.state.processed() == {1: 1, 2: 0}


def test_nothing_counts_before_the_round_is_closed() -> None:
    log = started()
    log.add(log.challenge(1, 2))
    log.add(log.receipt(1, Reject.OK, 900))
    assert scores(log) == {1: [], 2: []}
    assert log.state.open_round is not None
    assert not log.state.open_round.complete
    log.add(log.receipt(2, Reject.OFFLINE))
    assert scores(log) == {1: [900], 2: [0]}
    assert log.state.open_round is None


def test_round_that_asks_nobody_is_closed_at_once() -> None:
    log = started()
    log.add(log.challenge())
    assert log.state.open_round is None
    assert log.state.counted_rounds == 0


def test_history_keeps_the_newest() -> None:
    log = started(history_size=3)
    for score in (1, 2, 3, 4):
        log.round(u1=("ok", score))
    assert scores(log)[1] == [2, 3, 4]
    assert log.state.processed()[1] == 4
    assert log.state.standings()[0].scores_ppb == (2, 3, 4)


def test_new_history_size_keeps_the_newest_scores() -> None:
    log = started(history_size=3)
    for score in (1, 2, 3):
        log.round(u1=("ok", score))
    log.add(rules(history_size=2))
    assert scores(log)[1] == [2, 3]
    log.add(rules(history_size=4))
    for score in (4, 5, 6):
        log.round(u1=("ok", score))
    assert scores(log)[1] == [3, 4, 5, 6]


def test_changed_hotkey_starts_anew() -> None:
    """Public bug: whoever took over a uid inherited its predecessor's history, and with it the weight."""
    log = started(u1="a", u2="b")
    log.round(u1=("ok", 900), u2=("ok", 800))
    log.add(metagraph(u1="newcomer", u2="b"))
    assert scores(log) == {1: [], 2: [800]}
    assert log.state.processed() == {1: 0, 2: 1}
    newcomer = log.state.miners[1]
    assert (newcomer.hotkey, newcomer.asked, newcomer.succeeded, newcomer.rejects) == ("newcomer", 0, 0, {})


def test_hotkey_that_moves_to_another_uid_starts_anew() -> None:
    log = started(u1="a", u2="b")
    log.round(u1=("ok", 900), u2=("ok", 800))
    log.add(metagraph(u1="b", u2="a"))
    assert scores(log) == {1: [], 2: []}


def test_uid_that_is_gone_is_forgotten_even_when_it_returns() -> None:
    log = started(u1="a", u2="b")
    log.round(u1=("ok", 900), u2=("ok", 800))
    log.add(metagraph(u2="b"))
    assert scores(log) == {2: [800]}
    log.add(metagraph(u1="a", u2="b"))
    assert scores(log) == {1: [], 2: [800]}


def test_same_metagraph_changes_nothing() -> None:
    log = started(u1="a", u2="b")
    log.round(u1=("ok", 900), u2=("ok", 800))
    log.add(metagraph(u1="a", u2="b", u3="c"))
    assert scores(log) == {1: [900], 2: [800], 3: []}


def test_receipt_of_a_predecessor_is_not_credited_to_its_successor() -> None:
    log = started(u1="a", u2="b")
    log.add(log.challenge(1, 2))
    first = log.receipt(1, Reject.OK, 900)
    second = log.receipt(2, Reject.OK, 800)
    log.add(metagraph(u1="newcomer", u2="b"), first, second)
    assert scores(log) == {1: [], 2: [800]}


def test_a_genesis_leaf_is_the_first_or_none() -> None:
    log = Log()
    log.add(plain(GenesisLeaf, key="k0"))
    assert log.state.genesis == log.entries[0].leaf
    refuse(log, plain(GenesisLeaf), "can only be the first")
    refuse(log, plain(KeyLeaf, previous="k1", key="k2"), "previous 'k1', expected 'k0'|previous")
    log.add(plain(KeyLeaf, previous="k0", key="k1"), plain(KeyLeaf, previous="k1", key="k2"))
    assert [position for position, _ in log.state.keys] == [1, 2]
    refuse(started(), plain(KeyLeaf, previous="k0"), "previous")


@given(st.integers(0, 2**32))
def test_a_fork_is_independent(seed: int) -> None:
    log = random_log(seed, 60)
    copy, before = log.state.fork(), deepcopy(log.state)
    assert copy == before
    for _ in range(20):
        random_log_step(log, seed)
    assert copy == before


@pytest.mark.parametrize("size", [None, "3", 0, -1])
def test_rules_without_a_history_size_refused(size: object) -> None:
    history = {} if size is None else {"history_size": size}
    refuse(started(), plain(RulesLeaf, history=history), "history_size is")


@pytest.mark.parametrize("neurons", [[[]], [[1]], [["1", "a"]], [[1, 2]], [[1, "a"], [1, "b"]]])
def test_metagraph_that_makes_no_sense_refused(neurons: list[list[int | str]]) -> None:
    refuse(started(), replace(metagraph(u1="a"), neurons=neurons), "expected a new uid and its hotkey")


def test_weights_are_pending_until_their_outcome_is_known() -> None:
    log = started()
    entry = log.add(plain(WeightsLeaf))
    place = (entry.position, entry.leaf)
    pending = [log.state.pending_weights]
    for outcome in ("ambiguous", "applied"):
        log.add(SubmissionLeaf(entry.position, 7, outcome, ""))
        pending.append(log.state.pending_weights)
    assert pending == [place, place, None]
    assert log.state.last_weights == place
    refuse(log, SubmissionLeaf(entry.position - 1, 7, "set", ""), "weights that are not at leaf")


def test_submission_without_weights_refused() -> None:
    refuse(started(), SubmissionLeaf(0, 7, "set", ""), "weights that are not at leaf 0")


def test_certificates_are_remembered_each_once() -> None:
    log = started()
    entry = log.add(certificate(log))
    assert log.state.certificates == ((entry.position, entry.leaf),)
    again = replace(certificate(log), envelope=entry.leaf.envelope)  # type: ignore[attr-defined]
    refuse(log, again, "recorded already")


@pytest.mark.parametrize(("since", "until"), [(-1, 4), (4, 4), (0, 0), (0, 5), (3, 2)])
def test_certificate_of_leaves_that_are_not_before_it_refused(since: int, until: int) -> None:
    log = started()
    refuse(log, certificate(log, since=since, until=until), "expected leaves before 4")


def test_certificate_under_another_key_refused() -> None:
    log = started()
    refuse(log, certificate(log, key="12" * 32), "key of a certificate 1212.*expected none")


def test_certificate_inside_a_round_refused() -> None:
    log = started()
    log.add(log.challenge(1, 2))
    refuse(log, certificate(log), "a certificate inside round 0")


def test_position_that_was_left_out_refused() -> None:
    log = started()
    leaf = rules()
    with pytest.raises(LedgerCorrupt, match="expected leaf 4, got leaf 5"):
        log.state.apply(Entry(5, leaf_hash(leaf.encode()), leaf))


def test_leaf_without_a_fold_refused() -> None:
    with pytest.raises(LedgerCorrupt, match="no fold"):
        fold([Entry(0, "", Leaf())])


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), length=st.integers(5, 80))
def test_rebuilding_gives_the_state_that_grew(seed: int, length: int) -> None:
    log = random_log(seed, length)
    assert fold(log.entries) == log.state
    cut = len(log.entries) // 2
    state = fold(log.entries[:cut])
    for entry in log.entries[cut:]:
        state.apply(entry)
    assert state == log.state


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_histories_follow_from_the_closed_rounds(seed: int) -> None:
    """Against a second, naive account of the same log: no uid holds more than its hotkey earned."""
    log = random_log(seed, 60)
    for miner in log.state.miners.values():
        assert len(miner.scores_ppb) <= miner.processed <= miner.asked
        assert sum(miner.rejects.values()) == miner.asked
        assert miner.rejects[Reject.OK] == miner.succeeded
        receipts = [
            entry.leaf for entry in log.entries if getattr(entry.leaf, "hotkey", None) == miner.hotkey
        ]
        mine = [leaf.score_ppb for leaf in receipts if getattr(leaf, "uid", None) == miner.uid]  # type: ignore[attr-defined]
        assert all(score in mine for score in miner.scores_ppb)
