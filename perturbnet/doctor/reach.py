"""Whether others reach this neuron, as far as that is told from inside.

From inside, a connection to one's own public address may be turned back by the router, or pass where a
stranger's would not. So success here is good news and no proof, and failure no proof either: each says so.
"""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import closing
from dataclasses import dataclass

from perturbnet.doctor.checks import CheckResult, bad, look, ok, unknown
from perturbnet.doctor.patient import Patient
from perturbnet.errors import ConfigError, PerturbError, Refused
from perturbnet.overview.feeds import LiveFeed
from perturbnet.telemetry.loopback import HOST
from perturbnet.wire.addresses import check_address

DEADLINE_S = 5.0
_WORD = b"perturb doctor\n"


@dataclass(frozen=True)
class Axon:
    """Where a miner says it is."""

    host: str
    port: int

    @property
    def health(self) -> str:
        """What somebody outside may ask."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{shown}:{self.port}/healthz"


def check_axon(patient: Patient) -> CheckResult:
    """A miner announces an address that validators dial, and the chain shows the same."""
    axon = own_axon(patient)
    neuron = patient.neuron
    if neuron.ip is None:
        return ok(f"{axon.host}:{axon.port}; the chain shows none yet: the first start announces it")
    if (neuron.ip, neuron.port) != (axon.host, axon.port):
        shown = f"the chain shows {neuron.ip}:{neuron.port}"
        todo = "nothing, if the new one is right: the next start announces it"
        return look(f"{axon.host}:{axon.port}; {shown}", todo)
    return ok(f"{axon.host}:{axon.port}, as on chain")


def check_port(patient: Patient) -> CheckResult:
    """The miner's port can be reached through the announced address."""
    axon, bind = own_axon(patient), patient.settings.axon_bind
    outside = f"from another machine: curl {axon.health}"
    if _answers(axon):
        return ok(f"a miner answers at {axon.host}:{axon.port} from here; {outside}")
    try:
        listener = _listen(bind, axon.port)
    except OSError as error:
        return bad(f"port {axon.port} on {bind}: {error.strerror}, and no miner answers at {axon.host}")
    with closing(listener):
        if _echoes(listener, axon):
            return ok(f"port {axon.port} is free, and {axon.host} leads here from here; {outside}")
    todo = f"open port {axon.port} in the firewall, lead it here in the router; then, {outside}"
    return unknown(f"port {axon.port} is free; through {axon.host} it is not reached from here", todo)


def check_loopback(patient: Patient) -> CheckResult:
    """The port of metrics and status is free, or this neuron's own."""
    settings = patient.settings
    port = settings.metrics_port
    if port == 0:
        return look("PERTURB_METRICS_PORT is 0: no metrics, no status")
    try:
        _listen(HOST, port).close()
    except OSError as error:
        reason = error.strerror
    else:
        return ok(f"{HOST}:{port} is free")
    try:
        LiveFeed(port, settings.state_dir).read()
    except PerturbError as error:
        if patient.role == "miner" and _answers(Axon(HOST, port)):
            return ok(f"{HOST}:{port} answers")
        return look(f"{HOST}:{port}: {reason}: no metrics and no status would be shown; {error.message}")
    return ok(f"{HOST}:{port} is this validator's")


def own_axon(patient: Patient) -> Axon:
    """The address to announce.

    Raises:
        ConfigError: it is not set, or validators would not dial it.

    """
    settings = patient.settings
    host = settings.axon_external_ip or ("127.0.0.1" if patient.local else None)
    try:
        address = check_address(host, settings.axon_port, allow_private=patient.local)
    except Refused:
        allowed = "this machine's public IPv4 or IPv6 address, which validators will connect to"
        raise ConfigError("PERTURB_AXON_EXTERNAL_IP", host, allowed) from None
    return Axon(address.host, address.port)


def _answers(axon: Axon) -> bool:
    """Whether a neuron of ours answers there."""
    connection = http.client.HTTPConnection(axon.host, axon.port, timeout=DEADLINE_S)
    with closing(connection):
        try:
            connection.request("GET", "/healthz")
            return b'"status"' in connection.getresponse().read(4096)
        except (OSError, http.client.HTTPException):
            return False


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(4)
        listener.settimeout(DEADLINE_S)
    except OSError:
        listener.close()
        raise
    return listener


def _echoes(listener: socket.socket, axon: Axon) -> bool:
    """Whether a connection to the announced address arrives at our own listener."""

    def greet() -> None:
        try:
            with closing(listener.accept()[0]) as caller:
                caller.sendall(_WORD)
        except OSError:
            return

    greeter = threading.Thread(target=greet, daemon=True)
    greeter.start()
    try:
        with socket.create_connection((axon.host, axon.port), timeout=DEADLINE_S) as caller:
            caller.settimeout(DEADLINE_S)
            return caller.recv(len(_WORD)) == _WORD
    except OSError:
        return False
    finally:
        listener.close()
        greeter.join(DEADLINE_S)
