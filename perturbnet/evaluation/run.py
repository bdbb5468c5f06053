"""From what a user asked for to an open evaluation; what is cheap to refuse is refused first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from perturbnet.config import Settings
from perturbnet.errors import LedgerError
from perturbnet.evaluation.attackers import SearchBudget, open_attackers, require_attacks
from perturbnet.evaluation.engines import PlainClassification, open_network
from perturbnet.evaluation.images import IMAGES_FILE, FolderSource, ImageOptions, record_images
from perturbnet.evaluation.networks import (
    FOLDERS,
    Choices,
    Network,
    class_finder,
    describe_network,
    no_class,
)
from perturbnet.evaluation.plan import EvaluationPlan, build_plan, record_plan
from perturbnet.evaluation.scanning import list_candidates
from perturbnet.evaluation.session import BUNDLE, Session, open_session, own_key, require_fixed_cap
from perturbnet.evaluation.weights_files import HubAccess, find_weights
from perturbnet.rules.from_settings import build_rules
from perturbnet.runtime.folders import make_folder
from perturbnet.runtime.progress import Progress
from perturbnet.runtime.wallets import load_hotkey


@dataclass(frozen=True)
class EvaluationRequest:
    """What a user asked for."""

    model: str
    images: Path
    out: Path
    settings: Settings
    attacks: list[str]
    budget: SearchBudget
    arch: str | None = None
    choices: Choices = field(default_factory=Choices)
    wish: ImageOptions = field(default_factory=ImageOptions)
    labelled: bool = True
    compiled: bool = True
    fetch: bool = False
    key_file: Path | None = None


@dataclass(frozen=True)
class PreparedEvaluation:
    """All that decides what an evaluation finds, opened and compared with what its folder holds."""

    request: EvaluationRequest
    network: Network
    judged: PlainClassification
    images: FolderSource
    plan: EvaluationPlan

    @property
    def bundle(self) -> Path:
        """Where the log is published."""
        return self.request.out / BUNDLE


def prepare(request: EvaluationRequest, progress: Progress) -> PreparedEvaluation:
    """Open model and images; begin the evaluation's folder, or find the same evaluation there.

    Args:
        request: what is asked for.
        progress: told how much of a download, and then of the folder, was read, and of how much.

    Raises:
        ConfigError, ArtifactMissing, ModelError: the model; see `weights_files`, `networks`, `engines`.
        DatasetError: the images; see `images.record_images`.
        LedgerError: `out` holds something else.

    """
    settings, out = request.settings, request.out
    require_fixed_cap(settings)
    require_attacks(request.attacks)
    _require_ours(out)
    network = _describe(request, progress)
    make_folder(out)
    recorded = record_images(
        out,
        request.images,
        request.wish,
        classes=network.labels,
        label_of=class_finder(network.labels) if request.labelled else no_class,
        progress=progress,
    )
    images = FolderSource(recorded, request.images)
    judged = open_network(network, out, device=settings.device, compiled=request.compiled)
    plan = build_plan(
        network,
        judged,
        images,
        request.attacks,
        request.budget,
        build_rules(settings),
        freshness=settings.challenge_augment,
        seed=request.wish.seed,
    )
    record_plan(out, plan, request.images)
    return PreparedEvaluation(request, network, judged, images, plan)


@contextmanager
def open_evaluation(prepared: PreparedEvaluation) -> Iterator[Session]:
    """Open the evaluation's log, to go on with it.

    Raises:
        LedgerError: the log is damaged, another key's, or open in another process.
        WalletError: no such key.
        AttackError: a third party's attack cannot be imported.

    """
    request = prepared.request
    own = request.key_file is None
    keypair = own_key(request.out) if own else load_hotkey(Path(), "", "", file=request.key_file)
    with open_session(
        request.out,
        request.settings,
        judged=prepared.judged,
        images=prepared.images,
        attackers=open_attackers(request.attacks, request.out),
        budget=request.budget,
        plan=prepared.plan,
        keypair=keypair,
        seed=request.wish.seed,
    ) as session:
        yield session


def hub_access(
    cache_dir: Path, token: str | None, *, fetch: bool, progress: Progress = lambda _done, _of: None
) -> HubAccess:
    """The hub caches of this machine: ours, then huggingface_hub's own."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return HubAccess((cache_dir / "hub", Path(HF_HUB_CACHE)), fetch, token, progress=progress)


def _describe(request: EvaluationRequest, progress: Progress) -> Network:
    settings = request.settings
    access = hub_access(settings.cache_dir, settings.hf_token, fetch=request.fetch, progress=progress)
    weights = find_weights(request.model, request.arch, access)
    folders: list[str] = []
    if request.choices.labels == FOLDERS:
        found, _ = list_candidates(request.images)
        folders = sorted({candidate.folder for candidate in found} - {""})
    return describe_network(weights, request.choices, folders)


def _require_ours(out: Path) -> None:
    """A folder that is not there, is empty, or is an evaluation's.

    Raises:
        LedgerError: it holds something else.

    """
    if not out.exists():
        return
    if not out.is_dir():
        raise LedgerError(f"{out} is no folder", hint="name another --out")
    known = {IMAGES_FILE, "keys"}
    names = {path.name for path in out.iterdir()}
    if names and not names & known:
        some = ", ".join(sorted(names)[:3])
        raise LedgerError(f"{out} holds something else than an evaluation: {some}", hint="name another --out")
