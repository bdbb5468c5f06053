"""Every example runs: of the docstrings, of docs/api.md, and the README's."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest
from PIL import Image

import perturbnet
from perturbnet.adversarial_dataset import licences
from perturbnet.adversarial_dataset.exporting import Asked, export
from perturbnet.adversarial_dataset.layout import Mode
from perturbnet.auditing.run import Means
from perturbnet.transparency.bundle import open_bundle
from tests.support.auditing.honest import live
from tests.support.auditing.published import publish_honest
from tests.support.evaluation.pictures import write_picture

ROOT = Path(__file__).parents[3]
MODULES = ("attacking", "auditing", "evaluating", "models", "verdicts")
PHOTOGRAPH = ROOT / "perturbnet" / "data" / "photographs" / "chelsea.png"
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    """The Python of a page."""
    return _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


PAGE = blocks("docs/api.md")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported data set that holds its pictures."""
    folder = tmp_path_factory.mktemp("exported")
    honest = live(folder, rounds=3)
    free = licences.Licence("cc0-1.0", "free", pictures=True)
    with pytest.MonkeyPatch.context() as patch, open_bundle(publish_honest(honest, folder / "log")) as bundle:
        patch.setitem(licences._KNOWN, "tests/memory", free)
        export(bundle, folder / "dataset", Asked(Mode.FULL), Means(honest.source, honest.engine))
    return folder / "dataset"


@pytest.fixture
def place(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the examples name."""
    with Image.open(PHOTOGRAPH) as photograph:
        photograph.save(tmp_path / "cat.jpg")
    write_picture(tmp_path / "photos" / "texture.png", "texture")
    (tmp_path / "dataset").symlink_to(dataset)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_docstrings_run(module: str, place: Path) -> None:
    found = importlib.import_module(f"perturbnet.api.{module}")
    ran = doctest.testmod(found, optionflags=doctest.ELLIPSIS, raise_on_error=True)
    assert ran.attempted > 0


@pytest.mark.parametrize("number", range(len(PAGE)))
def test_an_example_of_the_page_runs(number: int, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PAGE[number], f"docs/api.md, example {number + 1}", "exec"), {})
    assert len([line for line in PAGE[number].splitlines() if line and "import" not in line]) <= 5
    if "print(" in PAGE[number]:
        assert capsys.readouterr().out


def test_the_example_of_the_readme_runs(place: Path) -> None:
    (example,) = blocks("README.md")
    exec(compile(example, "README.md", "exec"), {})


def test_the_page_shows_every_function() -> None:
    text = "\n".join(PAGE)
    functions = [name for name in perturbnet.__all__ if name.islower() and not name.startswith("_")]
    assert [name for name in functions if f"perturbnet.{name}(" not in text] == []
