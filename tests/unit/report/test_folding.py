"""One pass: the statistics' numbers, miners, classes, distances, the best examples, in bounded room."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbnet.errors import OutputError
from perturbnet.report.curve import MOST_POINTS, Curve, Point
from perturbnet.report.distances import measure
from perturbnet.report.folding import Findings, Fold, fold, newest_config
from perturbnet.report.standings import MOST_NAMES, OTHERS
from perturbnet.report.strongest import FEW, MOST_CLASSES, Strongest, best_of
from perturbnet.statistics.robustness import count_log
from tests.support.auditing.honest import Honest, MemoryLog
from tests.support.report.rounds import Rounds

NONE = {"reject": "no_image", "score_ppb": 0, "adversarial_pixels": ""}
LATE = {"reject": "timeout", "score_ppb": 0, "adversarial_pixels": ""}
GONE = {"reject": "offline", "score_ppb": 0, "adversarial_pixels": ""}


def folded(rounds: Rounds, *made: object, model: str = "") -> Findings:
    into = Fold(model or rounds.pattern.config.model_digest)
    for one in made:
        into.add(one)  # type: ignore[arg-type]
    return into.finish(10**6)


def test_a_log_gives_the_statistics_of_a_certificate(honest: Honest) -> None:
    log = MemoryLog(honest.entries, honest.blobs)
    config = newest_config(log, 0, log.size)
    told: list[tuple[int, int]] = []
    found = fold(log, since=0, size=log.size, model=config.model_digest, progress=lambda *at: told.append(at))
    assert found.statistics == count_log(log, config.model_digest)
    assert found.statistics.broken > 0
    assert told[-1] == (log.size, log.size)
    last = found.curve.sampled()[-1]
    assert (last.images, last.broken, last.robust) == (
        found.statistics.images,
        found.statistics.broken,
        found.statistics.robust_accuracy.successes,
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["ok", "none", "gone"]), st.booleans(), st.booleans()),
        max_size=24,
    )
)
def test_the_curve_is_the_statistics_after_every_round(
    rounds: Rounds, told: list[tuple[int, str, bool, bool]]
) -> None:
    answers = {"ok": {}, "none": NONE, "gone": GONE}
    into = Fold(rounds.pattern.config.model_digest)
    for number, (row, answer, labelled, right) in enumerate(told):
        label = ("a" if right else "b") if labelled else ""
        made = rounds.make(answers[answer], row=row, number=number, true_label="a", source_label=label)
        before = into.curve.last
        into.add(made)
        now, last = into.finish(10**6).statistics, into.curve.last
        if last is None:
            assert now.rounds == 0
            continue
        assert (last is before) == (answer == "gone")
        assert (last.rounds, last.images, last.broken) == (now.rounds, now.images, now.broken)
        assert last.labelled == now.labelled
        assert last.correct == now.clean_accuracy.successes
        assert last.robust == now.robust_accuracy.successes


def test_a_curve_stays_short_and_keeps_its_end() -> None:
    curve = Curve()
    for number in range(1, 10_001):
        curve.add(Point(number, 0, 0, number, 0, 0, 0, 0))
    sampled = curve.sampled()
    assert MOST_POINTS // 2 <= len(sampled) <= MOST_POINTS + 1
    assert sampled[-1].rounds == 10_000
    steps = {after.rounds - before.rounds for before, after in pairwise(sampled[:-1])}
    assert steps == {curve.stride}


def test_rounds_of_another_model_are_left_out_and_counted(rounds: Rounds) -> None:
    found = folded(rounds, rounds.make({}), rounds.make({}, row=1, model="cd" * 32))
    assert found.statistics.images == 1
    assert found.statistics.excluded["other_model"] == 1
    assert len(found.standings.ranked_classes()) == 1


def test_miners_are_ranked_by_the_mean_over_all_they_were_asked(rounds: Rounds) -> None:
    found = folded(
        rounds,
        rounds.make({"score_ppb": 900_000_000}, {"score_ppb": 600_000_000}, row=0),
        rounds.make(NONE, {"score_ppb": 600_000_000, "linf_u8": 4}, row=1),
        rounds.make(LATE, NONE, {"reject": "interrupted"}, row=2),
    )
    second, first = found.standings.ranked_miners()
    assert (second.uid, second.asked, second.accepted, second.alone) == (2, 3, 2, 1)
    assert second.mean_score() == pytest.approx(0.4)
    assert second.mean_levels() == pytest.approx(3.0)
    assert first.mean_score() == pytest.approx(0.3)
    assert dict(first.refusals) == {"no_image": 1, "timeout": 1}


def test_classes_are_ranked_by_how_little_it_takes(rounds: Rounds) -> None:
    made = [
        *(rounds.make({"score_ppb": 800_000_000}, row=row, true_label="weak") for row in range(3)),
        *(rounds.make(NONE if row else {}, row=10 + row, true_label="firm") for row in range(3)),
        rounds.make({"score_ppb": 10**9}, row=20, true_label="seldom"),
    ]
    ranked = folded(rounds, *made).standings.ranked_classes()
    assert [one.label for one in ranked] == ["weak", "firm", "seldom"]
    assert ranked[0].fragility() == pytest.approx(0.8)
    assert (ranked[1].rounds, ranked[1].broken) == (3, 1)
    assert ranked[1].fragility() == pytest.approx(0.7 / 3)
    assert dict(ranked[0].taken_for) == {"other": 3}


def test_a_stranger_with_many_names_takes_no_more_room(rounds: Rounds) -> None:
    into = Fold(rounds.pattern.config.model_digest)
    for number in range(MOST_NAMES + 50):
        name = {"hotkey": f"5{number:05}" + "x" * 1000, "uid": number}
        into.add(rounds.make(name, row=number % 5, true_label=f"{number:05}" + "y" * 1000))
    found = into.finish(10**6).standings
    assert len(found.miners) == len(found.classes) == MOST_NAMES + 1
    assert found.miners[OTHERS].asked == found.classes[OTHERS].rounds == 50
    assert max(map(len, [*found.miners, *found.classes])) <= 120


@pytest.mark.parametrize(
    "wrong",
    [
        {"linf_u8": 0},
        {"linf_u8": 256},
        {"changed": 0},
        {"changed": 201},
        {"psnr_micro_db": -1},
        {"psnr_micro_db": 2**53 - 1},
        {"ssim_ppb": 10**9 + 1},
        {"sum_sq": -(2**52)},
    ],
)
def test_figures_that_cannot_be_are_counted_and_shown_nowhere(rounds: Rounds, wrong: dict[str, int]) -> None:
    found = folded(rounds, rounds.make(wrong))
    assert found.distances.odd == 1
    assert found.distances.linf.total == 0
    assert found.strongest.best() == []


def test_distances_follow_from_the_receipt_alone(rounds: Rounds) -> None:
    height, width, level, changed = 24, 32, 3, 480
    values = 3 * height * width
    sum_sq = changed * level**2
    psnr = 10 * math.log10(255**2 * values / sum_sq)
    figures = {"linf_u8": level, "changed": changed, "sum_sq": sum_sq, "psnr_micro_db": round(psnr * 1e6)}
    found = measure(rounds.make(figures).attempts[0].leaf)
    assert found is not None
    assert found.rmse_u8 == pytest.approx(math.sqrt(sum_sq / values), rel=1e-6)
    assert found.changed == pytest.approx(changed / values, rel=1e-6)


def test_the_best_of_each_class_come_first_and_each_image_once(rounds: Rounds) -> None:
    strongest = Strongest()
    told = [("a", 0, 500), ("a", 0, 900), ("a", 1, 800), ("b", 2, 600), ("b", 3, 700), ("a", 0, 100)]
    for number, (label, row, score) in enumerate(told):
        made = rounds.make(
            {"score_ppb": score * 10**6}, NONE, row=row, number=number, true_label=label, source_label=label
        )
        example = best_of(made)
        assert example is not None
        strongest.add(example)
    best = strongest.best()
    assert [(one.round.challenge.row, one.score_ppb // 10**6) for one in best] == [
        (0, 900),
        (3, 700),
        (1, 800),
        (2, 600),
    ]
    assert all(len(one.round.attempts) == 1 for one in best)  # the others are not kept


def test_images_that_the_model_named_wrong_come_after_the_others(rounds: Rounds) -> None:
    strongest = Strongest()
    for number, (source, score) in enumerate([("wrong", 990), ("star", 400), ("", 300)]):
        example = best_of(
            rounds.make(
                {"score_ppb": score * 10**6},
                row=number,
                number=number,
                true_label="star",
                source_label=source,
            )
        )
        assert example is not None
        strongest.add(example)
    assert [one.score_ppb // 10**6 for one in strongest.best()] == [400, 300, 990]


def test_only_a_few_examples_are_kept(rounds: Rounds) -> None:
    strongest = Strongest()
    for number in range(MOST_CLASSES + 20):
        example = best_of(rounds.make({}, row=number, number=number, true_label=f"class {number}"))
        assert example is not None
        strongest.add(example)
    assert len(strongest.best()) == MOST_CLASSES
    few = Strongest()
    for number in range(3 * FEW):
        example = best_of(rounds.make({"score_ppb": number * 10**6}, row=number, number=number))
        assert example is not None
        few.add(example)
    assert [one.score_ppb // 10**6 for one in few.best()] == [11, 10, 9, 8]


def test_nobody_succeeded_is_no_example(rounds: Rounds) -> None:
    assert best_of(rounds.make(NONE, LATE)) is None


def test_leaves_without_a_challenge_have_no_model(honest: Honest) -> None:
    log = MemoryLog(honest.entries, honest.blobs)
    with pytest.raises(OutputError, match="no challenge among the leaves from 0 to 3"):
        newest_config(log, 0, 3)
