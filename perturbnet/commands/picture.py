"""`perturb attack`: one picture of the user's own, attacked offline, judged by the verifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perturbnet.attacks import Deadline, open_attack
from perturbnet.attacks.protocol import AttackTask
from perturbnet.classifier import open_engine, open_oracle
from perturbnet.config import Settings
from perturbnet.datasets.user_images import decode_any_image
from perturbnet.display.contact_sheet import SheetEntry, write_contact_sheet
from perturbnet.errors import AttackError
from perturbnet.miner.service import build_response
from perturbnet.rules.distortion import measure, psnr_micro_db
from perturbnet.rules.from_settings import build_rules
from perturbnet.rules.scoring import score_verdict
from perturbnet.rules.verification import Task, Verdict, verify
from perturbnet.runtime.clock import SystemClock
from perturbnet.wire.images import Pixels, encode_png
from perturbnet.wire.messages import encode
from perturbnet.wire.units import PPB

NO_CHALLENGE = "0" * 64
MAX_BODY_BYTES = 2**31


@dataclass(frozen=True)
class Attacked:
    """What an attack on a picture came to."""

    verdict: Verdict
    score: float
    adversarial: Path
    sheet: Path
    seconds: float
    ssim: float
    psnr_db: float | None


def attack_picture(path: Path, settings: Settings, *, out: Path, budget_s: float) -> Attacked:
    """Attack a picture and write `NAME.adversarial.png` and `NAME.sheet.png` into `out`.

    Raises:
        PictureError: the file is no picture.
        AttackError: nothing was found that the verifier accepts.

    """
    clean = decode_any_image(path)
    profile, cache_dir, device, kind = settings.profile, settings.cache_dir, settings.device, settings.engine
    engine = open_engine(profile, cache_dir=cache_dir, device=device, kind=kind)
    before = engine.classify([clean])[0]
    rules = build_rules(settings)
    epsilon = str(settings.max_linf_delta)
    task = Task("offline", NO_CHALLENGE, clean, before.text, epsilon, rules, MAX_BODY_BYTES)
    clock = SystemClock()
    started_s = clock.monotonic_s()
    result = open_attack(settings.attack).run(
        open_oracle(profile, cache_dir=cache_dir, device=device, kind=kind),
        AttackTask(
            clean,
            before.index,
            rules.levels(epsilon),
            lambda pixels: verify(task, _body(pixels), engine).reject == "ok",
            min_ssim=float(rules.min_ssim),
            min_psnr_db=float(rules.min_psnr_db),
        ),
        Deadline(clock, started_s + budget_s),
    )
    seconds = clock.monotonic_s() - started_s
    if result.adversarial is None:
        stands = f"{path}: {before.text!r} stands (margin {before.margin:.3f})"
        hint = "try --seconds with more time, or another --attack"
        raise AttackError(f"{stands}: {result.reason} in {seconds:.1f} s", hint=hint)
    verdict = verify(task, _body(result.adversarial), engine)
    return _write(
        path,
        out,
        clean,
        result.adversarial,
        verdict,
        seconds,
        score_verdict(verdict, epsilon=epsilon, rules=rules, response_ms=0) / PPB,
    )


def _write(
    path: Path, out: Path, clean: Pixels, adversarial: Pixels, verdict: Verdict, seconds: float, score: float
) -> Attacked:
    out.mkdir(parents=True, exist_ok=True)
    picture, sheet = out / f"{path.stem}.adversarial.png", out / f"{path.stem}.sheet.png"
    picture.write_bytes(encode_png(adversarial))
    entry = SheetEntry(
        clean=clean,
        adversarial=adversarial,
        label_before=verdict.label_before,
        label_after=verdict.label_after,
        linf_u8=verdict.linf_u8,
        changed=verdict.changed,
        score=score,
        miner="offline",
    )
    write_contact_sheet(sheet, [entry], path.name)
    distortion = measure(clean, adversarial)
    micro_db = psnr_micro_db(distortion.sum_sq, distortion.height, distortion.width)
    return Attacked(
        verdict, score, picture, sheet, seconds, distortion.ssim, None if micro_db is None else micro_db / 1e6
    )


def _body(pixels: Pixels) -> bytes:
    return encode(build_response("offline", NO_CHALLENGE, pixels))
