"""Build .venv from requirements.lock, or say in one sentence why that cannot be.

Rules
- Runs under whatever `python3` is, however old, only to say that it is too old: nothing newer than
  Python 3.5 here.
- Checks come before the first byte is fetched: Python's version, the system, `venv`, free disk.
- Every file that is installed has its SHA-256 in requirements.lock, installer and build tool included;
  nothing is built in an environment that was fetched without one. The project itself is installed editable.
- uv installs, because it is several times faster; pip does where uv cannot run or is not reached.
- .venv/.stamp is touched last, so an installation that was cut off is done again.

Exit codes: 0 done, 2 it cannot be done and why, 130 interrupted.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST, NEWEST = (3, 11), (3, 13)
MACHINES = ("x86_64", "aarch64")
# Measured with uv and nothing cached: 6.3 GB. uv unpacks wheels once, into its cache, and links them to .venv
# where both share a disk; pip keeps the wheels beside what it unpacks.
NEEDED_BYTES = 9 * 10**9
NEEDED_TO_UPDATE_BYTES = 3 * 10**9
OLDEST_GLIBC = (2, 28)


class Problem(Exception):
    """Why there can be no environment, in one sentence."""


def main() -> int:
    """Check, install, stamp."""
    try:
        _use_supported_python()
        check_system(platform.system(), platform.machine(), platform.libc_ver())
        check_venv_module()
        venv = os.path.join(ROOT, ".venv")
        check_disk(ROOT, shutil.disk_usage(ROOT).free, updating=os.path.exists(_python_in(venv)))
        install(venv)
    except Problem as problem:
        sys.stderr.write("perturb: {}\n".format(problem))
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nperturb: interrupted; the same command goes on from here\n")
        return 130
    return 0


def supported(version: "tuple[int, ...]") -> bool:
    """Whether packages are locked for this version of Python."""
    return OLDEST <= tuple(version[:2]) <= NEWEST


def choose_python(running: "tuple[int, ...]", found: "list[tuple[str, tuple[int, ...]]]") -> "str | None":
    """Return the path of a supported Python among those found, or None where the running one is supported.

    Raises:
        Problem: there is none.

    """
    if supported(running):
        return None
    for path, version in found:
        if supported(version):
            return path
    raise Problem(
        "Python 3.11, 3.12 or 3.13 is needed, this is Python {} ({}); "
        "install one of them, or name it: make PYTHON=/path/to/python3.12".format(
            ".".join(str(part) for part in running[:3]), sys.executable
        )
    )


def check_system(system: str, machine: str, libc: "tuple[str, str]") -> None:
    """Refuse systems for which no packages are locked."""
    if system != "Linux" or machine not in MACHINES:
        raise Problem(
            "packages are locked for Linux on x86_64 or aarch64, this is {} on {}; "
            "a Linux virtual machine or WSL 2 will do".format(system, machine)
        )
    name, version = libc
    if name != "glibc" or tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_GLIBC:
        raise Problem(
            "PyTorch needs the GNU C library {}.{} or newer, this system has {} {}".format(
                OLDEST_GLIBC[0], OLDEST_GLIBC[1], name or "another one", version
            ).rstrip()
        )


def check_venv_module() -> None:
    """Debian ships `venv` and `ensurepip` apart from Python."""
    for module in ("venv", "ensurepip"):
        try:
            __import__(module)
        except ImportError:
            package = "python{}.{}-venv".format(*sys.version_info[:2])
            raise Problem(
                "this Python has no `{}` module; on Debian and Ubuntu install it with: apt install {}".format(
                    module, package
                )
            ) from None


def check_disk(folder: str, free_bytes: int, *, updating: bool) -> None:
    """Refuse to start what the disk cannot hold."""
    needed = NEEDED_TO_UPDATE_BYTES if updating else NEEDED_BYTES
    if free_bytes < needed:
        raise Problem(
            "{:.1f} GB are free at {} and {:.0f} GB are needed; "
            "PyTorch and its CUDA libraries are most of it".format(free_bytes / 1e9, folder, needed / 1e9)
        )


def pinned(lock: str, names: "tuple[str, ...]") -> str:
    """Cut the blocks of some packages, digests included, out of a requirements.lock.

    Raises:
        Problem: one is not in it.

    """
    blocks = []
    for name in names:
        match = re.search(r"^{}==(?:.*\\\n)*.*".format(re.escape(name)), lock, re.MULTILINE)
        if not match:
            raise Problem("requirements.lock does not hold {}; write it again with: make lock".format(name))
        blocks.append(match.group(0))
    return "\n".join(blocks) + "\n"


def install(venv: str) -> None:
    """Create the environment if there is none, then make it what the lock says."""
    started = time.monotonic()
    python = _python_in(venv)
    log = os.path.join(ROOT, ".venv.log")
    open(log, "w").close()
    if not _is_supported(python, _VERSION_WITH_PIP):
        _run("creating .venv", [sys.executable, "-m", "venv", "--clear", venv], log)
    with open(os.path.join(ROOT, "requirements.lock")) as lock:
        text = lock.read()
    uv = _install_tools(venv, text, log)
    if not (uv and _install_locked(uv, python, log)):
        _run(
            "installing packages with pip, a few minutes",
            [
                python,
                "-m",
                "pip",
                "install",
                "--require-hashes",
                "--no-deps",
                "--no-build-isolation",
                "-r",
                "requirements.lock",
            ],
            log,
        )
    _run(
        "installing perturb itself",
        [python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "-e", "."],
        log,
    )
    open(os.path.join(venv, ".stamp"), "w").close()
    _say("environment ready in {:.0f} s".format(time.monotonic() - started), last=True)


def _install_tools(venv: str, lock: str, log: str) -> "str | None":
    """Install the build tool, and uv where it can be had. Returns the path of uv."""
    python, wanted = _python_in(venv), os.path.join(venv, "tools.lock")
    pip = [python, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", wanted]
    for names in (("setuptools", "uv"), ("setuptools",)):
        with open(wanted, "w") as file:
            file.write(pinned(lock, names))
        try:
            _run("installing " + " and ".join(names), pip, log)
        except Problem:
            if "uv" not in names:
                raise
        else:
            return os.path.join(venv, "bin", "uv") if "uv" in names else None
    return None


def _install_locked(uv: str, python: str, log: str) -> bool:
    """Let uv make the environment what the lock says. False where it could not."""
    sync = [
        uv,
        "pip",
        "sync",
        "--python",
        python,
        "--require-hashes",
        "--no-build-isolation",
        "--no-progress",
    ]
    try:
        _run("installing packages, about a minute where the index is near", [*sync, "requirements.lock"], log)
    except Problem as problem:
        _say("uv did not succeed, pip is asked instead: {}".format(problem), last=True)
        return False
    return True


def essence(printed: str) -> str:
    """Return the line that says what went wrong: the first that calls itself an error, else the last."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(ERROR|error|fatal)\b|\u00d7", line)]
    return (errors or lines[-1:] or ["it said nothing"])[0]


