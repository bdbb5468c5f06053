"""The miner: announces its axon, warms up, and answers challenges until it is stopped."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import sys
from dataclasses import dataclass
from typing import NoReturn

from perturbnet.attacks import open_attack
from perturbnet.bootstrap.holdings import open_manifest, require_engine
from perturbnet.bootstrap.records import Workplace
from perturbnet.chain import Chain, open_chain
from perturbnet.classifier import open_engine, open_oracle
from perturbnet.config import Loaded, Settings
from perturbnet.errors import ChainError, ChainRejected, ConfigError
from perturbnet.miner.keepsakes import Keepsakes
from perturbnet.miner.reserve import TimeToSearch
from perturbnet.miner.service import MinerService
from perturbnet.rules.subnet import Metagraph
from perturbnet.runtime.clock import Clock, SystemClock
from perturbnet.runtime.process import run_neuron, run_or_stop
from perturbnet.runtime.wallets import load_hotkey
from perturbnet.runtime.watchdog import Expect, expect_nothing, open_watchdog
from perturbnet.telemetry import Loopback
from perturbnet.transport import AnyHotkey, MetagraphPermits, NonceStore, Server
from perturbnet.transport.server import Handlers
from perturbnet.wire.keys import Keypair

METAGRAPH_EVERY_S = 60.0
SWITCH_EVERY_S = 0.001  # of Python's threads: a due answer does not wait behind two dozen searches
METAGRAPH_EVERY_S_LOCAL = 2.0
METAGRAPH_STEP_S = 600.0  # for the watchdog: what one reading may take at the very most

log = logging.getLogger("miner")


@dataclass
class Registrations:
    """Keeps the newest metagraph at hand, so that permits are checked without asking the chain each time."""

    chain: Chain
    clock: Clock
    every_s: float
    newest: Metagraph | None = None
    expect: Expect = expect_nothing

    async def refresh(self) -> Metagraph:
        """Read the metagraph now."""
        self.newest = await self.chain.metagraph()
        return self.newest

    async def keep(self) -> None:
        """Read it again and again; an old one is better than none."""
        while True:
            self.expect("answering; the metagraph is read now and then", self.every_s + METAGRAPH_STEP_S)
            await self.clock.sleep(self.every_s)
            try:
                await self.refresh()
            except ChainError as error:
                log.warning("The metagraph could not be read: %s", error.message)


def external_ip(settings: Settings) -> str:
    """The address to announce.

    Raises:
        ConfigError: not set, or not an address.

    """
    text = settings.axon_external_ip
    if text is None and settings.network == "local":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        allowed = "this machine's public IPv4 or IPv6 address, which validators will connect to"
        raise ConfigError("PERTURB_AXON_EXTERNAL_IP", text, allowed) from None


async def announce(chain: Chain, keypair: Keypair, ip: str, port: int, metagraph: Metagraph) -> None:
    """Write the axon to the chain, unless it stands there already."""
    neuron = metagraph.registered(keypair.ss58_address)
    if (neuron.ip, neuron.port) == (ip, port):
        log.info("Serving miner axon at %s:%d (uid %d, announced already)", ip, port, neuron.uid)
        return
    try:
        block = await chain.serve(keypair, ip, port)
    except ChainRejected as error:
        log.error("The chain refused the axon: %s", error.message)
        raise
    log.info("Serving miner axon at %s:%d (uid %d, block %d)", ip, port, neuron.uid, block)


async def mine(loaded: Loaded, stop: asyncio.Event) -> None:
    """Run a miner until it is stopped; everything is closed in the end."""
    settings = loaded.settings
    sys.setswitchinterval(SWITCH_EVERY_S)
    keypair = load_hotkey(
        settings.wallet_path, settings.wallet_name, settings.wallet_hotkey, file=settings.hotkey_file
    )
    ip = external_ip(settings)
    clock = SystemClock()
    watchdog = open_watchdog(os.environ, clock)
    local = settings.network == "local"
    chain = open_chain(
        settings.network,
        settings.netuid,
        fallbacks=settings.chain_fallbacks,
        local_path=settings.local_chain,
        read_deadline_s=float(settings.chain_deadline_seconds),
    )
    registrations = Registrations(chain, clock, METAGRAPH_EVERY_S_LOCAL if local else METAGRAPH_EVERY_S)
    registrations.expect = watchdog.expect
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    nonces = NonceStore(settings.state_dir / "nonces.sqlite", clock=clock)
    try:
        metagraph = await registrations.refresh()
        metagraph.registered(keypair.ss58_address)
        service = await asyncio.to_thread(build_service, settings, keypair, clock)
        permits = AnyHotkey() if settings.open_network else MetagraphPermits(lambda: registrations.newest)
        server = Server(
            keypair=keypair,
            netuid=settings.netuid,
            permits=permits,
            nonces=nonces,
            handlers=Handlers(service.answer, service.acknowledged),
            host=settings.axon_bind,
            port=settings.axon_port,
            clock=clock,
        )
        numbers = Loopback(service.registry)
        await server.start()
        try:
            await announce(chain, keypair, ip, server.port, metagraph)
            if settings.metrics_port:
                numbers.start(settings.metrics_port)
            log.info("Miner started. Waiting for validator queries.")
            async with watchdog.watching():
                await run_or_stop(registrations.keep(), stop)
        finally:
            await server.stop()
            numbers.close()
            service.close()
    finally:
        nonces.close()
        await chain.close()
        log.info("Miner ended")


def build_service(settings: Settings, keypair: Keypair, clock: Clock) -> MinerService:
    """Load the model, compare it with the manifest, warm it up, and choose the attack.

    A miner holds no data set, so of its manifest only the model is compared.
    """
    manifest = open_manifest(Workplace(settings.cache_dir, settings.profile))
    attack = open_attack(settings.attack)
    profile, cache_dir, device, kind = settings.profile, settings.cache_dir, settings.device, settings.engine
    engine = open_engine(profile, cache_dir=cache_dir, device=device, kind=kind)
    require_engine(manifest, engine)
    oracle = open_oracle(profile, cache_dir=cache_dir, device=device, kind=kind)
    keepsakes = Keepsakes(settings.state_dir)
    service = MinerService(
        engine,
        oracle,
        attack,
        keypair.ss58_address,
        clock,
        keepsakes,
        manifest.digest,
        answer_reserve_s=float(settings.answer_reserve_seconds),
        searches=settings.searches,
    )
    service.warm_up()
    time = TimeToSearch.of(settings)
    log.log(
        logging.ERROR if time.none else logging.WARNING if time.little else logging.INFO, "Time: %s", time
    )
    log.info("Model %s, protocol fingerprint %s", engine.model_name, manifest.digest[:16])
    return service


def main(loaded: Loaded | None = None) -> NoReturn:
    """Run from the environment, or from settings that the command line has parsed."""
    run_neuron(mine, loaded)
