"""Every error this project raises, and every reason for which a response is refused.

PerturbError                     message, `diagnostics()`, exit code
├── ConfigError                  a setting: name, value, what is allowed
├── ArgumentError                an argument of the Python API: name, value, what is allowed; a ValueError too
├── ImageError                   malformed or hostile image bytes; carries a Reject
├── MessageError                 malformed or hostile message; carries a Reject
├── ArtifactError                pinned files
│   ├── ArtifactMissing          not there; says how to get it
│   ├── DigestMismatch           there, but different: expected, got
│   ├── HubRefused               the hub says no, and will say so again: token, revision, repository
│   ├── HubUnavailable           the hub gives no whole answer; later it may
│   └── DiskFull                 needed, free, folder
├── DatasetError                 a data set that is truncated or of another revision
│   └── RowUnreadable            one row that does not decode; skipped and recorded
├── ModelError                   a network or engine that cannot be built or trusted
├── ChallengeError               a challenge that must not be sent
├── AttackError                  an attack that cannot run
├── LedgerError                  the validator's state
│   ├── LedgerCorrupt            refused, never reset
│   │   └── LeafRefused          one leaf that cannot follow the others: field, expected, got
│   ├── LedgerLocked             another process holds it
│   ├── LedgerForked             not an extension of what was anchored or published: never signed
│   ├── NoteError                a signed note that is malformed, or whose signature is not the log's
│   └── BundleError              a published log that is malformed or too large
│       ├── BundleMissing        a file that must be there is not, or cannot be fetched
│       └── BundleTampered       a hash is not the one the checkpoint leads to
├── AuditError                   an audit that cannot be made, or parts that do not add up
├── OutputError                  a product that cannot be made or read: a folder in use, a licence, a form
├── ChainError                   the chain
│   ├── ChainTimeout             our own deadline passed
│   ├── ChainUnavailable         no endpoint answers
│   ├── ChainRejected            the runtime said no: carries its reason
│   └── NotRegistered            the hotkey has no uid on the subnet
├── WalletError                  a key that is missing or unreadable
└── TransportError               signed HTTP
    ├── PortInUse                the axon's port is taken
    └── AuthenticationError      a signature, a permit, a nonce

Errors name the value and what is allowed. `exit_code` is what the command line returns: 1 for findings
and failures, 2 for usage and settings (click's own convention), 3 for state that was refused.
"""

from __future__ import annotations

from enum import StrEnum

_MOST_SHOWN = 100  # characters of a value


class Reject(StrEnum):
    """Why a response earned nothing. The text is part of a verdict, so it never changes meaning."""

    OK = "ok"
    # Transport: the response never became bytes that can be verified.
    NOT_SERVING = "not_serving"  # no axon announced on chain
    ADDRESS_REFUSED = "address_refused"  # private or malformed address announced
    OFFLINE = "offline"  # connection refused or reset
    TIMEOUT = "timeout"  # nothing complete within the round's deadline
    HTTP_ERROR = "http_error"  # a status other than 200
    INTERRUPTED = "interrupted"  # the validator itself stopped; never counted
    # 1. The body.
    BODY_TOO_LARGE = "body_too_large"
    BAD_MESSAGE = "bad_message"  # not the JSON object the protocol names, or for another task
    BAD_SIGNATURE = "bad_signature"
    NO_IMAGE = "no_image"  # the miner says it found none
    # 2. Base64.
    BAD_BASE64 = "bad_base64"
    # 3. PNG, one code per family of faults.
    PNG_SIGNATURE = "png_signature"
    PNG_HEADER = "png_header"  # IHDR missing, repeated, or not 8-bit RGB, non-interlaced
    PNG_SIZE = "png_size"  # another width or height than the clean image
    PNG_CHUNK = "png_chunk"  # order, kind, count or length of chunks
    PNG_CRC = "png_crc"
    PNG_DATA = "png_data"  # the stream does not inflate to exactly h * (1 + 3w) bytes, or a filter is invalid
    PNG_BOMB = "png_bomb"  # it inflates to more
    PNG_TRAILING = "png_trailing"  # bytes after IEND
    PIXELS_MISMATCH = "pixels_mismatch"  # the signed pixel digest is not the one of the decoded pixels
    # 4 to 8.
    LINF_LOW = "linf_low"
    LINF_HIGH = "linf_high"
    SSIM_LOW = "ssim_low"
    PSNR_LOW = "psnr_low"
    CLEAN_MISLABELLED = "clean_mislabelled"  # the challenge's own label does not hold; never counted
    LABEL_UNCHANGED = "label_unchanged"
    INDETERMINATE = "indeterminate"


