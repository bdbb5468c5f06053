"""What a validator promised before it asked: leaves in, the rules' own values out, and back. Pure.

A leaf holds integers and text; selection, weights and verification work with values of their own. This room
translates, for the validator that writes the leaves and for the auditor that reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from pydantic import ValidationError

from perturbnet.errors import LedgerCorrupt
from perturbnet.ledger.leaves import ChallengeLeaf, ConfigLeaf, MetagraphLeaf, RulesLeaf
from perturbnet.rules.selection import SelectionRules
from perturbnet.rules.subnet import Metagraph, Neuron
from perturbnet.rules.weights import Standing, WeightVector, compute_weights
from perturbnet.wire.messages import Rules
from perturbnet.wire.target import Target


@dataclass(frozen=True)
class Terms:
    """What a challenge was sent under: by whom, rules, model, and where each asked miner listens."""

    netuid: int
    validator: str
    rules: Rules
    duplicates: str
    engine: str
    model_digest: str
    targets: tuple[Target, ...]


def build_terms(
    challenge: ChallengeLeaf,
    config: ConfigLeaf,
    rules: RulesLeaf,
    metagraph: MetagraphLeaf,
    *,
    neurons: Mapping[int, Neuron] | None = None,
) -> Terms:
    """Put together what the leaves say that a challenge refers to.

    `neurons` are those of `metagraph` where they were read before: a snapshot serves thousands of challenges.

    Raises:
        LedgerCorrupt: the metagraph leaf does not list a miner that was asked, or the rules are none.

    """
    known = read_neurons(metagraph) if neurons is None else neurons
    missing = sorted(set(challenge.asked) - set(known))
    if missing:
        raise LedgerCorrupt(f"round {challenge.round}: uids {missing} are not in its metagraph leaf")
    asked = [known[uid] for uid in challenge.asked]
    return Terms(
        netuid=config.netuid,
        validator=config.validator,
        rules=read_gates(rules),
        duplicates=str(rules.history.get("duplicates")),
        engine=config.engine,
        model_digest=config.model_digest,
        targets=tuple(Target(neuron.uid, neuron.hotkey, neuron.ip, neuron.port) for neuron in asked),
    )


def read_neurons(leaf: MetagraphLeaf) -> dict[int, Neuron]:
    """The neurons of a snapshot by uid. Raises `LedgerCorrupt` as `read_metagraph`."""
    return {neuron.uid: neuron for neuron in read_metagraph(leaf).neurons}


def read_gates(leaf: RulesLeaf) -> Rules:
    """The rules that travel with every challenge.

    Raises:
        LedgerCorrupt: they are none.

    """
    try:
        return Rules.model_validate(leaf.gates)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        raise LedgerCorrupt(f"a rules leaf whose gates are none: {fault['loc']}: {fault['msg']}") from None


def read_selection(leaf: RulesLeaf) -> SelectionRules:
    """The settings that a selection of miners depends on.

    Raises:
        LedgerCorrupt: one is missing or of another type.

    """
    try:
        return SelectionRules(
            k=int(leaf.selection["k"]),
            exploration=Decimal(str(leaf.selection["exploration"])),
            min_processed=int(leaf.history["min_processed_count"]),
            group_by_coldkey=bool(int(leaf.selection["group_by_coldkey"])),
            group_by_ip=bool(int(leaf.selection["group_by_ip"])),
        )
    except (KeyError, ValueError, InvalidOperation) as error:
        raise LedgerCorrupt(f"a rules leaf whose selection is none: {error!r}") from None


def weigh(standings: Iterable[Standing], leaf: RulesLeaf) -> WeightVector:
    """The weight vector that these rules give for these histories.

    Raises:
        LedgerCorrupt: the rules lack a number.

    """
    try:
        burn_uid = leaf.history["burn_uid"]
        return compute_weights(
            standings,
            history_size=int(leaf.history["history_size"]),
            min_processed=int(leaf.history["min_processed_count"]),
            burn_uid=None if burn_uid == "" else int(burn_uid),
        )
    except (KeyError, ValueError) as error:
        raise LedgerCorrupt(f"a rules leaf whose history is none: {error!r}") from None


def metagraph_leaf(metagraph: Metagraph) -> MetagraphLeaf:
    """The snapshot as the ledger keeps it."""
    neurons: list[list[int | str]] = []
    for neuron in metagraph.neurons:
        who: list[int | str] = [neuron.uid, neuron.hotkey, neuron.coldkey, int(neuron.validator_permit)]
        neurons.append([*who, neuron.ip or "", neuron.port])
    return MetagraphLeaf(metagraph.block, metagraph.netuid, neurons)


def read_metagraph(leaf: MetagraphLeaf) -> Metagraph:
    """The snapshot as selection reads it; what a leaf does not keep (stake, activity) is zero.

    Raises:
        LedgerCorrupt: a neuron is not (uid, hotkey, coldkey, permit, ip, port).

    """
    neurons = []
    for neuron in leaf.neurons:
        match neuron:
            case [int(uid), str(hotkey), str(coldkey), int(permit), str(ip), int(port)]:
                neurons.append(Neuron(uid, hotkey, coldkey, 0, bool(permit), False, ip or None, port, 0, 0))
            case _:
                raise LedgerCorrupt(
                    f"a metagraph leaf: neuron {neuron!r}, expected uid, hotkey, coldkey, permit, ip, port"
                )
    return Metagraph(leaf.block, leaf.netuid, tuple(neurons))
