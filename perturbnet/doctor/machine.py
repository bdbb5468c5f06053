"""What this machine has: processors, memory, disk, GPU, clock. The numbers are README's table of hardware."""

from __future__ import annotations

import os
from pathlib import Path

from perturbnet.doctor.checks import CheckResult, bad, look, ok, unknown
from perturbnet.doctor.facts import existing
from perturbnet.doctor.patient import Patient

GB = 10**9
LEAST_PROCESSORS = {"validator": 8, "miner": 4}
LEAST_MEMORY_GB = {"validator": 32, "miner": 16}
LEAST_GPU_GB = {"validator": 12, "miner": 8}
LEAST_FILES = 1024
STOPS_BELOW_GB = {"imagenet100": 5, "reference": 1}
WANTS_GB = {"imagenet100": 50, "reference": 2}
ROUNDING = 0.9  # a machine that is sold as 32 GB shows less
SKEW_S = 5.0  # a request is refused when it seems to come from further ahead (`transport.intake`)


def check_processors(patient: Patient) -> CheckResult:
    """Enough processors and memory for the role."""
    found, role = patient.machine(), patient.role
    text = f"{found.processors} processors, {found.memory_bytes / GB:.0f} GB of memory"
    if patient.settings.profile == "reference":
        return ok(f"{text}; the reference profile needs 2 and 8 GB")
    cores, memory_gb = LEAST_PROCESSORS[role], LEAST_MEMORY_GB[role]
    if found.processors < cores or found.memory_bytes < ROUNDING * memory_gb * GB:
        return look(f"{text}; a {role} wants {cores} and {memory_gb} GB")
    return ok(text)


def check_files(patient: Patient) -> CheckResult:
    """Enough open files for a round's connections."""
    found = patient.machine().open_files
    if 0 <= found < LEAST_FILES:
        return look(f"{found} files may be open; {LEAST_FILES} are wanted")
    return ok(f"{found if found >= 0 else 'any number of'} files may be open")


def check_disk(patient: Patient) -> CheckResult:
    """Room where state and data lie, and the right to write there."""
    settings = patient.settings
    stops, wants = STOPS_BELOW_GB[settings.profile], WANTS_GB[settings.profile]
    texts, least = [], float("inf")
    for name, folder in (("state", settings.state_dir), ("cache", settings.cache_dir)):
        if not _writable(folder):
            return bad(f"{folder} cannot be written", "give this user the right to write there")
        free = patient.free_bytes(folder) / GB
        texts.append(f"{name} {free:.0f} GB free")
        least = min(least, free)
    text = ", ".join(texts)
    if least < stops:
        return bad(f"{text}; below {stops} GB nothing runs for long")
    return look(f"{text}; {wants} GB are wanted") if least < wants else ok(text)


def check_gpu(patient: Patient) -> CheckResult:
    """The device that PERTURB_DEVICE names is there and large enough."""
    device, found = patient.settings.device, patient.gpus()
    names = ", ".join(f"{name} with {size / GB:.0f} GB" for name, size in found)
    if device == "cpu" or (device == "auto" and not found):
        if patient.settings.profile == "reference":
            return ok("none is used, and the reference profile needs none")
        text = "PERTURB_DEVICE is cpu" if device == "cpu" else "no CUDA device"
        return look(f"{text}: docs/inference-cost.md says what a round costs then")
    number = int(device.partition(":")[2] or 0)
    if number >= len(found):
        return bad(f"PERTURB_DEVICE is {device}, and there is {names or 'no CUDA device'}")
    least = LEAST_GPU_GB[patient.role]
    if found[number][1] < ROUNDING * least * GB and patient.settings.profile != "reference":
        return look(f"{names}; a {patient.role} wants {least} GB")
    return ok(names)


def check_clock(patient: Patient) -> CheckResult:
    """The clock is kept right: a request from more than 5 s ahead is refused, one of 30 s ago too."""
    clock = patient.machine().clock
    if clock is None:
        return unknown("the kernel does not say whether its clock is kept right")
    if not clock.synchronised:
        return look("the kernel says that nothing keeps its clock right")
    if clock.max_error_s > SKEW_S:
        return look(f"the clock may be wrong by {clock.max_error_s:.1f} s; {SKEW_S:g} s are tolerated")
    return ok(f"kept right; wrong by {1000 * clock.max_error_s:.0f} ms at most")


def _writable(folder: Path) -> bool:
    return os.access(existing(folder), os.W_OK | os.X_OK)