class PerturbError(Exception):
    """Root of the tree. `hint` says what to do next; `diagnostics()` is what a person should read."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the message and the hint."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def diagnostics(self) -> str:
        """One paragraph: what is wrong, and what to do about it."""
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigError(PerturbError):
    """A setting of the wrong type, range or name."""

    exit_code = 2

    def __init__(self, name: str, value: object, allowed: str, *, source: str = "") -> None:
        """Name the setting, the value that was found, where, and what is allowed."""
        where = f" (from {source})" if source else ""
        super().__init__(f"{name}: {value!r}{where} is not allowed; expected {allowed}")
        self.name, self.value, self.allowed = name, value, allowed


class ArgumentError(PerturbError, ValueError):
    """An argument of the Python API of the wrong type, range or shape."""

    exit_code = 2

    def __init__(self, name: str, value: object, allowed: str) -> None:
        """Name the argument, the value that was given (its beginning), and what is allowed."""
        shown = repr(value)
        shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"
        super().__init__(f"{name}: {shown} is not allowed; expected {allowed}")
        self.name, self.value, self.allowed = name, value, allowed


class Refused(PerturbError):
    """Something from the network that is refused with a code."""

    def __init__(self, reject: Reject, detail: str) -> None:
        """Keep the code for the receipt and the detail for the log."""
        super().__init__(f"{reject.value}: {detail}")
        self.reject, self.detail = reject, detail


class ImageError(Refused):
    """Image bytes that are malformed, hostile or of the wrong shape."""


class MessageError(Refused):
    """A message that is malformed, hostile or for somebody else."""


class ArtifactError(PerturbError):
    """A pinned file that cannot be used."""


class ArtifactMissing(ArtifactError):
    """A pinned file that is not there."""


class DigestMismatch(ArtifactError):
    """A pinned file that is not the one that was pinned."""

    exit_code = 3

    def __init__(self, what: str, expected: str, got: str, *, hint: str = "") -> None:
        """Name the file, the digest expected and the one found."""
        super().__init__(f"{what}: expected {expected}, got {got}", hint=hint)
        self.what, self.expected, self.got = what, expected, got


class HubRefused(ArtifactError):
    """The hub said no, and asking again would not help: a token, a revision, a repository, a file."""


class HubUnavailable(ArtifactError):
    """The hub gave no whole answer in several tries. What arrived is kept; the next run goes on there."""


class DiskFull(ArtifactError):
    """There is no room for a file that was asked for."""

    def __init__(self, what: str, folder: object, needed: int, free: int, *, reason: str = "") -> None:
        """Name the file, the folder, the bytes needed and free, and the system's own reason if any."""
        said = f" ({reason})" if reason else ""
        super().__init__(
            f"no room for {what} in {folder}: {needed} bytes needed, {free} free{said}",
            hint="Free some space, or set PERTURB_CACHE_DIR to a larger disk; what was fetched is kept.",
        )
        self.folder, self.needed, self.free = folder, needed, free


class DatasetError(PerturbError):
    """A data set that is truncated, of another revision, or not there."""


class RowUnreadable(DatasetError):
    """One row that does not decode."""

    def __init__(self, row: int, detail: str) -> None:
        """Name the row."""
        super().__init__(f"row {row} is unreadable: {detail}")
        self.row, self.detail = row, detail


class ModelError(PerturbError):
    """A network or an engine that cannot be built or trusted."""


class ChallengeError(PerturbError):
    """A challenge that must not be sent."""


class AttackError(PerturbError):
    """An attack that cannot run on this task."""


class LedgerError(PerturbError):
    """The validator's state cannot be used."""

    exit_code = 3


class LedgerCorrupt(LedgerError):
    """A record that is not what was written. Nothing is repaired or reset silently."""


class LeafRefused(LedgerCorrupt):
    """A leaf that cannot follow the ones before it. An auditor reads the parts, a person the message."""

    def __init__(self, leaf: int, field: str, expected: object, got: object, message: str = "") -> None:
        """Name the leaf's place in the log, the field, what was expected and what stands there."""
        super().__init__(f"leaf {leaf}: {message or f'{field} {got}, expected {expected}'}")
        self.leaf, self.field, self.expected, self.got = leaf, field, str(expected), str(got)


class LedgerLocked(LedgerError):
    """Another process holds the ledger."""


class LedgerForked(LedgerError):
    """The log does not extend what was anchored on chain or published: a restored backup, or another log."""


class NoteError(LedgerError):
    """A signed note that is malformed, or that no key of the log has signed."""


class BundleError(LedgerError):
    """A published log that is malformed, or larger than a reader accepts."""


class BundleMissing(BundleError):
    """A file of a published log that is not there, or cannot be fetched."""


class BundleTampered(BundleError):
    """Bytes of a published log whose hash is not the one that its checkpoint leads to."""


class AuditError(PerturbError):
    """An audit that cannot be made as asked, or whose parts do not add up. A finding is no error."""


class OutputError(PerturbError):
    """A product of the ledger that cannot be made, or read: a folder in use, a licence, another form."""


class ChainError(PerturbError):
    """The chain did not do what was asked."""


class ChainTimeout(ChainError):
    """Our own deadline for a call passed; whether it took effect is unknown until the chain is read."""


class ChainUnavailable(ChainError):
    """No endpoint answers."""


class ChainRejected(ChainError):
    """The runtime refused; `reason` is its own name for why (for example `SettingWeightsTooFast`)."""

    def __init__(self, reason: str, detail: str = "") -> None:
        """Keep the runtime's name for the refusal."""
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class NotRegistered(ChainError):
    """The hotkey has no uid on the subnet."""


class WalletError(PerturbError):
    """A key that is missing, unreadable or of the wrong kind."""

    exit_code = 2


class TransportError(PerturbError):
    """Signed HTTP failed."""


class PortInUse(TransportError):
    """The port cannot be bound."""


class AuthenticationError(TransportError):
    """A request whose sender is not who it says, or not allowed. `status` is the HTTP status to answer."""

    def __init__(self, message: str, *, status: int = 401) -> None:
        """Keep the HTTP status."""
        super().__init__(message)
        self.status = status
