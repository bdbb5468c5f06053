"""Which chain: `NETWORK=local` is a file on this machine, everything else is bittensor."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from perturbnet.chain.deadlines import READ_DEADLINE_S, SUBMIT_DEADLINE_S, DeadlineChain
from perturbnet.chain.genesis import FINNEY, OneNetwork
from perturbnet.chain.local import NETWORK, LocalChain
from perturbnet.chain.protocol import Chain
from perturbnet.errors import ConfigError
from perturbnet.runtime.clock import Clock


def open_chain(
    network: str,
    netuid: int,
    *,
    fallbacks: str | None = None,
    local_path: Path | None = None,
    clock: Clock | None = None,
    read_deadline_s: float = READ_DEADLINE_S,
    submit_deadline_s: float = SUBMIT_DEADLINE_S,
) -> DeadlineChain:
    """Return the chain of `network`, connected at its first call and again after each loss.

    `network` is `local` (the file `local_path`), `finney`, `test`, or a `ws://` or `wss://` endpoint. A local
    node of bittensor itself is `ws://127.0.0.1:9944`. `fallbacks` are further endpoints of the same network,
    commas between, asked in their order when one before them fails; one of another network is refused.

    Raises:
        ConfigError: an unknown network, `local` without a path or with fallbacks. Whether the file holds
            `netuid` is seen at the first call.

    """
    if network == NETWORK:
        if local_path is None:
            raise ConfigError(
                "PERTURB_LOCAL_CHAIN", local_path, "the path of the chain file, with NETWORK=local"
            )
        if fallbacks:
            raise ConfigError("PERTURB_CHAIN_FALLBACKS", fallbacks, "none, with NETWORK=local")
    elif network not in {"finney", "test"} and not network.startswith(("ws://", "wss://")):
        raise ConfigError("NETWORK", network, "local, finney, test, or a ws:// or wss:// endpoint")

    one = OneNetwork(network, FINNEY if network == "finney" else None)

    async def connect(place: str) -> Chain:
        if local_path is not None and network == NETWORK:
            return _open_local(local_path, netuid, clock)
        from perturbnet.chain.bittensor import BittensorChain

        return await BittensorChain.connect(place, netuid, one=one)

    return DeadlineChain(
        partial(connect, network),
        spares=[partial(connect, place) for place in (fallbacks.split(",") if fallbacks else ())],
        netuid=netuid,
        network=network,
        read_deadline_s=read_deadline_s,
        submit_deadline_s=submit_deadline_s,
    )


def _open_local(path: Path, netuid: int, clock: Clock | None) -> LocalChain:
    chain = LocalChain(path, clock=clock)
    if chain.netuid != netuid:
        raise ConfigError("NETUID", netuid, f"{chain.netuid}, the subnet in {path}")
    return chain
