"""Train the reference network on the rendered train split and write its weights and their pin.

Plain supervised training: AdamW (I. Loshchilov and F. Hutter, 2019, arXiv:1711.05101), one-cycle learning
rate (L. N. Smith and N. Topin, 2018, arXiv:1708.07120), random square crops, mirrors, channel orders and
gains. No
adversarial training and no noise: the network is meant to be as easy to fool as an ordinary one.

One thread and fixed seeds: the same machine and library versions give the same file. Other ones give other
last bits, and so another network of the same kind; that is why the weights are shipped and pinned, and this
is a recipe.

    python recipes/reference/train.py --cache DIR
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch.nn.functional import cross_entropy

from perturbnet.classifier.architecture import REFERENCE_NAME, build_reference
from perturbnet.classifier.engine import prepare
from perturbnet.classifier.labels import REFERENCE_LABELS
from perturbnet.classifier.preprocessing import REFERENCE
from perturbnet.datasets import open_source
from perturbnet.runtime.artifacts import sha256_file, write_durably
from perturbnet.wire import canonical_json

DATA = Path(__file__).parents[2] / "perturbnet" / "data"
WEIGHTS = "reference.safetensors"


@dataclass(frozen=True)
class Recipe:
    """Every number of the training.

    The digest of these, the data set and this network's name is in the pin.
    """

    cycles: tuple[tuple[int, float, float], ...] = (
        (40, 4e-3, 1.0),
        (24, 3e-3, 1.0),
        (24, 3e-3, 1.0),
        (12, 2e-3, 0.35),
    )  # epochs, highest learning rate, least contrast (1: images as they are)
    batch: int = 32
    weight_decay: float = 0.02
    warm_up: float = 0.1  # share of a cycle's steps
    smallest_crop: int = 96  # pixels; the larger of two draws up to the height
    vertical_shift: int = 8  # pixels, from the middle
    horizontal_shift: int = 12
    gain: float = 0.2  # brightness is multiplied by 1 ± this
    seed_weights: int = 1
    seed_draws: int = 2  # plus the cycle's number, from 0


class Augment:
    """Draws a batch's crops, mirrors, channel order and gains from one generator."""

    def __init__(self, recipe: Recipe, draws: torch.Generator, least_contrast: float) -> None:
        """Draw by `recipe` from `draws`."""
        self._recipe, self._draws, self._least_contrast = recipe, draws, least_contrast

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Turn uint8 (N, H, W, 3) into the network's input (N, 3, S, S), each image cropped on its own."""
        channels = torch.randperm(3, generator=self._draws)
        spread = 2 * torch.rand(len(batch), generator=self._draws) - 1
        crops = [self._crop(image).float()[None, :, :, channels] for image in batch]
        bright = [
            (crop * (1 + self._recipe.gain * float(gain))).clamp(0, 255)
            for crop, gain in zip(crops, spread, strict=True)
        ]
        inputs = torch.cat([prepare(crop, REFERENCE) for crop in bright])
        if self._least_contrast < 1:
            inputs = self._fade(inputs)
        return inputs.contiguous(memory_format=torch.channels_last)

    def _fade(self, inputs: torch.Tensor) -> torch.Tensor:
        """Draw every image towards its mean, so that the network learns to see faint figures."""
        least = self._least_contrast
        contrast = least + (1 - least) * torch.rand(len(inputs), 1, 1, 1, generator=self._draws)
        mean = inputs.mean(dim=(1, 2, 3), keepdim=True)
        return mean + contrast * (inputs - mean)

    def _crop(self, image: torch.Tensor) -> torch.Tensor:
        height, width, _ = image.shape
        side = max(self._between(self._recipe.smallest_crop, height) for _ in range(2))
        reach = min(self._recipe.vertical_shift, (height - side) // 2)
        top = (height - side) // 2 + self._between(-reach, reach)
        reach = self._recipe.horizontal_shift
        left = max((width - side) // 2 + self._between(-reach, reach), 0)
        crop = image[top : top + side, left : left + side]
        if self._between(0, 1):
            crop = crop.flip(0)
        if self._between(0, 1):
            crop = crop.flip(1)
        return crop.transpose(0, 1) if self._between(0, 1) else crop

    def _between(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=self._draws))


def load_rows(cache: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the train split: uint8 (N, H, W, 3) and labels (N,)."""
    source = open_source("reference", cache_dir=cache, split="train")
    images = [source.read(row) for row in range(source.identity.rows)]
    pixels = torch.from_numpy(np.stack([image.pixels for image in images]))
    return pixels, torch.tensor([image.label_index for image in images])


def train(recipe: Recipe, pixels: torch.Tensor, labels: torch.Tensor) -> torch.nn.Module:
    """Train from scratch, cycle by cycle, and return the network in evaluation mode."""
    torch.manual_seed(recipe.seed_weights)
    network = build_reference(len(REFERENCE_LABELS))
    for cycle in range(len(recipe.cycles)):
        train_cycle(network, recipe, cycle, pixels, labels)
    return network.eval()


def train_cycle(
    network: torch.nn.Module, recipe: Recipe, cycle: int, pixels: torch.Tensor, labels: torch.Tensor
) -> None:
    """Train for one cycle of the learning rate, with an optimiser and draws of its own."""
    epochs, rate, least_contrast = recipe.cycles[cycle]
    draws = torch.Generator().manual_seed(recipe.seed_draws + cycle)
    network.train().to(memory_format=torch.channels_last)
    steps = len(pixels) // recipe.batch
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=epochs * steps, pct_start=recipe.warm_up
    )
    augment, start = Augment(recipe, draws, least_contrast), time.monotonic()
    for epoch in range(epochs):
        order, total, right = torch.randperm(len(pixels), generator=draws), 0.0, 0
        for chosen in order[: steps * recipe.batch].view(steps, recipe.batch):
            logits = network(augment(pixels[chosen]))
            loss = cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
            right += int((logits.argmax(dim=1) == labels[chosen]).sum())
        accuracy, seconds = right / (steps * recipe.batch), time.monotonic() - start
        print(
            f"epoch {epoch + 1:2} loss {total / steps:.4f} accuracy {accuracy:.3f} {seconds:.0f} s",
            flush=True,
        )


def write_weights(network: torch.nn.Module, recipe: Recipe, dataset: str) -> None:
    """Write the safetensors file and its pin."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_durably(DATA / WEIGHTS, save(state))
    numbers = {name: str(value) for name, value in asdict(recipe).items()}
    digest = canonical_json.digest({"recipe": numbers, "dataset": dataset, "network": REFERENCE_NAME})
    pins = json.loads((DATA / "reference.json").read_text())
    pins["network"] = {
        "file": WEIGHTS,
        "recipe": digest,
        "sha256": sha256_file(DATA / WEIGHTS),
        "size": (DATA / WEIGHTS).stat().st_size,
    }
    write_durably(DATA / "reference.json", (json.dumps(pins, indent=2, sort_keys=True) + "\n").encode())


def main() -> None:
    """Train by the recipe, on one thread, deterministically."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the rendered data set")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    recipe = Recipe()
    pixels, labels = load_rows(options.cache)
    pins = json.loads((DATA / "reference.json").read_text())
    write_weights(train(recipe, pixels, labels), recipe, pins["splits"]["train"]["pixels"])


if __name__ == "__main__":
    main()
