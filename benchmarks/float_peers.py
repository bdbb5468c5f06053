"""Other runtimes' float32, one thread: how fast a network runs where nobody asks for the same bits.

They are no part of the environment and of no lock (`uv pip install onnxruntime openvino onnxscript`); one
that is missing is named and left out.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Work

Export = Callable[[], tuple[Path, NDArray[np.float32]]]


def float_peers(export: Export) -> Iterator[tuple[str, Callable[[], Work]]]:
    """Name and set-up of each runtime that is installed; `export` gives an ONNX file and its input."""
    for name, module, prepare in (
        ("onnxruntime float32", "onnxruntime", _onnxruntime),
        ("OpenVINO float32", "openvino", _openvino),
    ):
        if importlib.util.find_spec(module) and importlib.util.find_spec("onnxscript"):
            yield name, functools.partial(_prepare, prepare, export)
        else:
            sys.stderr.write(f"bench: {name} is not run: `uv pip install {module} onnxscript`\n")


def _prepare(prepare: Callable[[Path, NDArray[np.float32]], Work], export: Export) -> Work:
    return prepare(*export())


def _onnxruntime(network: Path, levels: NDArray[np.float32]) -> Work:
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: levels}
    return lambda: session.run(None, feed)


def _openvino(network: Path, levels: NDArray[np.float32]) -> Work:
    openvino = importlib.import_module("openvino")
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(network), "CPU", settings)
    return lambda: compiled([levels])
