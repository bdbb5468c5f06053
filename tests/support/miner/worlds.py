"""What the miner's tests share: a challenge on a texture, an oracle that answers jointly, attacks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perturbnet.attacks import AttackResult, AttackTask, Deadline, Oracle
from perturbnet.classifier.oracle import Floats, MarginQuestion
from perturbnet.wire.images import Pixels, encode_base64, encode_png
from perturbnet.wire.messages import AttackChallenge
from tests.support.fakes import LABELS, RULES, BlockEngine, BlockOracle, texture

CLEAN = texture("miner")
TIMEOUT_S = RULES.timeout_ms / 1000


class JointOracle(BlockOracle):
    """`BlockOracle` for the model's thread. `batches` lists how many questions each pass answered."""

    labels = LABELS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.batches: list[list[int]] = []

    def answer_logits(self, batches: Sequence[Pixels]) -> list[Floats]:
        self.batches.append([len(batch) for batch in batches])
        return [self.logits(batch) for batch in batches]

    def answer_margins(self, questions: Sequence[MarginQuestion]) -> list[tuple[Floats, Floats]]:
        self.batches.append([len(question.batch) for question in questions])
        return [self.margin_grad(one.batch, one.label_indices, one.rivals) for one in questions]


def challenge(clean: Pixels = CLEAN, **changes: Any) -> AttackChallenge:
    fields: dict[str, Any] = {
        "task_id": "0-3",
        "model_name": BlockEngine.model_name,
        "clean_image_b64": encode_base64(encode_png(clean)),
        "true_label": BlockEngine().classify([clean])[0].text,
        "epsilon": 0.08,
        "min_delta": 0.003,
        "timeout_seconds": TIMEOUT_S,
        "challenge_id": "c" * 64,
        "protocol_fingerprint": "f" * 64,
        "rules": RULES,
    }
    return AttackChallenge(**{**fields, **changes})


def patient(timeout_s: float, **changes: Any) -> AttackChallenge:
    """A challenge with another time-out."""
    rules = RULES.model_copy(update={"timeout_ms": round(timeout_s * 1000)})
    return challenge(rules=rules, timeout_seconds=timeout_s, **changes)


class Scripted:
    """An attack that does what a test wants."""

    name = "scripted"

    def __init__(self, act: Callable[[AttackTask, Deadline], AttackResult]) -> None:
        self.act = act
        self.runs = 0

    def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
        self.runs += 1
        return self.act(task, deadline)


class Gate:
    """An attack that waits until it is let go, and watches for company."""

    name = "gate"

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self.running = self.most = self.runs = 0

    def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
        with self.lock:
            self.runs += 1
            self.running += 1
            self.most = max(self.most, self.running)
        self.begun.set()
        assert self.open.wait(10)
        with self.lock:
            self.running -= 1
        return AttackResult(None, 0, "let go")


class Stubborn:
    """An attack that finds an image and then asks for gradients for ever, whatever the deadline says."""

    name = "stubborn"

    def __init__(self, found: Pixels | None = None) -> None:
        self.found = found
        self.asked = 0
        self.busy, self.ended = threading.Event(), threading.Event()

    def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
        try:
            if self.found is not None:
                assert task.accepts(self.found)
            while True:
                self.asked += 1
                if self.asked == 3:
                    self.busy.set()
                labels: NDArray[np.int64] = np.array([task.label_index])
                oracle.margin_grad(task.clean[None], labels)
        finally:
            self.ended.set()
