"""What the checks look at: settings, keys, the chain, this machine. Each is read once, when first asked for.

An error while reading is kept and raised again to every check that needs it, so a chain that is silent costs
one deadline and not five.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from perturbnet.bootstrap.holdings import open_manifest
from perturbnet.bootstrap.manifest import Manifest
from perturbnet.bootstrap.records import Workplace
from perturbnet.chain import Chain, Hyperparameters, open_chain
from perturbnet.config import Loaded, Settings
from perturbnet.doctor.facts import Machine, free_bytes, read_gpus, read_machine
from perturbnet.errors import PerturbError
from perturbnet.rules.subnet import Metagraph, Neuron
from perturbnet.runtime.wallets import load_hotkey
from perturbnet.wire.keys import Keypair

T = TypeVar("T")


@dataclass(frozen=True)
class OnChain:
    """What the chain said, all at once."""

    metagraph: Metagraph
    rules: Hyperparameters


@dataclass
class Patient:
    """One neuron before it is started, or while it runs."""

    loaded: Loaded
    role: Literal["validator", "miner"]
    machine: Callable[[], Machine] = read_machine
    free_bytes: Callable[[Path], int] = free_bytes
    gpus: Callable[[], list[tuple[str, int]]] = read_gpus
    connect: Callable[[Settings], Chain] | None = None
    _errors: dict[str, PerturbError] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """Its settings."""
        return self.loaded.settings

    @property
    def local(self) -> bool:
        """Whether it lives on a network of one machine."""
        return self.settings.network == "local"

    @property
    def workplace(self) -> Workplace:
        """Where what bootstrap prepared lies."""
        return Workplace(self.settings.cache_dir, self.settings.profile)

    @property
    def keypair(self) -> Keypair:
        """Its hotkey; raises WalletError."""
        return self._once("keypair", lambda: self._keypair)

    @property
    def on_chain(self) -> OnChain:
        """What the chain says; raises ChainError."""
        return self._once("chain", lambda: self._on_chain)

    @property
    def neuron(self) -> Neuron:
        """Its own entry on chain; raises ChainError, WalletError."""
        return self.on_chain.metagraph.registered(self.keypair.ss58_address)

    @property
    def manifest(self) -> Manifest:
        """What bootstrap made; raises ArtifactError."""
        return self._once("manifest", lambda: self._manifest)

    def _once(self, name: str, read: Callable[[], T]) -> T:
        if name in self._errors:
            raise self._errors[name]
        try:
            return read()
        except PerturbError as error:
            self._errors[name] = error
            raise

    @cached_property
    def _keypair(self) -> Keypair:
        settings = self.settings
        names = (settings.wallet_path, settings.wallet_name, settings.wallet_hotkey)
        return load_hotkey(*names, file=settings.hotkey_file)

    @cached_property
    def _on_chain(self) -> OnChain:
        return asyncio.run(_read_chain((self.connect or _connect)(self.settings)))

    @cached_property
    def _manifest(self) -> Manifest:
        return open_manifest(self.workplace)


def _connect(settings: Settings) -> Chain:
    return open_chain(
        settings.network,
        settings.netuid,
        fallbacks=settings.chain_fallbacks,
        local_path=settings.local_chain,
        read_deadline_s=float(settings.chain_deadline_seconds),
    )


async def _read_chain(chain: Chain) -> OnChain:
    try:
        return OnChain(await chain.metagraph(), await chain.hyperparameters())
    finally:
        await chain.close()
