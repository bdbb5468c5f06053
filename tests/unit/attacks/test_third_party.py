"""The example of docs/attacks.md: it is as short as it says, runs, and its answers are accepted."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from perturbnet.attack_comparison.contenders import open_contender
from perturbnet.attacks import Attack, AttackTask, Deadline
from perturbnet.wire.images import Pixels
from tests.support.fakes import BlockEngine, BlockOracle, VirtualClock, texture

PAGE = Path(__file__).resolve().parents[3] / "docs" / "attacks.md"
ENGINE = BlockEngine()


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attack:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 30
    (tmp_path / "my_attack.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return open_contender("my_attack:FewestValues")


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_what_the_verifier_accepts(example: Attack, seed: int) -> None:
    clean = texture(f"example-{seed}")
    label = ENGINE.classify([clean])[0]

    def accepts(pixels: Pixels) -> bool:
        return ENGINE.classify([pixels])[0].text != label.text

    task = AttackTask(clean, label.index, range(1, 30), accepts)
    result = example.run(BlockOracle(ENGINE), task, Deadline(VirtualClock(0.0), 9.0))
    assert result.adversarial is not None
    assert accepts(result.adversarial)
    assert np.abs(result.adversarial.astype(int) - clean).max() == result.linf_u8
    assert np.count_nonzero(result.adversarial != clean) < clean.size


def test_it_keeps_its_deadline(example: Attack) -> None:
    clock = VirtualClock(0.0)

    def accepts(_pixels: Pixels) -> bool:
        clock.advance(1.0)
        return True

    task = AttackTask(texture("late"), 0, [1, 2], accepts)
    example.run(BlockOracle(ENGINE), task, Deadline(clock, 3.5))
    assert clock.now_s <= 4.5
