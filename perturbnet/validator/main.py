"""The validator: opens its worlds, then round after round, and weights after each."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

from perturbnet.bootstrap.opening import open_held
from perturbnet.chain import Chain, open_chain
from perturbnet.config import Loaded, Settings
from perturbnet.errors import ChainError
from perturbnet.ledger.journal import Journal
from perturbnet.rounds.draws import EpochDraws
from perturbnet.rounds.policy import build_config_leaf, build_policy, build_rules_leaf, secret_source
from perturbnet.rules.from_settings import build_rules
from perturbnet.runtime import memory
from perturbnet.runtime.clock import Clock, SystemClock
from perturbnet.runtime.process import run_neuron, run_or_stop
from perturbnet.runtime.wallets import load_hotkey
from perturbnet.runtime.watchdog import Watchdog, open_watchdog
from perturbnet.telemetry import open_mirror
from perturbnet.transparency.signing import begin_log
from perturbnet.transport import Client, ClientLimits
from perturbnet.validator.certificates import take_certificates
from perturbnet.validator.publication import Publication, forget_old_deltas, open_publication
from perturbnet.validator.rounds import CHAIN_STEP_S, SLACK_S, Rounds
from perturbnet.validator.rule_change import RuleChange
from perturbnet.validator.watch import Watch
from perturbnet.validator.weight_setting import WeightSetter, find_obstacles
from perturbnet.wire.keys import Keypair

PUBLICATION_STEP_S = 3600.0  # for the watchdog: a first publication sends the whole log

log = logging.getLogger("validator")


@dataclass
class Validator:
    """Everything the loop needs."""

    settings: Settings
    rounds: Rounds
    change: RuleChange
    weights: WeightSetter
    publication: Publication | None
    watch: Watch
    watchdog: Watchdog
    clock: Clock

    async def loop(self) -> None:
        """Rounds until the settings say it is enough."""
        while not await self._attempt(self._recover):
            await self._wait(float(self.settings.challenge_retry_delay_seconds))
        while not self._enough():
            started_s = self.clock.monotonic_s()
            done = await self._attempt(self._round)
            pause_s = float(
                self.settings.query_interval_seconds if done else self.settings.challenge_retry_delay_seconds
            )
            if self._enough():
                await self.rounds.finish_telling()
            else:
                await self._wait(max(0.0, pause_s - (self.clock.monotonic_s() - started_s)))

    async def _wait(self, pause_s: float) -> None:
        self.watchdog.expect("waiting for the next round", pause_s + SLACK_S)
        await self.clock.sleep(pause_s)

    async def _recover(self) -> bool:
        await self.rounds.recover()
        return True

    async def _round(self) -> bool:
        started_s = self.clock.monotonic_s()
        if self.change.pending:
            await self.rounds.recover()
            self.rounds.policy = self.change.policy_at(await self.rounds.chain.block())
        receipts = await self.rounds.run()
        if receipts is None:
            return False
        state = self.rounds.journal.state
        earned = sum(receipt.score_ppb > 0 for receipt in receipts)
        log.info(
            "Round %d closed: %d of %d succeeded, %d leaves",
            state.rounds - 1,
            earned,
            len(receipts),
            state.size,
        )
        self.watch.round_closed(receipts, self.clock.monotonic_s() - started_s)
        self.watchdog.expect("setting weights", CHAIN_STEP_S)
        await self.weights.run()
        take_certificates(self.rounds.journal, self.settings.state_dir)
        self.watchdog.expect("publishing the log", PUBLICATION_STEP_S)
        if self.publication is not None:
            await self.publication.run()
        else:
            forget_old_deltas(self.rounds.journal, self.settings.keep_deltas_rounds)
        memory.give_back()
        return True

    async def _attempt(self, work: Callable[[], Awaitable[bool]]) -> bool:
        """The loop's edge: what the chain did to us is logged, and the next round tries again."""
        try:
            return await work()
        except ChainError as error:
            log.warning("%s", error.diagnostics())
            self.watch.failed(error)
            return False

    def _enough(self) -> bool:
        return 0 < self.settings.max_rounds <= self.rounds.journal.state.rounds


