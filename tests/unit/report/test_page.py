"""The page: one file that asks for nothing, whatever a stranger's log says, and that says what it shows."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from PIL import Image

from perturbnet.errors import BundleTampered, NoteError, OutputError, Reject
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf
from perturbnet.report import (
    Report,
    ReportOptions,
    encode_summary,
    given,
    make_report,
    render_report,
    write_report,
)
from perturbnet.report.meaning import ENDINGS, EXCLUSIONS
from perturbnet.statistics.robustness import EXCLUSIONS as REASONS
from perturbnet.statistics.robustness import count_log
from perturbnet.transparency.bundle import open_bundle
from tests.support.auditing.honest import Honest
from tests.support.auditing.published import OTHER_KEY, publish
from tests.support.fakes import MemorySource, VirtualClock
from tests.support.report.pages import HOSTILE, Tags
from tests.support.report.rounds import Rounds, publish_leaves


def report_of(bundle: Path, source: MemorySource | None, **wish: object) -> Report:
    with open_bundle(bundle) as opened:
        return make_report(opened, ReportOptions(**wish), open_pictures=given(source), clock=VirtualClock())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def report(bundle: Path, honest: Honest) -> Report:
    return report_of(bundle, honest.source)


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return render_report(report)


def test_it_asks_for_nothing_and_runs_nothing(page: str) -> None:
    tags = Tags(page)
    addresses = [
        value
        for _, found in tags.found
        for name, value in found.items()
        if name in {"src", "href", "action", "data", "srcset", "poster"}
    ]
    assert addresses
    assert all(address and address.startswith("data:") for address in addresses)
    assert not tags.of("script")
    assert not re.search(r"url\((?!#)|@import|https?:", page)
    assert not any(name.startswith("on") or name == "style" for _, found in tags.found for name in found)


def test_its_policy_allows_its_own_style_and_no_other(page: str) -> None:
    [policy] = [
        str(found["content"])
        for found in Tags(page).of("meta")
        if found.get("http-equiv") == "Content-Security-Policy"
    ]
    style = page.split("<style>", 1)[1].split("</style>", 1)[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "script-src" not in policy


def test_it_says_what_the_statistics_say(page: str, report: Report, bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        counted = count_log(opened, report.config.model_digest)
    words = Tags(page).words
    stability = counted.stability
    assert f"{stability.successes} of {stability.trials} distinct images" in words
    assert f"They succeeded on {counted.broken}" in words
    assert report.log.root in words
    assert report.log.hotkey in words
    assert report.config.model_digest in words
    assert "by the log’s own word" in words or "none in the log" in words


def test_pictures_are_the_pixels_of_the_log(page: str, report: Report) -> None:
    assert len(report.gallery.plates) > 1
    for plate in report.gallery.plates:
        shown = {}
        for name in ("clean", "adversarial", "difference"):
            uri = getattr(plate, name)
            assert uri in page
            data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
            shown[name] = np.asarray(Image.open(BytesIO(data))).astype(int)
        moved = shown["adversarial"] - shown["clean"]
        assert abs(moved).max() == plate.example.attempt.leaf.linf_u8
        expected = np.clip(128 + plate.gain * moved, 0, 255)
        assert (shown["difference"] == expected).all()
        assert abs(shown["difference"] - 128).max() > 60


def test_every_picture_has_words_and_every_table_heads(page: str) -> None:
    tags = Tags(page)
    assert tags.of("img")
    assert all(found.get("alt") for found in tags.of("img"))
    drawings = [found for found in tags.of("svg") if found.get("aria-hidden") != "true"]
    assert drawings
    assert all(found.get("role") == "img" and found.get("aria-label") for found in drawings)
    assert all(found.get("scope") in {"col", "row"} for found in tags.of("th"))
    assert len(tags.of("caption")) == len(tags.of("table")) >= 3
    assert tags.of("html") == [{"lang": "en"}]
    assert len(tags.of("h1")) == 1


def test_without_the_data_set_it_says_so_and_shows_the_rest(bundle: Path) -> None:
    made = report_of(bundle, None)
    page = render_report(made)
    assert "No pictures. The data set is not on this machine" in Tags(page).words
    assert not Tags(page).of("img")
    assert made.findings.statistics.images > 0


def test_without_pictures_none_are_made(bundle: Path, honest: Honest) -> None:
    made = report_of(bundle, honest.source, pictures=0)
    assert (made.gallery.plates, made.gallery.reason) == ((), "They were not asked for.")


def test_another_data_set_gives_no_picture(bundle: Path) -> None:
    made = report_of(bundle, MemorySource(rows=3))
    assert made.gallery.plates == ()
    assert "nother data set" in made.gallery.reason


def test_an_answer_whose_delta_is_gone_gives_way_to_the_next(
    report: Report, bundle: Path, honest: Honest, tmp_path: Path
) -> None:
    folder = publish_leaves(honest.leaves(), honest, tmp_path / "log")
    gone = report.gallery.plates[0].example.attempt.leaf.delta
    (folder / "blobs" / gone[:2] / gone).unlink()
    shown = [plate.example.attempt.leaf.delta for plate in report_of(folder, honest.source).gallery.plates]
    assert gone not in shown
    assert shown


def test_a_picture_with_other_pixels_is_not_shown(honest: Honest, tmp_path: Path) -> None:
    leaves = [
        structs.replace(leaf, adversarial_pixels="00" * 32)
        if isinstance(leaf, ReceiptLeaf) and leaf.delta
        else leaf
        for leaf in honest.leaves()
    ]
    made = report_of(publish(leaves, tmp_path / "log", honest.blobs.folder), honest.source)
    assert made.gallery.plates == ()
    assert "adversarial image: expected 0000" in made.gallery.reason


def test_a_strangers_words_are_words(rounds: Rounds, honest: Honest, tmp_path: Path) -> None:
    leaves = list(rounds.long_log(0))
    made = rounds.make({"hotkey": HOSTILE, "label_after": HOSTILE}, true_label=HOSTILE, source_label=HOSTILE)
    dataset = made.config.dataset | {"repository": HOSTILE, "revision": HOSTILE}
    config = structs.replace(made.config, model_name=HOSTILE, environment={"cpu": HOSTILE}, dataset=dataset)
    place = made.challenge.config
    leaves[place] = config
    challenge = structs.replace(made.challenge, asked=made.challenge.asked[:1])
    receipt = structs.replace(made.attempts[0].leaf, challenge=len(leaves), uid=challenge.asked[0])
    leaves += [challenge, structs.replace(receipt, challenge_id=_hash(challenge))]
    found = report_of(publish(leaves, tmp_path / "log", honest.blobs.folder), honest.source)
    page = render_report(found)
    assert found.findings.statistics.images == 1
    tags = Tags(page)
    assert not tags.of("script")
    assert not [image for image in tags.of("img") if not str(image["src"]).startswith("data:")]
    assert "alert(1)" in tags.words  # it is shown
    assert "\u202e" not in page
    assert "\x00" not in page


def _hash(leaf: ChallengeLeaf) -> str:
    from perturbnet.ledger import leaf_hash

    return leaf_hash(leaf.encode())


def test_a_range_of_leaves_is_a_report_of_its_own(bundle: Path, honest: Honest) -> None:
    places = honest.places(ChallengeLeaf)
    made = report_of(bundle, honest.source, since=places[2], until=places[5])
    assert made.findings.statistics.rounds == 3
    assert (made.log.since, made.log.size) == (places[2], places[5])
    assert f"--since {places[2]} --until {places[5]}" in render_report(made)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"since": 10**6}, "leaves from 1000000 to"),
        ({"until": 10**6}, "to 1000000 of a log of"),
        ({"until": 2}, "no challenge among the leaves from 0 to 2"),
        ({"model": "ab" * 32}, "no complete round of the model abab"),
    ],
)
def test_what_the_log_does_not_have_is_named(bundle: Path, wish: dict[str, object], said: str) -> None:
    with pytest.raises(OutputError, match=said):
        report_of(bundle, None, **wish)


def test_a_log_that_its_key_did_not_sign_is_refused(honest: Honest, tmp_path: Path) -> None:
    folder = publish(honest.leaves(), tmp_path / "log", honest.blobs.folder, key=OTHER_KEY)
    with pytest.raises(NoteError):
        report_of(folder, None)


def test_a_leaf_that_was_changed_is_refused(honest: Honest, tmp_path: Path) -> None:
    folder = publish_leaves(honest.leaves(), honest, tmp_path / "log")
    [entries] = list((folder / "tile" / "entries").glob("**/*.p/*"))
    entries.write_bytes(entries.read_bytes().replace(b'"score_ppb":0', b'"score_ppb":9', 1))
    with pytest.raises(BundleTampered):
        report_of(folder, None)


def test_a_round_that_is_cut_off_is_left_out_and_named(honest: Honest, tmp_path: Path) -> None:
    last = honest.places(ChallengeLeaf)[-1]
    folder = publish_leaves(honest.leaves()[: last + 2], honest, tmp_path / "log")
    page = render_report(report_of(folder, None))
    assert "1 left out: not everybody who was asked has a receipt" in Tags(page).words


def test_a_file_that_cannot_be_written_is_named(report: Report, tmp_path: Path) -> None:
    assert write_report(tmp_path / "page.html", report) == (tmp_path / "page.html").stat().st_size
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / "no" / "page.html"))):
        write_report(tmp_path / "no" / "page.html", report)


def test_the_same_report_gives_the_same_page(report: Report, bundle: Path, honest: Honest) -> None:
    assert render_report(report_of(bundle, honest.source)) == render_report(report)


def test_the_numbers_as_json(report: Report) -> None:
    found = json.loads(encode_summary(report))
    assert found["statistics"]["images"] == report.findings.statistics.images
    assert found["log"]["root"] == report.log.root
    assert found["curve"][-1]["broken"] == found["statistics"]["broken"]
    assert found["distances"]["linf_u8"]["count"] > 0
    assert found["pictures"] == len(report.gallery.plates)


def test_every_code_and_every_reason_has_a_meaning() -> None:
    assert set(ENDINGS) == set(Reject)
    assert set(EXCLUSIONS) == set(REASONS)


def test_an_offline_evaluation_names_its_attacks_and_its_own_check(report: Report) -> None:
    uid = report.findings.standings.ranked_miners()[0].uid
    environment = {**report.config.environment, "attacks": f"{uid} exchange, x y, 99999999999 z"}
    config = structs.replace(report.config, environment=environment, engine="float64-plain")
    offline = replace(report, log=replace(report.log, network="offline"), config=config)
    assert offline.attacks == {uid: "exchange"}
    words = Tags(render_report(offline)).words
    assert f"{uid} exchange" in words
    assert "perturb evaluate" in words
    assert "perturb audit BUNDLE" not in words
    assert "not bit-reproducible" in words
    assert "nothing pins the log on a chain" in words
    assert report.attacks == {}
