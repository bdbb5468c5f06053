"""`perturb attack`: one picture of the user's own, attacked offline, judged by the verifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perturbnet.api.attacking import AttackOutcome, attack
from perturbnet.api.models import open_profile
from perturbnet.attacks import open_attack
from perturbnet.config import Settings
from perturbnet.datasets.user_images import decode_any_image
from perturbnet.display.contact_sheet import SheetEntry, write_contact_sheet
from perturbnet.errors import AttackError
from perturbnet.rules.from_settings import build_rules
from perturbnet.rules.verification import NOT_REACHED, Verdict
from perturbnet.wire.images import Pixels, encode_png
from perturbnet.wire.units import from_ppb


@dataclass(frozen=True)
class AttackedPicture:
    """What an attack on a picture came to, and where it lies."""

    verdict: Verdict
    score: float
    adversarial: Path
    sheet: Path
    seconds: float

    @property
    def ssim(self) -> float:
        """Structural similarity, to nine decimals."""
        return from_ppb(self.verdict.ssim_ppb)

    @property
    def psnr_db(self) -> float | None:
        """Peak signal-to-noise ratio; None where nothing differs."""
        micro_db = self.verdict.psnr_micro_db
        return None if micro_db == NOT_REACHED else micro_db / 1e6


def attack_picture(path: Path, settings: Settings, *, out: Path, budget_s: float) -> AttackedPicture:
    """Attack a picture and write `NAME.adversarial.png` and `NAME.sheet.png` into `out`.

    Raises:
        PictureError: the file is no picture.
        ConfigError: no such attack or profile.
        AttackError: nothing was found that the verifier accepts.

    """
    clean = decode_any_image(path)
    open_attack(settings.attack)  # refused by the setting's name, and before the model is loaded
    model = open_profile(
        settings.profile, cache_dir=settings.cache_dir, device=settings.device, kind=settings.engine
    )
    rules = build_rules(settings)
    outcome = attack(model, clean, seconds=budget_s, rules=rules, name=settings.attack)
    if outcome.adversarial is None:
        stands = f"{path}: {outcome.before.text!r} stands (margin {outcome.before.margin:.3f})"
        hint = "try --seconds with more time, or another --attack"
        raise AttackError(f"{stands}: {outcome.reason} in {outcome.seconds:.1f} s", hint=hint)
    return _write(path, out, outcome, outcome.adversarial)


def _write(path: Path, out: Path, outcome: AttackOutcome, adversarial: Pixels) -> AttackedPicture:
    out.mkdir(parents=True, exist_ok=True)
    picture, sheet = out / f"{path.stem}.adversarial.png", out / f"{path.stem}.sheet.png"
    picture.write_bytes(encode_png(adversarial))
    verdict, score = outcome.verdict, from_ppb(outcome.score_ppb)
    entry = SheetEntry(
        clean=outcome.clean,
        adversarial=adversarial,
        label_before=verdict.label_before,
        label_after=verdict.label_after,
        linf_u8=verdict.linf_u8,
        changed=verdict.changed,
        score=score,
        miner="offline",
    )
    write_contact_sheet(sheet, [entry], path.name)
    return AttackedPicture(verdict, score, picture, sheet, outcome.seconds)
