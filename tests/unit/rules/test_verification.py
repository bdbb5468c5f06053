"""Verdicts: every code from bytes, the order of the checks, rounds, and the golden cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbnet.errors import Reject
from perturbnet.rules.classification import Classification
from perturbnet.rules.verification import NOT_REACHED, Task, Verdict, Verification, verify
from perturbnet.wire import canonical_json
from perturbnet.wire.images import Pixels, decode_png, encode_base64, pixel_digest
from tests.golden import make_verdicts
from tests.golden.make_verdicts import Case, message
from tests.support.fakes import LABELS, MAGENTA, BlockEngine, flip, texture

CASES = {case.name: case for case in make_verdicts.cases()}
ROWS = json.loads((make_verdicts.FOLDER / "index.json").read_text())
NOT_FROM_BYTES = {
    Reject.NOT_SERVING,
    Reject.ADDRESS_REFUSED,
    Reject.OFFLINE,
    Reject.TIMEOUT,
    Reject.HTTP_ERROR,
    Reject.INTERRUPTED,
    Reject.BAD_SIGNATURE,
}
NOISE = make_verdicts.clean_images()["noise"]
BEST = flip(BlockEngine(), NOISE)
TASK = CASES["ok"].to_task()

EXPECTED = {
    Reject.OK: ["ok", "ok-signed", "ok-at-the-cap", "body-as-large-as-allowed", "at-epsilon"],
    Reject.BODY_TOO_LARGE: ["body-too-large"],
    Reject.BAD_MESSAGE: [
        "empty",
        "not-json",
        "unknown-field",
        "missing-field",
        "other-task",
        "other-challenge",
    ],
    Reject.NO_IMAGE: ["no-image"],
    Reject.BAD_BASE64: ["base64-alphabet", "base64-unused-bits"],
    Reject.PNG_SIGNATURE: ["png-signature"],
    Reject.PNG_HEADER: ["png-header"],
    Reject.PNG_SIZE: ["png-size"],
    Reject.PNG_CHUNK: ["png-chunk", "png-alone"],
    Reject.PNG_CRC: ["png-crc"],
    Reject.PNG_DATA: ["png-data"],
    Reject.PNG_BOMB: ["png-bomb"],
    Reject.PNG_TRAILING: ["png-trailing"],
    Reject.PIXELS_MISMATCH: ["other-pixels-claimed", "other-pixels-signed"],
    Reject.LINF_LOW: ["clean-returned"],
    Reject.LINF_HIGH: ["beyond-the-cap", "one-value-far-off", "beyond-epsilon"],
    Reject.SSIM_LOW: ["ssim-low"],
    Reject.PSNR_LOW: ["psnr-low"],
    Reject.CLEAN_MISLABELLED: ["mislabelled"],
    Reject.LABEL_UNCHANGED: ["unchanged", "same-text-other-class"],
    Reject.INDETERMINATE: ["indeterminate"],
}
NAMED = [(code, name) for code, names in EXPECTED.items() for name in names]


def judged(case: Case, engine: BlockEngine | None = None) -> Verdict:
    return verify(case.to_task(), case.body, engine or BlockEngine(), signed_pixels=case.signed_pixels)


# Codes.


def test_every_code_that_bytes_can_earn_has_a_case_and_every_case_a_code() -> None:
    assert set(EXPECTED) == set(Reject) - NOT_FROM_BYTES
    assert sorted(name for _, name in NAMED) == sorted(CASES)


@pytest.mark.parametrize(("code", "name"), NAMED, ids=[name for _, name in NAMED])
def test_bytes_earn_their_code(code: Reject, name: str) -> None:
    verdict = judged(CASES[name])
    assert verdict.reject is code
    assert bool(verdict.detail) == (code is not Reject.OK)


@pytest.mark.parametrize("name", [row["name"] for row in ROWS["cases"]])
def test_golden_verdicts(name: str) -> None:
    row = next(row for row in ROWS["cases"] if row["name"] == name)
    clean = decode_png((make_verdicts.FOLDER / f"{row['clean']}.png").read_bytes())
    task, body, expected = make_verdicts.read_case(make_verdicts.FOLDER, row, clean)
    engine = BlockEngine()
    assert engine.model_digest == ROWS["engine"]
    assert verify(task, body, engine, signed_pixels=row["signed_pixels"]).encode() == expected


def test_the_script_writes_the_committed_files() -> None:
    committed = {path.name: path.read_bytes() for path in make_verdicts.FOLDER.iterdir()}
    assert make_verdicts.build() == committed


def test_the_script_writes_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["make_verdicts", str(tmp_path / "new")])
    make_verdicts.main()
    assert len(list((tmp_path / "new").iterdir())) == len(list(make_verdicts.FOLDER.iterdir()))


# What a verdict holds.


def test_a_whole_verdict() -> None:
    verdict = judged(CASES["ok"])
    engine = BlockEngine()
    before, after = engine.classify([NOISE, BEST])
    gap = BEST.astype(int) - NOISE
    assert (verdict.linf_u8, verdict.changed) == (int(np.abs(gap).max()), int(np.count_nonzero(gap)))
    assert verdict.sum_sq == int((gap * gap).sum())
    assert (verdict.height, verdict.width) == NOISE.shape[:2]
    assert verdict.adversarial_pixels == pixel_digest(BEST)
    assert (verdict.label_before, verdict.index_before) == (before.text, before.index)
    assert (verdict.label_after, verdict.index_after) == (after.text, after.index)
    assert (verdict.logits_before, verdict.logits_after) == (before.logits_digest, after.logits_digest)
    assert 980_000_000 <= verdict.ssim_ppb <= 10**9
    assert verdict.psnr_micro_db == pytest.approx(1e7 * np.log10(255**2 / (gap * gap).mean()), abs=1)
    assert verdict.saturated == 0


def test_what_no_check_reached_is_empty() -> None:
    assert judged(CASES["png-data"]) == Verdict(Reject.PNG_DATA, judged(CASES["png-data"]).detail)
    far = judged(CASES["beyond-the-cap"])
    assert (far.label_after, far.index_after, far.logits_after, far.saturated) == ("", -1, "", NOT_REACHED)
    assert far.linf_u8 == 8


def test_the_bytes_of_a_verdict_are_canonical_and_without_detail() -> None:
    verdict = Verdict(Reject.LINF_LOW, "for the log", linf_u8=0)
    fields: Any = canonical_json.decode(verdict.encode())
    assert fields["reject"] == "linf_low"
    assert fields["linf_u8"] == 0
    assert "detail" not in fields
    assert verdict.encode() == Verdict(Reject.LINF_LOW, "said otherwise", linf_u8=0).encode()
    assert verdict.encode() != Verdict(Reject.LINF_LOW, "for the log", linf_u8=1).encode()


# Order.


def both(first: str, second: str) -> tuple[Task, bytes, str | None]:
    """One response with two faults."""
    loud = NOISE.copy()
    loud[0, 0, 0] ^= 0x80
    bad_png = make_verdicts.plain_png(loud) + b"\0"
    faults: dict[str, dict[str, Any]] = {
        "task": {"task_id": "0-99"},
        "no image": {"perturbed_image_b64": None, "pixels_sha256": None},
        "base64": {"perturbed_image_b64": "*"},
        "png": {"perturbed_image_b64": encode_base64(bad_png)},
        "claim": {"pixels_sha256": "0" * 64},
    }
    body = message(loud, **faults.get(second, {}), **faults.get(first, {}))
    task = CASES["ok"].to_task()
    changes: dict[str, Any] = {}
    if first == "size":
        changes["max_body_bytes"] = 10
    if second == "label":
        changes["true_label"] = "otter"
    fields = {**vars(task), **changes}
    return Task(**fields), body, "1" * 64 if second == "signed" else None


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ("size", "task", Reject.BODY_TOO_LARGE),
        ("task", "no image", Reject.BAD_MESSAGE),
        ("task", "base64", Reject.BAD_MESSAGE),
        ("no image", "signed", Reject.NO_IMAGE),
        ("base64", "claim", Reject.BAD_BASE64),
        ("png", "claim", Reject.PNG_TRAILING),
        ("claim", "loud", Reject.PIXELS_MISMATCH),
        ("loud", "signed", Reject.PIXELS_MISMATCH),
        ("loud", "label", Reject.LINF_HIGH),
    ],
)
def test_the_first_check_that_fails_names_the_code(first: str, second: str, code: Reject) -> None:
    task, body, signed = both(first, second)
    engine = BlockEngine()
    assert verify(task, body, engine, signed_pixels=signed).reject is code
    assert engine.calls == []


@pytest.mark.parametrize(
    ("min_ssim", "min_psnr_db", "code"),
    [
        ("0.99", "60", Reject.SSIM_LOW),
        ("0.9", "60", Reject.PSNR_LOW),
        ("0.9", "30", Reject.CLEAN_MISLABELLED),
    ],
)
def test_ssim_comes_before_psnr_and_both_before_the_model(
    min_ssim: str, min_psnr_db: str, code: Reject
) -> None:
    case = CASES["psnr-low"]
    rules = TASK.rules.model_copy(update={"min_ssim": min_ssim, "min_psnr_db": min_psnr_db})
    if code is Reject.SSIM_LOW:
        rules = rules.model_copy(update={"min_ssim": "0.999"})
    task = Task(**{**vars(case.to_task()), "rules": rules, "true_label": "nobody"})
    assert verify(task, case.body, BlockEngine()).reject is code


def test_an_engine_that_saturated_is_not_believed_about_labels() -> None:
    case = CASES["indeterminate"]
    task = Task(**{**vars(case.to_task()), "true_label": "nobody"})
    verdict = verify(task, case.body, BlockEngine())
    assert (verdict.reject, verdict.saturated) == (Reject.INDETERMINATE, 1)
    clean = task.clean.copy()
    clean[0, 0] = MAGENTA  # the clean image's word counts as little
    both_sick = Task(**{**vars(task), "clean": clean})
    assert verify(both_sick, case.body, BlockEngine()).saturated == 2


def test_a_clean_image_that_saturates_is_enough() -> None:
    clean = make_verdicts.clean_images()["nearly-magenta"].copy()
    healthy = flip(BlockEngine(), clean)
    clean[0, 0] = MAGENTA
    verdict = verify(Task(**{**vars(TASK), "clean": clean}), message(healthy), BlockEngine())
    assert (verdict.reject, verdict.saturated) == (Reject.INDETERMINATE, 1)


def test_a_label_that_appears_twice_is_one_label() -> None:
    """A bug of the public version: two classes share a text, and moving between them counted as a flip."""
    verdict = judged(CASES["same-text-other-class"])
    assert verdict.reject is Reject.LABEL_UNCHANGED
    assert verdict.label_before == verdict.label_after == "heron"
    assert {verdict.index_before, verdict.index_after} == {0, 2}
    assert LABELS[0] == LABELS[2]


def test_the_challenge_s_label_is_a_text_too() -> None:
    twin = make_verdicts.clean_images()["twin"]
    task = Task(**{**vars(CASES["same-text-other-class"].to_task()), "true_label": LABELS[0]})
    assert verify(task, message(flip(BlockEngine(), twin)), BlockEngine()).reject is Reject.OK


# Rounds.


def mixture() -> st.SearchStrategy[list[str]]:
    same_task = [name for name, case in CASES.items() if case.clean == "noise" and not case.task]
    return st.lists(st.sampled_from(same_task), max_size=8)


@given(names=mixture())
@settings(max_examples=40)
def test_a_round_is_its_responses_one_by_one(names: list[str]) -> None:
    engine = BlockEngine()
    chosen = [CASES[name] for name in names]
    verification = Verification(TASK, engine)
    read = [verification.read(case.body, signed_pixels=case.signed_pixels) for case in chosen]
    found = verification.conclude(read)
    assert found == [judged(case) for case in chosen]
    passed = {verdict.adversarial_pixels for verdict in found if verdict.index_after != NOT_REACHED}
    assert engine.calls == ([1 + len(passed)] if passed else [])


def test_identical_pixels_are_classified_once_whatever_bytes_carry_them() -> None:
    engine = BlockEngine()
    bodies = [CASES[name].body for name in ("ok", "ok-signed", "ok", "unchanged")]
    verification = Verification(TASK, engine)
    found = verification.conclude([verification.read(body) for body in bodies])
    assert [verdict.reject for verdict in found] == [Reject.OK, Reject.OK, Reject.OK, Reject.LABEL_UNCHANGED]
    assert engine.calls == [1 + 2]


def test_a_known_clean_label_is_not_asked_for_again() -> None:
    known = BlockEngine().classify([NOISE])[0]
    engine = BlockEngine()
    assert verify(TASK, CASES["ok"].body, engine, clean=known) == judged(CASES["ok"])
    assert engine.calls == [1]


def test_an_empty_round() -> None:
    assert Verification(TASK, BlockEngine()).conclude([]) == []


# Hostile bytes.


@given(body=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_and_raise_nothing(body: bytes) -> None:
    assert verify(TASK, body, BlockEngine()).reject is Reject.BAD_MESSAGE


@given(
    name=st.sampled_from(["ok", "other-pixels-claimed", "png-bomb"]),
    edits=st.lists(st.tuples(st.integers(0, 4500), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 4500),
)
@settings(max_examples=150)
def test_damaged_responses_raise_nothing(name: str, edits: list[tuple[int, int]], cut: int) -> None:
    body = bytearray(CASES[name].body)
    for place, value in edits:
        body[place % len(body)] = value
    del body[len(body) - cut % 50 :]
    verdict = verify(TASK, bytes(body), BlockEngine())
    assert verdict.reject in set(Reject) - NOT_FROM_BYTES
    canonical_json.decode(verdict.encode())


JUNK = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30))


@given(
    fields=st.dictionaries(
        st.sampled_from(["task_id", "challenge_id", "perturbed_image_b64", "pixels_sha256", "reason"]), JUNK
    )
)
def test_fields_of_any_kind_raise_nothing(fields: dict[str, Any]) -> None:
    assert verify(TASK, message(BEST, **fields), BlockEngine()).reject in set(Reject) - NOT_FROM_BYTES


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000", "\\udfff\\ud800", "é"])
def test_strange_characters_raise_nothing(text: str) -> None:
    for name in ("task_id", "perturbed_image_b64", "reason"):
        body = CASES["ok-signed"].body
        value = json.loads(body)[name]
        strange = body.replace(json.dumps(value).encode(), f'"{text}"'.encode())
        assert strange != body
        assert verify(TASK, strange, BlockEngine()).reject in {
            Reject.BAD_MESSAGE,
            Reject.BAD_BASE64,
            Reject.OK,
        }


def test_the_engine_gets_the_clean_image_first() -> None:
    class Recorder(BlockEngine):
        seen: list[str]

        def classify(self, images: Any) -> list[Classification]:
            self.seen = [pixel_digest(pixels) for pixels in images]
            return super().classify(images)

    engine = Recorder()
    judged(CASES["ok"], engine)
    assert engine.seen == [pixel_digest(NOISE), pixel_digest(BEST)]


def test_a_clean_image_of_another_size_is_the_size_that_counts() -> None:
    wide: Pixels = texture("wide", 32, 33)
    task = Task(**{**vars(TASK), "clean": wide})
    assert verify(task, CASES["ok"].body, BlockEngine()).reject is Reject.PNG_SIZE
