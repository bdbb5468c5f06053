"""Open a local network for services: one chain file, and a hotkey for each name.

    python tests/nix/open_network.py FOLDER validator miner-one miner-two

Makes FOLDER/chain.sqlite and FOLDER/<name>.hotkey and registers every name; the one called `validator` has
stake. The services that share the chain run as users of their own: folder and chain are for everybody.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from perturbnet.chain import LocalChain
from perturbnet.localnet.network import BLOCK_TIME_MS, NETUID, RULES, VALIDATOR_STAKE_RAO
from perturbnet.runtime.wallets import create_wallet


def open_network(folder: Path, names: list[str]) -> None:
    """Make the chain, then key and registration of each name."""
    folder.mkdir(parents=True)
    chain = LocalChain.create(folder / "chain.sqlite", NETUID, rules=RULES, block_time_ms=BLOCK_TIME_MS)
    for name in names:
        wallet = create_wallet(folder / "wallets", name, "default")
        shutil.copy(folder / "wallets" / name / "hotkeys" / "default", folder / f"{name}.hotkey")
        stake_rao = VALIDATOR_STAKE_RAO if name == "validator" else 0
        asyncio.run(chain.register(wallet.hotkey.ss58_address, wallet.coldkey_ss58, stake_rao))
    (folder / "chain.sqlite").chmod(0o666)
    folder.chmod(0o777)


if __name__ == "__main__":
    open_network(Path(sys.argv[1]), sys.argv[2:])