async def assemble(settings: Settings, journal: Journal, chain: Chain, keypair: Keypair) -> Validator:
    """Open engine and data set, record what this run computes with, and connect it all."""
    clock = SystemClock()
    metagraph = await chain.metagraph()
    for obstacle in find_obstacles(
        metagraph,
        await chain.hyperparameters(),
        keypair.ss58_address,
        version=settings.rules_version,
        burn_uid=settings.burn_uid,
    ):
        log.error("Weights will not count: %s", obstacle)
    log_source = begin_log(
        journal, settings.state_dir, keypair, network=settings.network, netuid=settings.netuid, clock=clock
    )
    publication = await open_publication(settings, journal, chain, keypair, log_source)
    held = await asyncio.to_thread(open_held, settings)
    engine, source, fingerprint = held.engine, held.source, held.manifest.digest
    rules = build_rules(settings)
    policy = build_policy(settings, rules, fingerprint)
    journal.record_config(
        build_config_leaf(
            settings, engine, source.identity, hotkey=keypair.ss58_address, fingerprint=fingerprint
        )
    )
    begins = settings.rules_activation_block or metagraph.block
    change = RuleChange(journal, policy, build_rules_leaf(settings, policy, block=begins))
    policy = change.policy_at(metagraph.block)
    draws = EpochDraws(journal, source.identity, secret_source(settings.secret_seed))
    log.info(
        "Model %s, data set %s (%d rows), protocol fingerprint %s",
        engine.model_name,
        source.identity.repository,
        source.identity.rows,
        fingerprint[:16],
    )
    courier = Client(
        keypair,
        netuid=settings.netuid,
        allow_private=settings.network == "local",
        clock=clock,
        limits=ClientLimits(max_response_bytes=settings.max_response_bytes),
    )
    watchdog = open_watchdog(os.environ, clock)
    rounds = Rounds(
        journal,
        draws,
        chain,
        courier,
        engine,
        source,
        keypair.ss58_address,
        policy,
        clock,
        expect=watchdog.expect,
    )
    weights = WeightSetter(journal, chain, keypair, settings.weights_window_blocks)
    mirror = open_mirror(settings, {"hotkey": keypair.ss58_address, "netuid": settings.netuid})
    watch = Watch(settings, journal, keypair.ss58_address, mirror, clock)
    if publication is not None:
        watch.published = lambda: publication.size
    return Validator(settings, rounds, change, weights, publication, watch, watchdog, clock)


async def validate(loaded: Loaded, stop: asyncio.Event) -> None:
    """Run a validator until it is done or stopped; everything is closed in the end."""
    settings = loaded.settings
    names = settings.wallet_name, settings.wallet_hotkey
    keypair = load_hotkey(settings.wallet_path, *names, file=settings.hotkey_file)
    journal = Journal(settings.state_dir)
    chain = open_chain(
        settings.network,
        settings.netuid,
        fallbacks=settings.chain_fallbacks,
        local_path=settings.local_chain,
        read_deadline_s=float(settings.chain_deadline_seconds),
    )
    try:
        validator = await assemble(settings, journal, chain, keypair)
        network, netuid = settings.network, settings.netuid
        log.info("Validator %s started on %s, netuid %d", keypair.ss58_address, network, netuid)
        chain.observe = validator.watch.chain_called
        validator.watch.start()
        memory.set_aside()
        try:
            async with validator.watchdog.watching():
                await run_or_stop(validator.loop(), stop)
        finally:
            validator.watch.close()
    finally:
        await chain.close()
        journal.close()
        log.info("Validator ended")


def main(loaded: Loaded | None = None) -> NoReturn:
    """Run from the environment, or from settings that the command line has parsed."""
    run_neuron(validate, loaded)
