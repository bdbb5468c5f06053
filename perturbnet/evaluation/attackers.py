"""The "miners" of an evaluation: attacks in this process, each with a hotkey that signs its answers.

Rules
- An answer is what a miner would send: the bytes of an `AttackResponse`, signed over challenge, body and
  pixels. What the ledger keeps is what the verifier reads.
- The best image that the verifier accepted before the deadline is the answer; one that came later is not.
- On the virtual clock every pass costs a stated time (`attack_bench.metering`), so a run finds the same
  images on every machine that computes the same; on the wall clock it depends on how fast the machine is.
- A search's seed follows from the image and the attack's name alone.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from perturbnet.attack_comparison.metering import Meter, MeteredOracle, MeteredTask, VirtualCosts
from perturbnet.attacks import Attack, Bank, Deadline, open_attack
from perturbnet.classifier.oracle import Differentiable
from perturbnet.errors import AttackError, ConfigError, PerturbError, Reject
from perturbnet.ledger import ArrivalRow, OpenRound
from perturbnet.miner.search import build_response
from perturbnet.rules.classification import Classification, Engine
from perturbnet.rules.subnet import Metagraph, Neuron
from perturbnet.rules.verification import Task, verify
from perturbnet.runtime.wallets import create_wallet
from perturbnet.wire import keys
from perturbnet.wire.images import Pixels
from perturbnet.wire.keys import Keypair
from perturbnet.wire.messages import RESPONSE_DOMAIN, AttackResponse, body_digest, encode, response_payload

WALLETS = "keys"
JUDGE_UID = 0
NETUID = 0
_REASON = "nothing that the verifier accepts was found in time"


@dataclass(frozen=True)
class Attacker:
    """An attack with a uid and the hotkey that signs what it answers."""

    uid: int
    attack: Attack
    hotkey: Keypair
    coldkey_ss58: str


@dataclass(frozen=True)
class SearchBudget:
    """How long an attack may search one image, and by which clock."""

    seconds: float
    virtual: bool = False
    costs: VirtualCosts = field(default_factory=VirtualCosts)


@dataclass(frozen=True)
class Arena:
    """What all searches share: the judge, the network to search on, the budget, whose challenges they are."""

    engine: Engine
    search: Differentiable
    budget: SearchBudget
    judge_hotkey: str


@dataclass(frozen=True)
class Given:
    """An answer: the row as the ledger notes it, and the bytes that it names."""

    row: ArrivalRow
    body: bytes


def require_attacks(names: list[str]) -> list[Attack]:
    """The attacks of these names.

    Raises:
        ConfigError: there is none of that name, or one is named twice.
        AttackError: a third party's cannot be imported.

    """
    if len(set(names)) != len(names):
        raise ConfigError("--attack", ", ".join(names), "each attack once")
    return [open_attack(name) for name in names]


def open_attackers(names: list[str], out: Path) -> list[Attacker]:
    """One for each name, with uids from 1 on; their wallets lie in `out`/keys and are made where missing.

    Raises:
        WalletError: a key in `out` cannot be read or written. Raises as `require_attacks`.

    """
    found = []
    for uid, attack in enumerate(require_attacks(names), JUDGE_UID + 1):
        wallet = create_wallet(out / WALLETS, "attacks", f"attack-{uid}")
        found.append(Attacker(uid, attack, wallet.hotkey, wallet.coldkey_ss58))
    return found


def describe_metagraph(judge: Keypair, attackers: list[Attacker]) -> Metagraph:
    """Who takes part: the evaluation's own key, and the attacks. Nobody listens anywhere."""
    owner = Neuron(JUDGE_UID, judge.ss58_address, judge.ss58_address, 0, True, True, None, 0, 0, 0)
    others = [
        Neuron(each.uid, each.hotkey.ss58_address, each.coldkey_ss58, 0, False, True, None, 0, 0, 0)
        for each in attackers
    ]
    return Metagraph(0, NETUID, (owner, *others))


def answer(arena: Arena, attacker: Attacker, opened: OpenRound, task: Task, label: Classification) -> Given:
    """Search one image, and answer its challenge as a miner would.

    Raises:
        AttackError: the attack itself failed; nothing may be concluded from that.

    """
    meter = Meter(arena.budget.virtual, arena.budget.costs)
    started_s = meter.clock.monotonic_s()
    deadline = Deadline(meter.clock, started_s + arena.budget.seconds)
    bank = Bank(task.clean, _SearchVerifier(arena, task, label, meter), meter.clock)
    hunt = MeteredTask(
        clean=task.clean,
        label_index=label.index,
        levels=task.rules.levels(task.epsilon),
        accepts=bank,
        seed=_seed(attacker.attack.name, opened.leaf.clean_pixels),
        min_ssim=float(task.rules.min_ssim),
        min_psnr_db=float(task.rules.min_psnr_db),
        meter=meter,
    )
    try:
        attacker.attack.run(MeteredOracle(arena.search, meter), hunt, deadline)
    except PerturbError as error:
        raise AttackError(_failed(attacker, opened, error.message), hint=error.hint) from error
    except Exception as error:  # a third party's code: named, and the run ends
        raise AttackError(_failed(attacker, opened, repr(error))) from error
    took_s = min(meter.clock.monotonic_s() - started_s, arena.budget.seconds)
    in_time = [found for found in bank.accepted if found.at_s <= deadline.at_s]
    return _sign(arena, attacker, opened, in_time[-1].pixels if in_time else None, round(took_s * 1000))


class _SearchVerifier:
    """The verifier's word on an image, by the very bytes that would be sent."""

    def __init__(self, arena: Arena, task: Task, label: Classification, meter: Meter) -> None:
        self._engine, self._task, self._label, self._meter = arena.engine, task, label, meter

    def __call__(self, pixels: Pixels) -> bool:
        self._meter.count(verifications=1)
        body = encode(build_response(self._task.task_id, self._task.challenge_id, pixels))
        return verify(self._task, body, self._engine, clean=self._label).reject is Reject.OK


def _sign(
    arena: Arena, attacker: Attacker, opened: OpenRound, pixels: Pixels | None, response_ms: int
) -> Given:
    if pixels is None:
        response = AttackResponse(task_id=opened.leaf.task_id, challenge_id=opened.hash, reason=_REASON)
    else:
        response = build_response(opened.leaf.task_id, opened.hash, pixels)
    body, nonce = encode(response), str(secrets.randbelow(10**18))
    payload = response_payload(
        netuid=NETUID,
        validator=arena.judge_hotkey,
        challenge_id=opened.hash,
        nonce=nonce,
        body_sha256=body_digest(body),
        pixels_sha256=response.pixels_sha256,
    )
    signature = "0x" + keys.sign(attacker.hotkey, RESPONSE_DOMAIN, payload).hex()
    row = ArrivalRow(
        challenge=opened.position,
        uid=attacker.uid,
        hotkey=attacker.hotkey.ss58_address,
        reject=Reject.OK.value,
        body=body_digest(body),
        nonce=nonce,
        signature=signature,
        response_ms=response_ms,
    )
    return Given(row, body)


def _seed(name: str, clean_pixels: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{name}:{clean_pixels}".encode()).digest()[:4], "big")


def _failed(attacker: Attacker, opened: OpenRound, reason: str) -> str:
    return f"the attack {attacker.attack.name!r} failed on row {opened.leaf.row}: {reason}"
