"""What `import perturbnet` offers: exactly these names, found by completion, and nothing heavy with them."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import perturbnet

ROOT = Path(perturbnet.__file__).parent
SERVERS = {"starlette", "uvicorn"}
HEAVY = SERVERS | {"torch", "bittensor", "snakemake", "wandb", "datasets", "timm"}
NAMES = [
    "AdversarialSet",
    "AttackOutcome",
    "AuditReport",
    "Classifier",
    "EvaluationOutcome",
    "PerturbError",
    "Reject",
    "Rules",
    "Verdict",
    "__version__",
    "attack",
    "audit",
    "default_rules",
    "evaluate",
    "load_adversarial",
    "load_model",
    "score",
    "verify",
]


def modules_of(room: str) -> list[str]:
    """Every module of a room."""
    files = sorted((ROOT / room).rglob("*.py"))
    names = [".".join(("perturbnet", *file.relative_to(ROOT).with_suffix("").parts)) for file in files]
    return [name.removesuffix(".__init__") for name in names]


def loaded_by(code: str) -> set[str]:
    """What a fresh process has imported after this."""
    code += "\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def importing(*modules: str) -> set[str]:
    return loaded_by("\n".join(f"import {module}" for module in modules))


def typed_imports() -> Iterator[tuple[str, str]]:
    """What type checkers see: (name, module)."""
    for node in ast.walk(ast.parse((ROOT / "__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("perturbnet."):
            yield from ((alias.name, node.module) for alias in node.names)


def test_exactly_these_names_are_offered() -> None:
    assert perturbnet.__all__ == NAMES == sorted(NAMES)
    for name in NAMES:
        assert getattr(perturbnet, name) is not None


def test_type_checkers_see_what_python_imports() -> None:
    homes = {name: f"perturbnet.{home}" for name, home in perturbnet._HOMES.items()}
    assert dict(typed_imports()) == {**homes, "__version__": "perturbnet.version"}
    assert {*homes, "__version__"} == set(NAMES)
    assert (ROOT / "py.typed").read_bytes() == b""


def test_completion_finds_them_before_they_are_imported() -> None:
    code = "import perturbnet; found = dir(perturbnet); assert set(perturbnet.__all__) <= set(found), found"
    assert {name for name in loaded_by(code) if name.startswith("perturbnet.")} == {"perturbnet.version"}


def test_no_name_is_a_room_too() -> None:
    """Whoever imports the room would get it in the place of the function."""
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir()} | {
        path.stem for path in ROOT.glob("*.py")
    }
    assert rooms & set(NAMES) == set()


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'perturbnet' has no attribute 'nonsense'"):
        perturbnet.nonsense  # noqa: B018


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__version__"])
def test_every_name_is_documented_and_every_parameter_typed(name: str) -> None:
    found = getattr(perturbnet, name)
    assert inspect.getdoc(found)
    if inspect.isfunction(found):
        assert set(found.__annotations__) == {*inspect.signature(found).parameters, "return"}


def test_importing_the_package_loads_nothing_of_it_and_nothing_heavy() -> None:
    loaded = importing("perturbnet")
    assert not loaded & (HEAVY | {"numpy", "pydantic"})
    assert {name for name in loaded if name.startswith("perturbnet.")} == {"perturbnet.version"}


@pytest.mark.parametrize("room", ["rules", "wire", "api"])
def test_no_module_of_these_rooms_loads_anything_heavy(room: str) -> None:
    modules = modules_of(room)
    assert f"perturbnet.{room}" in modules
    assert len(modules) > 5
    assert not importing(*modules) & HEAVY


def test_asking_for_every_name_loads_nothing_heavy() -> None:
    assert not loaded_by("from perturbnet import *") & HEAVY


@pytest.mark.parametrize(
    "module", ["adversarial_dataset.loading", "certificate.verification", "auditing.request"]
)
def test_readers_need_no_server_no_chain_and_no_torch(module: str) -> None:
    assert not importing(f"perturbnet.{module}") & (SERVERS | {"bittensor", "torch"})


def test_load_adversarial_needs_none_either() -> None:
    assert not loaded_by("import perturbnet; perturbnet.load_adversarial") & HEAVY
