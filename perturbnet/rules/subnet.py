"""A snapshot of the subnet: who is registered, with which permit, and where it listens; what it committed."""

from __future__ import annotations

from dataclasses import dataclass

from perturbnet.errors import NotRegistered


@dataclass(frozen=True)
class Neuron:
    """One registered hotkey. `ip` is None when nothing is served; its own word, never checked."""

    uid: int
    hotkey: str
    coldkey: str
    stake_rao: int
    validator_permit: bool
    active: bool
    ip: str | None
    port: int
    last_update: int
    registered_block: int


@dataclass(frozen=True)
class Metagraph:
    """All neurons of the subnet at one block, in the order of their uids."""

    block: int
    netuid: int
    neurons: tuple[Neuron, ...]

    def by_hotkey(self, hotkey: str) -> Neuron | None:
        """The neuron of `hotkey`, or None."""
        return next((neuron for neuron in self.neurons if neuron.hotkey == hotkey), None)

    def by_uid(self, uid: int) -> Neuron | None:
        """The neuron at `uid`, or None."""
        return next((neuron for neuron in self.neurons if neuron.uid == uid), None)

    def registered(self, hotkey: str) -> Neuron:
        """The neuron of `hotkey`.

        Raises:
            NotRegistered: it has no uid at this block; the hint says what to do.

        """
        neuron = self.by_hotkey(hotkey)
        if neuron is None:
            text = f"hotkey {hotkey} is not registered on netuid {self.netuid} at block {self.block}"
            raise NotRegistered(text, hint=f"register it: btcli subnets register --netuid {self.netuid}")
        return neuron


@dataclass(frozen=True)
class Commitment:
    """The newest commitment of a hotkey: up to three raw fields and the block they were written at."""

    block: int
    fields: tuple[bytes, ...]
