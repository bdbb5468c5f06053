"""The exact arithmetic on a CPU, one image at a time: BLAS for matrix products, `kernels` between them.

Between the products this reads and writes each value once, where `portable` does so a dozen times. Positions
are shared out to as many threads as torch may use; no split can change a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from perturbnet.classifier.canonical import kernels
from perturbnet.classifier.canonical.artefact import ProgramStep
from perturbnet.classifier.canonical.layers import ExactLayer, ExactSums, Grid, Table, Tensor, anchor_of
from perturbnet.classifier.canonical.portable import (
    CACHE,
    PortableArithmetic,
    blocks_of,
    padded_shape,
    tap_rows,
    widest_row,
)

Doubles = NDArray[np.float64]
LEAST_SHARE = 1 << 14  # values; less is not worth handing to another thread


class CompiledArithmetic(PortableArithmetic):
    """What `PortableArithmetic` does, to the last bit, in fewer passes over memory."""

    name = "compiled"
    one_at_a_time = True

    def __init__(self) -> None:
        """Begin with no threads; they come with the first large tensor."""
        super().__init__(torch.device("cpu"))
        self._pool: ThreadPoolExecutor | None = None

    def project(self, layer: ExactLayer, grid: Grid) -> ExactSums:
        """See `PortableArithmetic.project`."""
        weights = self._widen(layer, -1, layer.weights.shape[-1])
        (taps,) = grid.values
        values = self._workspace.take("sums", len(taps), weights.shape[1])
        extremes = _Extremes(_bias(layer, grid))
        for _, part in blocks_of(1, len(taps), max(weights.shape), CACHE.product):
            wide = self._workspace.take("wide", *taps[part].shape).copy_(taps[part])
            torch.mm(wide, weights, out=values[part])
            self._finish(values[part], extremes)
        return extremes.sums(values)

    def convolve(self, layer: ExactLayer, grid: Grid, step: ProgramStep) -> ExactSums:
        """See `PortableArithmetic.convolve`."""
        weights = self._widen(layer, step.kernel, step.kernel * step.cin, step.cout)
        values = self._workspace.take("sums", step.out_height * step.out_width, step.cout)
        extremes = _Extremes(_bias(layer, grid))
        for _, part in blocks_of(1, step.out_height, widest_row(step), CACHE.product):
            first, count = part.start, part.stop - part.start
            phases = [
                self._stack_taps(grid, step, first, count, phase)
                for phase in range(min(step.stride, step.kernel))
            ]
            block = values[first * step.out_width : part.stop * step.out_width]
            for y in range(step.kernel):
                skip = y // step.stride
                taps = phases[y % step.stride][skip : skip + count].view(-1, step.kernel * step.cin)
                torch.addmm(block, taps, weights[y], beta=1 if y else 0, out=block)
            self._finish(block, extremes)
        return extremes.sums(values)

    def depthwise(self, layer: ExactLayer, grid: Grid, step: ProgramStep) -> ExactSums:
        """See `PortableArithmetic.depthwise`; other kernels than 3×3 are done its way."""
        if step.kernel != 3:
            return super().depthwise(layer, grid, step)
        weights = self._widen(layer, 3, 3, step.cout).numpy()
        bias, nothing = _bias(layer, grid), np.zeros(step.cout)
        padded = self._workspace.take("padded", *padded_shape(step), dtype=torch.float32).numpy()
        kernels.pad(_image(grid, step), step.pad_top, step.pad_left, padded)
        values = self._workspace.take("sums", step.out_height * step.out_width, step.cout)
        image = values.view(step.out_height, step.out_width, step.cout).numpy()
        extremes = _Extremes(nothing)

        def work(rows: slice) -> None:
            part = padded[rows.start * step.stride :]
            kernels.depthwise(part, weights, bias, step.stride, image[rows])
            extremes.add(image[rows].reshape(-1, step.cout))

        self._share(step.out_height, values.numel(), work)
        return extremes.sums(values)

    def activate(self, table: Table, sums: Tensor, unit: Tensor, *busy: Grid | None) -> Grid:
        """See `PortableArithmetic.activate`."""
        out, anchor = self._workspace.take_grid(sums, *busy), float(anchor_of(unit))
        source, target, pairs = _flat(sums), _flat(out), table.pairs.numpy()
        self._share(
            source.size,
            source.size,
            lambda part: kernels.activate(source[part], pairs, anchor, target[part]),
        )
        return Grid(out, unit)

    def look_up(self, table: Table, sums: Tensor) -> None:
        """See `PortableArithmetic.look_up`."""
        values, pairs = _flat(sums), table.pairs.numpy()
        self._share(values.size, values.size, lambda part: kernels.look_up(values[part], pairs))

    def add_kept(self, values: Tensor, kept: Grid) -> Tensor:
        """See `PortableArithmetic.add_kept`."""
        sums, addend = values[0].numpy(), kept.values[0].numpy()
        found: list[Doubles] = []

        def work(rows: slice) -> None:
            largest = np.zeros(sums.shape[1])
            kernels.add_kept(sums[rows], addend[rows], largest)
            found.append(largest)

        self._share(len(sums), sums.size, work)
        return torch.tensor([np.max(found)])

    def round(self, values: Tensor, unit: Tensor, *busy: Grid | None) -> Grid:
        """See `PortableArithmetic.round`."""
        out, anchor = self._workspace.take_grid(values, *busy), float(anchor_of(unit))
        source, target = _flat(values), _flat(out)
        self._share(
            source.size,
            source.size,
            lambda part: kernels.round_to_grid(source[part], anchor, target[part]),
        )
        return Grid(out, unit)

    def survey(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """See `PortableArithmetic.survey`."""
        values = grid.values[0].numpy()
        totals: list[Doubles] = []
        largest: list[Doubles] = []

        def work(rows: slice) -> None:
            total, most = np.zeros(values.shape[1]), np.zeros(values.shape[1])
            kernels.survey(values[rows], total, most)
            totals.append(total)
            largest.append(most)

        self._share(len(values), values.size, work)
        mean = np.sum(totals, axis=0)[None, None] / float(len(values))
        return torch.from_numpy(mean), torch.tensor([np.max(largest)])

    def scale(self, grid: Grid, gate: Tensor, unit: Tensor, *busy: Grid | None) -> Grid:
        """See `PortableArithmetic.scale`."""
        out, anchor = self._workspace.take_grid(grid.values, grid, *busy), float(anchor_of(unit))
        source, target, factors = grid.values[0].numpy(), out[0].numpy(), _flat(gate)
        self._share(
            len(source),
            source.size,
            lambda rows: kernels.scale(source[rows], factors, anchor, target[rows]),
        )
        return Grid(out, unit)

    def _finish(self, block: Tensor, extremes: _Extremes) -> None:
        sums = block.numpy()
        self._share(len(sums), sums.size, lambda rows: extremes.add(sums[rows]))

    def _stack_taps(self, grid: Grid, step: ProgramStep, first: int, count: int, phase: int) -> Tensor:
        """Input rows of one phase of the stride, float64 (rows, out_width, k · cin)."""
        rows = tap_rows(step, count, phase)
        out = self._workspace.take(f"taps {phase}", rows, step.out_width, step.kernel * step.cin)
        image, target = _image(grid, step), out.numpy()
        top = first * step.stride + phase - step.pad_top

        def work(part: slice) -> None:
            begin = top + part.start * step.stride
            kernels.stack_taps(
                image, begin, step.stride, step.pad_left, step.stride, step.kernel, target[part]
            )

        self._share(rows, out.numel(), work)
        return out

    def _share(self, length: int, values: int, work: Callable[[slice], Any]) -> None:
        """Split `length` among as many threads as torch may use, if so many `values` are worth it."""
        threads = min(torch.get_num_threads(), length, values // LEAST_SHARE)
        if threads <= 1:
            work(slice(0, length))
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(thread_name_prefix="exact")
        size = -(-length // threads)
        parts = [slice(start, min(start + size, length)) for start in range(0, length, size)]
        list(self._pool.map(work, parts))


class _Extremes:
    """Adds the bias to finished sums, and keeps each share's extremes."""

    def __init__(self, bias: Doubles) -> None:
        self._bias = bias
        self._lows: list[Doubles] = []
        self._highs: list[Doubles] = []

    def add(self, sums: Doubles) -> None:
        """A block (positions, channels) is complete but for its bias."""
        low, high = np.full(len(self._bias), np.inf), np.full(len(self._bias), -np.inf)
        kernels.add_bias(sums, self._bias, low, high)
        self._lows.append(low)
        self._highs.append(high)

    def sums(self, values: Tensor) -> ExactSums:
        """All of it."""
        low, high = torch.tensor([np.min(self._lows)]), torch.tensor([np.max(self._highs)])
        return ExactSums(values[None], low, high)


def _bias(layer: ExactLayer, grid: Grid) -> Doubles:
    array: Doubles = layer.bias(grid.unit).view(-1).numpy()
    return array


def _image(grid: Grid, step: ProgramStep) -> NDArray[np.float32]:
    image: NDArray[np.float32] = grid.values.view(step.height, step.width, step.cin).numpy()
    return image


def _flat(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.view(-1).numpy()
    return array
