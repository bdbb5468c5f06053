"""Signed HTTP between validators and miners.

The SDK's version 11 has no Axon or Dendrite; it signs and verifies plain HTTP requests
(`bittensor.http_auth`, btauth/1). This room is the HTTP around it. `server` is the miner's end, `client` the
validator's. Both treat the other side as hostile: every size, count and duration has a limit, and each
refusal has a name.

The order of imports: rates, nonces, evidence -> authentication, connections, intake -> server; and
arrivals, http_exchange -> client.
"""

from __future__ import annotations

from perturbnet.transport.arrivals import Arrival, Delivery, Query
from perturbnet.transport.authentication import AnyHotkey, MetagraphPermits, Permits
from perturbnet.transport.client import Client, ClientLimits
from perturbnet.transport.evidence import SignedMessage, parse_signed, verify_signed
from perturbnet.transport.intake import ServerLimits
from perturbnet.transport.nonces import NonceFileCorrupt, NonceFileLocked, NonceStore
from perturbnet.transport.server import Handlers, Server

__all__ = [
    "AnyHotkey",
    "Arrival",
    "Client",
    "ClientLimits",
    "Delivery",
    "Handlers",
    "MetagraphPermits",
    "NonceFileCorrupt",
    "NonceFileLocked",
    "NonceStore",
    "Permits",
    "Query",
    "Server",
    "ServerLimits",
    "SignedMessage",
    "parse_signed",
    "verify_signed",
]
