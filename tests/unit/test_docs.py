"""The pages: no link leads nowhere; every command, option, setting, file and target they name is there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from perturbnet.cli import main
from perturbnet.config import registry

ROOT = Path(__file__).resolve().parent.parent.parent
DECISIONS = ROOT / "docs" / "adr"
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(r"(?:^|[\s(;])(perturb(?: [^|;&#)]+)?)")
_OPTION = re.compile(r"--[a-z][a-z0-9-]*")
_SETTING = re.compile(r"\bPERTURB_[A-Z0-9_]+\b")
_FILE = re.compile(
    r"\b(?:perturbnet|neurons|tests|tools|docs|nix|perturb_label|recipes|config|packaging|workflow)/[\w./-]+"
)
_DOCUMENT = re.compile(r"(?<![\w./-])(?:\.\./)?((?:docs|design)/[\w./-]*\w)")
# Read by other things than the registry of settings.
NO_SETTINGS = {"PERTURB_CONFIG", "PERTURB_K_MINER"}
# Named because it is gone, or made by a command.
NOT_HERE = {"perturb_label/build"}


def pages() -> list[Path]:
    if not (ROOT / ".git").exists():
        return sorted({ROOT / "README.md", *(ROOT / "docs").rglob("*.md")})
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


PAGES = {page.relative_to(ROOT).as_posix(): page for page in pages()}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path, text: str) -> Iterator[str]:
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            yield target


def code_of(text: str) -> list[str]:
    """What stands in code, line by line; a line that ends in a backslash goes on."""
    blocks = _FENCE.findall(text)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [*lines, *_SPAN.findall(_FENCE.sub("", text))]


def faults_of(command: str) -> Iterator[str]:
    """What of a `perturb …` there is not."""
    found: click.Command = main
    options = {"--help", "--version"}
    for word in (word.rstrip(":,.") for word in command.split()[1:]):
        if isinstance(found, click.Group) and word in found.commands:
            found = found.commands[word]
            options |= {name for option in found.params for name in option.opts + option.secondary_opts}
        elif found is main and re.fullmatch(r"[a-z][a-z-]+", word):
            yield word
            return
    if isinstance(found, click.Group) and "bundle" in found.commands:  # what it does where none is named
        options |= {name for option in found.commands["bundle"].params for name in option.opts}
    yield from (name for name in _OPTION.findall(command) if name not in options)


def wrong_commands(text: str) -> Iterator[str]:
    for line in code_of(text):
        for command in _COMMAND.findall(line):
            yield from (f"{fault} in: {command}" for fault in faults_of(command))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_only_what_there_is(name: str) -> None:
    page, text = PAGES[name], PAGES[name].read_text(encoding="utf-8")
    assert list(dead_links(page, text)) == []
    assert list(wrong_commands(text)) == []


@pytest.mark.parametrize("name", [name for name in PAGES if name != "docs/migration.md"])
def test_a_page_names_settings_and_files_that_there_are(name: str) -> None:
    code = "\n".join(code_of(PAGES[name].read_text(encoding="utf-8")))
    known = {setting.name for setting in registry()} | NO_SETTINGS
    assert {setting for setting in _SETTING.findall(code) if not setting.endswith("_")} - known == set()
    files = {file.rstrip("./") for file in _FILE.findall(code)}
    missing = {
        file for file in files if not (ROOT / file).exists() and not (PAGES[name].parent / file).exists()
    }
    assert {file for file in missing if not any(file.startswith(each) for each in NOT_HERE)} == set()


def test_every_page_is_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop().resolve()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        left += [
            page.parent / link.partition("#")[0] for link in _LINK.findall(page.read_text(encoding="utf-8"))
        ]
    pages_of_docs = {page.resolve() for name, page in PAGES.items() if name.startswith("docs/")}
    assert {page.name for page in pages_of_docs - reached} == set()


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    links = "# A title\n[a](nowhere.md) [b](#a-title) [c](#no)\n\n"
    text = links + "```\nperturb audi X\nperturb report A --jsn x\n```\n"
    page = tmp_path / "page.md"
    page.write_text(text + "`perturb audit LOG --hotkey 5F --sampl 3`\n")
    assert list(dead_links(page, page.read_text())) == ["nowhere.md", "#no"]
    assert [fault.split()[0] for fault in wrong_commands(page.read_text())] == ["audi", "--jsn", "--sampl"]


def sources() -> list[Path]:
    if not (ROOT / ".git").exists():
        folders = ("perturbnet", "neurons", "tests", "tools", "benchmarks", "recipes", "examples")
        return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def missing_documents(text: str) -> list[str]:
    """Files of docs/ that a source names and that are not there; a decision goes by its number too."""
    named = {name.rstrip(".") for name in _DOCUMENT.findall(text)}
    return sorted(
        name for name in named if not (ROOT / name).exists() and not list(ROOT.glob(f"{name}-*.md"))
    )


def test_every_document_that_code_names_is_there() -> None:
    missing = {
        path.relative_to(ROOT).as_posix(): missing_documents(path.read_text("utf-8")) for path in sources()
    }
    assert {name: documents for name, documents in missing.items() if documents} == {}


def test_a_document_that_is_not_there_is_seen() -> None:
    gone = "des" + "ign/ledger.md"
    assert missing_documents(f"Rules (docs/ledger.md, docs/adr/0017; {gone})") == [gone]


def test_every_make_target_that_is_named_exists() -> None:
    makefiles = (ROOT / "Makefile", ROOT / "perturb_label" / "Makefile")
    targets = {
        name for file in makefiles for name in re.findall(r"^([a-z][a-z-]*):", file.read_text(), re.MULTILINE)
    }
    named = {
        target
        for page in PAGES.values()
        for line in code_of(page.read_text(encoding="utf-8"))
        for target in re.findall(r"^make (?:[A-Z]+=\S+ )*([a-z][a-z-]*)", line)
    }
    assert named
    assert named - targets == set()


def test_decisions_are_numbered_once_and_all_in_the_index() -> None:
    found = {}
    for page in sorted(DECISIONS.glob("[0-9]*.md")):
        number = int(page.name[:4])
        assert number not in found, page.name
        title = page.read_text(encoding="utf-8").partition("\n")[0]
        assert title.startswith(f"# {number}. "), page.name
        found[number] = (page.name, title.partition(". ")[2])
    listed = re.findall(
        r"^\| (\d+) \| \[(.*)\]\((.*)\) \|", (DECISIONS / "README.md").read_text(), re.MULTILINE
    )
    assert {int(number): (file, title) for number, title, file in listed} == found
