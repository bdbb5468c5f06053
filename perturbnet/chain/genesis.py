"""One network, however many endpoints: all of them must have begun with the same block.

The hash of block 0 names a network. Finney's is known; of any other network it is that of the endpoint which
answered first. An endpoint with another one is left alone and named, so a wrong line in
PERTURB_CHAIN_FALLBACKS can neither show us another network's miners nor take our weights.

Source: bittensor 11.3, `settings.FINNEY_GENESIS_HASH`.
"""

from __future__ import annotations

from perturbnet.errors import ChainUnavailable

FINNEY = "0x2f0555cc76fc2840a25a6ea3b9637146806f1f44b090c175ffde2a7e5ab36c03"


class OneNetwork:
    """Compares the genesis of endpoints with the first one's; `known` is the network's, where it is known."""

    def __init__(self, network: str, known: str | None = None) -> None:
        """Compare nothing yet."""
        self._expected, self._whose = known, network

    def require(self, place: str, genesis: str) -> None:
        """Let the endpoint `place` pass, whose block 0 has the hash `genesis` (0x and hex), or refuse it.

        Raises:
            ChainUnavailable: it serves another network. So the next endpoint is asked.

        """
        found = genesis.lower()
        if self._expected is None:
            self._expected, self._whose = found, place
        if found != self._expected:
            raise ChainUnavailable(
                f"{place} serves another network: its genesis is {found}, that of {self._whose} is "
                f"{self._expected}",
                hint="name endpoints of one network in NETWORK and PERTURB_CHAIN_FALLBACKS",
            )
