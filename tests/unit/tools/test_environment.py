"""Building the environment: every reason why it cannot be is one sentence that says what to do."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import environment
from tools.environment import Problem

ROOT = Path(environment.ROOT)


class TestPython:
    @pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 9), (3, 13, 1)])
    def test_a_supported_one_is_used_as_it_is(self, version: tuple[int, ...]) -> None:
        assert environment.choose_python(version, []) is None

    @pytest.mark.parametrize("version", [(3, 9, 2), (3, 10, 12), (3, 14, 0)])
    def test_another_is_looked_for_on_path(self, version: tuple[int, ...]) -> None:
        found: list[tuple[str, tuple[int, ...]]] = [
            ("bin/python3.10", (3, 10, 0)),
            ("bin/python3.12", (3, 12, 0)),
        ]
        assert environment.choose_python(version, found) == "bin/python3.12"

    def test_without_one_the_sentence_names_what_is_there(self) -> None:
        with pytest.raises(Problem, match=r"Python 3\.11, 3\.12 or 3\.13 is needed, this is Python 3\.9\.2"):
            environment.choose_python((3, 9, 2), [])

    def test_the_range_is_the_projects(self) -> None:
        (line,) = [
            line
            for line in (ROOT / "pyproject.toml").read_text().splitlines()
            if line.startswith("requires-python")
        ]
        assert line == f'requires-python = ">=3.{environment.OLDEST[1]},<3.{environment.NEWEST[1] + 1}"'

    def test_an_old_python_can_parse_it(self) -> None:
        # What came after 3.5: f-strings, annotated names, :=, match, positional-only parameters.
        later = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Match)
        tree = ast.parse((ROOT / "tools" / "environment.py").read_text())
        assert [node for node in ast.walk(tree) if isinstance(node, later)] == []
        assert [node for node in ast.walk(tree) if isinstance(node, ast.arguments) and node.posonlyargs] == []
        imports = {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        assert imports == {"os", "platform", "re", "shutil", "subprocess", "sys", "time"}

    @pytest.mark.needs("make")
    def test_make_says_when_there_is_no_python_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "tools").mkdir()
        for name in ("Makefile", "pyproject.toml", "requirements.lock", "tools/environment.py"):
            shutil.copy(ROOT / name, tmp_path / name)
        command = ["make", "--no-print-directory", "test", "PYTHON=no-such-python"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == 2
        assert "there is no no-such-python; install Python 3.11, 3.12 or 3.13" in run.stderr


class TestSystem:
    @pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
    def test_linux_with_glibc_passes(self, machine: str) -> None:
        environment.check_system("Linux", machine, ("glibc", "2.28"))

    @pytest.mark.parametrize(
        ("system", "machine", "libc", "says"),
        [
            ("Darwin", "arm64", ("", ""), "locked for Linux on x86_64 or aarch64, this is Darwin on arm64"),
            ("Linux", "riscv64", ("glibc", "2.36"), "this is Linux on riscv64"),
            (
                "Linux",
                "x86_64",
                ("glibc", "2.17"),
                "needs the GNU C library 2.28 or newer, this system has glibc 2.17",
            ),
            ("Linux", "x86_64", ("", ""), "this system has another one"),
        ],
    )
    def test_others_are_refused_by_name(
        self, system: str, machine: str, libc: tuple[str, str], says: str
    ) -> None:
        with pytest.raises(Problem, match=says):
            environment.check_system(system, machine, libc)

    @pytest.mark.parametrize("module", ["venv", "ensurepip"])
    def test_debian_without_venv(self, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
        environment.check_venv_module()
        monkeypatch.setitem(sys.modules, module, None)
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        with pytest.raises(Problem, match=f"no `{module}` module.*apt install {package}"):
            environment.check_venv_module()

    def test_disk(self) -> None:
        environment.check_disk("here", environment.NEEDED_BYTES, updating=False)
        environment.check_disk("here", environment.NEEDED_TO_UPDATE_BYTES, updating=True)
        with pytest.raises(Problem, match=r"8\.9 GB are free at here and 9 GB are needed"):
            environment.check_disk("here", 8_900_000_000, updating=False)

    def test_a_refusal_is_one_line_and_exit_code_2(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
        assert environment.main() == 2
        said = capsys.readouterr().err
        assert said.startswith("perturb: 1.0 GB are free at ")
        assert said.count("\n") == 1


class TestInstalling:
    def test_the_tools_are_cut_out_of_the_lock_with_their_digests(self) -> None:
        lock = (
            "setuptools==80.0 ; sys_platform == 'linux' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
            "setuptools-scm==1\nuv==0.13 \\\n    --hash=sha256:cc\nuvicorn==1 \\\n    --hash=sha256:dd\n"
        )
        assert environment.pinned(lock, ("uv", "setuptools")) == (
            "uv==0.13 \\\n    --hash=sha256:cc\n"
            "setuptools==80.0 ; sys_platform == 'linux' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        )

    def test_the_committed_lock_holds_them(self) -> None:
        cut = environment.pinned((ROOT / "requirements.lock").read_text(), ("setuptools", "uv"))
        assert [line.partition("==")[0] for line in cut.splitlines() if "==" in line] == ["setuptools", "uv"]
        assert "--hash=sha256:" in cut

    def test_a_lock_without_them_is_said(self) -> None:
        with pytest.raises(Problem, match="does not hold uv; write it again with: make lock"):
            environment.pinned("uvicorn==1\n", ("uv",))

    @pytest.mark.parametrize(
        ("printed", "said"),
        [
            ("Collecting a\nERROR: No matching distribution\nnotice: x\n", "ERROR: No matching distribution"),
            ("error: Failed to fetch\n  Caused by: dns\n", "error: Failed to fetch"),
            ("one\ntwo\n\n", "two"),
            ("", "it said nothing"),
        ],
    )
    def test_a_failure_is_told_by_the_line_that_says_why(self, printed: str, said: str) -> None:
        assert environment.essence(printed) == said

    def test_a_failed_step_keeps_its_own_words_only(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("ERROR: of an earlier step\n")
        failing = [sys.executable, "-c", "import sys; print('error: disk full'); sys.exit(3)"]
        with pytest.raises(Problem, match=r"^trying failed: error: disk full \(all of it: "):
            environment._run("trying", failing, str(log))
        assert "earlier" in log.read_text()
