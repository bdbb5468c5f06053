"""Who sent a request, and may they: numbered checks, the first that fails answers.

1. Headers: each of the signature's headers at most once (two values could be read differently on either
   side).
2. Signature: btauth/1 over method, path, body, nonce, sender and *this* receiver; the nonce is fresh.
3. Permit: the sender is a permitted validator (or the network is open).
4. Replay: the nonce was never accepted before, not even by the process before this one.

The permit comes before the nonce is stored, so that a stranger with a key of its own cannot fill the file.

Source: `bittensor.http_auth` of SDK 11.3 (the normative payload is `build_payload`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from bittensor import http_auth, sp_core

from perturbnet.errors import AuthenticationError
from perturbnet.runtime.clock import Clock
from perturbnet.transport.nonces import NonceStore
from perturbnet.wire import keys

FORBIDDEN = 403
_SIGNED_HEADERS = frozenset(
    name.lower()
    for name in (
        http_auth.HEADER_VERSION,
        http_auth.HEADER_HOTKEY,
        http_auth.HEADER_RECEIVER,
        http_auth.HEADER_NONCE,
        http_auth.HEADER_CRYPTO,
        http_auth.HEADER_SIGNATURE,
    )
)


class Permits(Protocol):
    """Who may ask."""

    def allowed(self, hotkey: str) -> bool:
        """Return whether this hotkey (ss58) may send requests."""


class AnyHotkey:
    """The switch for open test networks: whoever can sign may ask."""

    def allowed(self, hotkey: str) -> bool:  # noqa: ARG002 - the protocol's signature
        """Yes."""
        return True


class PermittedNeuron(Protocol):
    """What is read of a neuron."""

    @property
    def validator_permit(self) -> bool:
        """Whether the chain lets it set weights."""

    @property
    def stake_rao(self) -> int:
        """Its stake, rao."""


class RegisteredNeurons(Protocol):
    """What is read of a metagraph."""

    def by_hotkey(self, hotkey: str) -> PermittedNeuron | None:
        """Return the neuron with this hotkey, if there is one."""


class MetagraphPermits:
    """Validators of the newest metagraph snapshot: registered, with a validator permit and enough stake."""

    def __init__(self, snapshot: Callable[[], RegisteredNeurons | None], *, min_stake_rao: int = 0) -> None:
        """Read the newest snapshot from `snapshot`; while there is none, nobody is allowed."""
        self._snapshot, self._min_stake_rao = snapshot, min_stake_rao

    def allowed(self, hotkey: str) -> bool:
        """See `Permits`."""
        metagraph = self._snapshot()
        neuron = metagraph.by_hotkey(hotkey) if metagraph else None
        return neuron is not None and neuron.validator_permit and neuron.stake_rao >= self._min_stake_rao


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated sender of a request, and the decimal nonce of that request."""

    hotkey: str
    nonce: str


class Authenticator:
    """Checks requests to one hotkey."""

    def __init__(
        self,
        *,
        self_hotkey: str,
        permits: Permits,
        nonces: NonceStore,
        clock: Clock,
        max_age_s: float,
        allowed_skew_s: float,
    ) -> None:
        """Check requests that are signed for `self_hotkey`, at most so old, or so far ahead.

        Raises:
            ValueError: the nonces are kept for less time than a request stays fresh.

        """
        if nonces.retention_s < max_age_s + allowed_skew_s:
            raise ValueError(
                f"nonces are kept {nonces.retention_s} s; expected {max_age_s + allowed_skew_s} s or more"
            )
        self._self_hotkey, self._permits, self._nonces, self._clock = self_hotkey, permits, nonces, clock
        self._max_age_s, self._allowed_skew_s = max_age_s, allowed_skew_s

    def authenticate(
        self, headers: Iterable[tuple[str, str]], body: bytes, *, method: str, path: str
    ) -> Caller:
        """Run the checks 1 to 4 on a request whose body was read whole.

        Raises:
            AuthenticationError: with the HTTP status to answer: 401, or 403 for a sender who may not ask.
            TransportError: the nonce could not be stored.

        """
        fields = _single(headers)  # 1
        caller = self._verify(fields, body, method=method, path=path)  # 2
        if not self._permits.allowed(caller.hotkey_ss58):  # 3
            raise AuthenticationError(
                f"{caller.hotkey_ss58} is not a permitted validator here", status=FORBIDDEN
            )
        if not self._nonces.check_and_store(caller.hotkey_ss58, caller.nonce_ns):  # 4
            raise AuthenticationError("ReplayedRequest: this nonce was already accepted from this hotkey")
        return Caller(caller.hotkey_ss58, str(caller.nonce_ns))

    def _verify(self, fields: dict[str, str], body: bytes, *, method: str, path: str) -> http_auth.Caller:
        try:
            caller = http_auth.verify(
                fields,
                body,
                method=method,
                path=path,
                self_hotkey_ss58=self._self_hotkey,
                max_age=self._max_age_s,
                allowed_skew=self._allowed_skew_s,
                nonce_store=_Later(),
                now_ns=self._clock.time_ns(),
            )
        except http_auth.AuthError as error:
            raise AuthenticationError(f"{type(error).__name__}: {error}") from None
        # One key, one name: other ss58 formats of the same key, or another scheme, would be further callers.
        if caller.crypto_type != sp_core.CRYPTO_SR25519 or not keys.is_address(caller.hotkey_ss58):
            raise AuthenticationError("MalformedAuth: expected an sr25519 hotkey in ss58 format 42")
        return caller


class _Later:
    """Says yes: check 4 asks the real store once the permit is known."""

    def check_and_store(self, hotkey_ss58: str, nonce_ns: int) -> bool:  # noqa: ARG002 - the protocol's signature
        return True


def _single(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    signed = [(name.lower(), value) for name, value in headers if name.lower() in _SIGNED_HEADERS]
    for name, count in Counter(name for name, _ in signed).items():
        if count > 1:
            raise AuthenticationError(f"MalformedAuth: {name} appears {count} times")
    return dict(signed)
