"""Public attacks from foolbox and adversarial-library, for `perturb bench attacks --against public`.

They are no part of the environment and of no lock: `uv pip install foolbox==3.3.4 adv-lib==0.2.8
--build-constraints FILE`, with a FILE that says `setuptools<80`, because adv-lib asks for visdom, which is
built with a module that setuptools has dropped.

Each knows nothing of time, so it is given steps that end by the next of the budgets of the table, then more:
a result by 1 s, a better one by 2 s, and so on. Between runs their float images are quantised and shown.

- LInf-FMN, foolbox: Pintor et al. 2021, arXiv:2102.12827
- σ-zero, adversarial-library: Cinà et al. 2024, arXiv:2402.01879; inside the cube of the least level it flips
  at, because it counts changed values and knows no L-inf
- PDPGD for L-inf, adversarial-library: Matyasko and Chau 2021, arXiv:2106.01538
- the two with `-elimination` take changed values back afterwards, as public miners describe it
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from perturbnet.attack_comparison.metering import MeteredOracle
from perturbnet.attack_comparison.quantising import eliminate, show_quantised
from perturbnet.attacks import AttackResult, AttackTask, Deadline, Oracle
from perturbnet.attacks.ground import Change
from perturbnet.attacks.protocol import Floats
from perturbnet.errors import AttackError

if TYPE_CHECKING:
    import torch

ENDS_S = (0.85, 1.8, 4.6, 9.0)  # when a run should end; the first are a little before the table's budgets
LEAST_STEPS, MOST_STEPS = 10, 1000
ELIMINATION_SHARE = 0.6  # of the time of a run goes to the attack, where values are taken back after it


class _Library:
    """A library's attack in rounds; `_attack` is all that differs."""

    name: str
    eliminates = False

    def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
        """The smallest accepted image, or none."""
        if not isinstance(oracle, MeteredOracle):
            raise AttackError(f"{self.name} runs in the bench only", hint="choose exchange or pgd")
        clock = oracle.meter.clock
        started_s = clock.monotonic_s()
        total_s = deadline.remaining_s
        best: Change | None = None
        level_at = 0
        step_s = self._time_a_step(oracle, task)
        for end_s in [end for end in ENDS_S if end <= total_s] or [0.9 * total_s]:
            left_s = started_s + end_s - clock.monotonic_s()
            steps = int(left_s * (ELIMINATION_SHARE if self.eliminates else 1.0) / step_s)
            if steps < LEAST_STEPS:
                continue
            change, level_at = self._attack(oracle, task, min(steps, MOST_STEPS), level_at)
            found = None if change is None else show_quantised(oracle, task, change)
            if found is not None and self.eliminates:
                end = Deadline(clock, started_s + end_s - 4 * step_s)
                found = eliminate(oracle, task, found, end)
            best = found if found is not None else best
        if best is None:
            return AttackResult(None, 0, "no flip")
        image = (task.clean.astype(np.int16) + best.reshape(task.clean.shape)).astype(np.uint8)
        return AttackResult(image, int(np.abs(best).max()), f"{len(ENDS_S)} runs")

    def _attack(
        self, oracle: MeteredOracle, task: AttackTask, steps: int, level_at: int
    ) -> tuple[Floats | None, int]:
        raise NotImplementedError

    @staticmethod
    def _time_a_step(oracle: MeteredOracle, task: AttackTask) -> float:
        before_s = oracle.meter.clock.monotonic_s()
        oracle.margin_grad(task.clean[None], np.array([task.label_index]))
        return max(oracle.meter.clock.monotonic_s() - before_s, 1e-4) * 1.05


class FoolboxFmn(_Library):
    """See the module."""

    name = "foolbox-fmn"

    def _attack(
        self, oracle: MeteredOracle, task: AttackTask, steps: int, level_at: int
    ) -> tuple[Floats | None, int]:
        foolbox = _package(self.name, "foolbox")
        model = foolbox.PyTorchModel(_module(oracle), bounds=(0, 1), device="cpu")
        clean, label = _tensors(task)
        attack = foolbox.attacks.LInfFMNAttack(steps=steps)
        found = attack.run(model, clean, foolbox.criteria.Misclassification(label))
        return _levels(found - clean), level_at


class Pdpgd(_Library):
    """See the module."""

    name = "pdpgd"

    def _attack(
        self, oracle: MeteredOracle, task: AttackTask, steps: int, level_at: int
    ) -> tuple[Floats | None, int]:
        attacks = _package(self.name, "adv_lib.attacks")
        clean, label = _tensors(task)
        found = attacks.pdpgd(_module(oracle), clean, label, norm=float("inf"), num_steps=steps)
        return _levels(found - clean), level_at


class SigmaZero(_Library):
    """See the module."""

    name = "sigma-zero"

    def _attack(
        self, oracle: MeteredOracle, task: AttackTask, steps: int, level_at: int
    ) -> tuple[Floats | None, int]:
        attacks = _package(self.name, "adv_lib.attacks")
        clean, label = _tensors(task)
        share = steps if level_at else max(LEAST_STEPS, steps // 3)
        for level in task.levels[level_at and level_at - 1 :]:
            boxed = _module(oracle, clean, level / 255)
            found = boxed.inside(attacks.sigma_zero(boxed, clean, label, num_steps=min(share, steps)))
            if oracle.forward(found).argmax() != label:
                return _levels(found - clean), level
            steps -= share
            if steps < LEAST_STEPS:
                return None, min(level + 1, task.levels[-1])
        return None, level_at


class FoolboxFmnEliminated(FoolboxFmn):
    """See the module."""

    name = "foolbox-fmn-elimination"
    eliminates = True


class SigmaZeroEliminated(SigmaZero):
    """See the module."""

    name = "sigma-zero-elimination"
    eliminates = True


def _package(name: str, module: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # adv_lib compares versions with distutils
            return importlib.import_module(module)
    except ImportError as error:
        hint = "benchmarks/attack_peers.py says how to install it"
        raise AttackError(f"{name} needs {module.partition('.')[0]}: {error}", hint=hint) from error


def _module(oracle: MeteredOracle, clean: torch.Tensor | None = None, most: float = 1.0) -> Any:
    """The network as libraries want it; with `clean`, of the image's part that stays within `most` of it."""
    from torch import Tensor, nn

    class Boxed(nn.Module):
        def inside(self, images: Tensor) -> Tensor:
            return images if clean is None else clean + (images - clean).clamp(-most, most)

        def forward(self, images: Tensor) -> Tensor:
            return oracle.forward(self.inside(images))

    return Boxed().eval()


def _tensors(task: AttackTask) -> tuple[torch.Tensor, torch.Tensor]:
    """The clean image (1, 3, H, W) in 0 to 1, and its label (1,)."""
    import torch

    clean = torch.from_numpy(task.clean.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()
    return clean, torch.tensor([task.label_index])


def _levels(difference: torch.Tensor) -> Floats:
    """A change (1, 3, H, W) of full scale as levels, flat in the image's order."""
    flat: Floats = (difference[0].detach().permute(1, 2, 0).reshape(-1) * 255).numpy().astype(np.float32)
    return flat
