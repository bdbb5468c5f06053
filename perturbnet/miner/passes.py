"""The model's one thread: what several searches ask is joined into batches, and shared out fairly.

Rules
- Everything that costs model time goes through here: logits and gradients to search with, the verifier's
  classifications to decide. One thread works, so the device never does two things at once and no search's
  verification waits behind all of another's.
- A batch takes questions of one kind from as many searches as fit `images_per_pass`, images of any sizes. A
  question that is larger is answered in parts, so nobody waits longer than a pass for one.
- The search that has had least of the model goes first, then the earlier deadline. One that comes later, or
  has thought for itself, starts from where the others are: it neither shuts them out nor saves up.
- A search that was stopped is told so (`AttackError`) at its next question, and what it asked is dropped: at
  most the pass under way is wasted.
- Memory: a search waits for its answer, so there is one question for each; and a pass is bounded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perturbnet.classifier.oracle import Floats, MarginQuestion
from perturbnet.errors import AttackError
from perturbnet.rules.classification import Classification, Engine
from perturbnet.wire.images import Pixels

Part = Any  # what one image, or a few, of a question are answered with

log = logging.getLogger(__name__)


class JointOracle(Protocol):
    """An oracle that answers several questions in one pass: `classifier.oracle.FloatOracle`."""

    @property
    def labels(self) -> Sequence[str]:
        """Class texts by index."""
        ...

    def answer_logits(self, batches: Sequence[Pixels]) -> list[Floats]:
        """Logits of several batches."""
        ...

    def answer_margins(self, questions: Sequence[MarginQuestion]) -> list[tuple[Floats, Floats]]:
        """Margins and gradients of several questions."""
        ...


@dataclass(eq=False)
class PassClient:
    """One search at the model: when it must end, whether it is still wanted, and what it has had.

    `used` is in the cost of a forward pass of one image.
    """

    deadline_s: float
    stopped: Callable[[], bool]
    used: float = 0.0


@dataclass(eq=False)
class _Question:
    """One call of a search: `size` images, answered `done` so far."""

    client: PassClient
    kind: _Kind
    size: int
    cut: Callable[[int, int], Any]  # the part of it between two images
    answer: Future[list[Part]] = field(default_factory=Future)
    parts: list[Part] = field(default_factory=list)
    done: int = 0


@dataclass(frozen=True)
class _Kind:
    """A kind of pass: how several parts are answered at once, and what an image of it costs."""

    name: str
    answer: Callable[[list[Any]], Sequence[Part]]
    weight: float


GRADIENT_WEIGHT = 3.0  # of a forward pass: forward, and backward through inputs
VERDICT_WEIGHT = 3.0  # canonical inference against float32 (docs/inference-cost.md)


class ModelThread:
    """See the module. `joined` counts passes that served more than one search."""

    def __init__(self, oracle: JointOracle, engine: Engine, *, images_per_pass: int = 1) -> None:
        """Start the thread. `close` ends it."""
        self.oracle, self.engine, self.images_per_pass = oracle, engine, images_per_pass
        self.passes = self.joined = 0
        self._logits = _Kind("logits", oracle.answer_logits, 1.0)
        self._margins = _Kind("margins", oracle.answer_margins, GRADIENT_WEIGHT)
        self._verdicts = _Kind("verdicts", self._classify, VERDICT_WEIGHT)
        self._waiting: list[_Question] = []
        self._level = 0.0  # what the search served last had had before
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def logits(self, client: PassClient, batch: Pixels) -> Floats:
        """Float32 logits (N, classes) of uint8 images (N, H, W, 3).

        Raises:
            AttackError: the search was stopped, or the thread closed.

        """
        return np.concatenate(
            self._ask(client, self._logits, len(batch), lambda start, end: batch[start:end])
        )

    def margins(self, client: PassClient, question: MarginQuestion) -> tuple[Floats, Floats]:
        """Margins (N,) and gradients (N, H, W, 3).

        Raises:
            AttackError: see `logits`.

        """
        parts = self._ask(
            client, self._margins, len(question.batch), lambda start, end: _cut(question, start, end)
        )
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def classify(self, client: PassClient, images: Sequence[Pixels]) -> list[Classification]:
        """The engine's classifications, each image by itself.

        Raises:
            AttackError: see `logits`.

        """
        parts = self._ask(client, self._verdicts, len(images), lambda start, end: images[start:end])
        return [found for part in parts for found in part]

    def forget(self, client: PassClient) -> None:
        """Drop what a stopped search asked, at once; its call raises."""
        with self._changed:
            self._drop([question for question in self._waiting if question.client is client])

    def close(self) -> None:
        """End the thread after the pass under way; every question is answered with `AttackError`."""
        with self._changed:
            self._closed = True
            self._drop(list(self._waiting))
            self._changed.notify_all()

    def _ask(self, client: PassClient, kind: _Kind, size: int, cut: Callable[[int, int], Any]) -> list[Part]:
        if size == 0:
            raise ValueError(f"{kind.name} of no image were asked for")
        question = _Question(client, kind, size, cut)
        with self._changed:
            if self._closed or client.stopped():
                raise AttackError("the search was stopped")
            client.used = max(client.used, self._level)
            self._waiting.append(question)
            self._changed.notify()
        return question.answer.result()

    def _drop(self, questions: list[_Question]) -> None:
        for question in questions:
            self._waiting.remove(question)
            question.answer.set_exception(AttackError("the search was stopped"))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                self._drop([question for question in self._waiting if question.client.stopped()])
                batch = self._choose()
            if batch:
                self._pass(batch)

    def _choose(self) -> list[tuple[_Question, int]]:
        """The questions of the next pass, and how many images of each."""
        order = sorted(self._waiting, key=lambda one: (one.client.used, one.client.deadline_s))
        if not order:
            return []
        self._level = order[0].client.used
        chosen: list[tuple[_Question, int]] = []
        room = self.images_per_pass
        for question in order:
            if room and question.kind is order[0].kind:
                images = min(room, question.size - question.done)
                chosen.append((question, images))
                room -= images
        return chosen

    def _pass(self, batch: list[tuple[_Question, int]]) -> None:
        kind = batch[0][0].kind
        try:
            answers = kind.answer([one.cut(one.done, one.done + images) for one, images in batch])
        except Exception as error:  # noqa: BLE001 - the edge of a thread: the searches that asked are told
            log.debug("A pass of %s failed: %s", kind.name, error)
            with self._changed:
                for question, _ in batch:
                    self._finish(question, error)
            return
        self.passes += 1
        self.joined += len(batch) > 1
        with self._changed:
            for (question, images), answer in zip(batch, answers, strict=True):
                question.client.used += images * kind.weight
                question.parts.append(answer)
                question.done += images
                if question.done == question.size:
                    self._finish(question, None)

    def _finish(self, question: _Question, error: Exception | None) -> None:
        if question not in self._waiting:
            return  # dropped while the pass was under way
        self._waiting.remove(question)
        if error is None:
            question.answer.set_result(question.parts)
        else:
            question.answer.set_exception(error)

    def _classify(self, parts: list[Sequence[Pixels]]) -> list[list[Classification]]:
        found = iter(self.engine.classify([pixels for part in parts for pixels in part]))
        return [[next(found) for _ in part] for part in parts]


@dataclass
class SharedOracle:
    """The `Oracle` of one search: its questions go to the model's thread."""

    thread: ModelThread
    client: PassClient
    forward_passes: int = 0
    backward_passes: int = 0

    @property
    def labels(self) -> Sequence[str]:
        """Class texts by index."""
        return self.thread.oracle.labels

    def logits(self, batch: Pixels) -> Floats:
        """See `ModelThread.logits`."""
        self.forward_passes += len(batch)
        return self.thread.logits(self.client, batch)

    def margin_grad(
        self, batch: Pixels, label_indices: NDArray[np.int64], rivals: NDArray[np.int64] | None = None
    ) -> tuple[Floats, Floats]:
        """See `ModelThread.margins`."""
        self.forward_passes += len(batch)
        self.backward_passes += len(batch)
        return self.thread.margins(self.client, MarginQuestion(batch, label_indices, rivals))


@dataclass
class SharedEngine:
    """The verifier's `Engine` for one search: its images wait their turn. `margin` is the last image's."""

    thread: ModelThread
    client: PassClient
    margin: float = float("nan")

    @property
    def name(self) -> str:
        """See `Engine`."""
        return self.thread.engine.name

    @property
    def model_name(self) -> str:
        """See `Engine`."""
        return self.thread.engine.model_name

    @property
    def model_digest(self) -> str:
        """See `Engine`."""
        return self.thread.engine.model_digest

    @property
    def labels(self) -> tuple[str, ...]:
        """See `Engine`."""
        return self.thread.engine.labels

    @property
    def together(self) -> int:
        """See `Engine`."""
        return self.thread.engine.together

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        """See `ModelThread.classify`."""
        found = self.thread.classify(self.client, images)
        self.margin = found[-1].margin
        return found


def _cut(question: MarginQuestion, start: int, end: int) -> MarginQuestion:
    rivals = None if question.rivals is None else question.rivals[start:end]
    return MarginQuestion(question.batch[start:end], question.label_indices[start:end], rivals)