def _run(what: str, command: "list[str]", log: str) -> None:
    """Run quietly, showing only what is going on and for how long; what it printed is in `log`.

    Raises:
        Problem: it failed; the sentence holds what it said of it.

    """
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    environment.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    started = time.monotonic()
    with open(log, "a") as output:
        begins = output.tell()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                _say("{} ({:.0f} s)".format(what, time.monotonic() - started))
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        with open(log, errors="replace") as output:
            output.seek(begins)
            raise Problem("{} failed: {} (all of it: {})".format(what, essence(output.read()), log))
    _say("{} ({:.0f} s)".format(what, time.monotonic() - started), last=True)


def _say(text: str, *, last: bool = False) -> None:
    """Keep one line up to date on a terminal; elsewhere print it once, when it is final."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + text + ("\n" if last else ""))
    elif last:
        sys.stderr.write(text + "\n")
    sys.stderr.flush()


# They would send an installer, or the Python it starts, to another environment.
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


def _use_supported_python() -> None:
    path = choose_python(sys.version_info[:3], [] if supported(sys.version_info[:2]) else _pythons_on_path())
    if path:
        os.execv(path, [path, os.path.abspath(__file__)])  # noqa: S606 - ourselves, under another Python


def _pythons_on_path() -> "list[tuple[str, tuple[int, ...]]]":
    found = []  # type: list[tuple[str, tuple[int, ...]]]
    for minor in (12, 11, 13):
        path = shutil.which("python3.{}".format(minor))
        if path and _is_supported(path, _VERSION):
            found.append((path, (3, minor, 0)))
    return found


def _is_supported(python: str, code: str) -> bool:
    """Whether this Python starts and is a supported one; a version manager's stand-in may do neither."""
    try:
        said = subprocess.check_output([python, "-c", code], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return False
    return supported(tuple(int(part) for part in said.split()))


_VERSION = "import sys; print(sys.version_info[0], sys.version_info[1])"
_VERSION_WITH_PIP = "import pip; " + _VERSION


def _python_in(venv: str) -> str:
    return os.path.join(venv, "bin", "python")


if __name__ == "__main__":
    sys.exit(main())
