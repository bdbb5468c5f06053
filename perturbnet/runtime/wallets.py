"""Wallets on the disk: the hotkey that signs, read without a prompt; throw-away wallets of a local network.

Wallets are directories as bittensor lays them out: `<path>/<wallet>/coldkey`, `coldkeypub.txt`,
`hotkeys/<hotkey>`, `hotkeys/<hotkey>pub.txt`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

import bittensor_core as sp_core

from perturbnet.errors import WalletError
from perturbnet.wire.keys import Keypair

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}\Z")
_MAX_KEYFILE_BYTES = 65536


@dataclass(frozen=True)
class Wallet:
    """A throw-away wallet of a local network: the hotkey that signs, and the coldkey that owns it."""

    name: str
    hotkey: Keypair
    coldkey_ss58: str


def load_hotkey(path: Path, wallet: str, hotkey: str, *, file: Path | None = None) -> Keypair:
    """Read the hotkey that signs, without ever prompting: from `file` if there is one, else from the wallet.

    An encrypted key is opened with the password the SDK keeps in the environment (`BT_PW_...`), if any.

    Raises:
        WalletError: the names are malformed, the file is missing, unreadable, encrypted without a password,
            of another scheme than sr25519, or holds only a public key. The hint says what to do.

    """
    create = f"btcli wallet create --wallet-name {wallet} --hotkey {hotkey}"
    missing = f"create it ({create}), or correct WALLET_PATH, WALLET_NAME and WALLET_HOTKEY"
    if file is not None:
        missing = "copy the private hotkey file there, or correct PERTURB_HOTKEY_FILE"
    file = file or _hotkey_file(path, wallet, hotkey)
    try:
        if file.stat().st_size > _MAX_KEYFILE_BYTES:
            raise WalletError(f"{file}: larger than {_MAX_KEYFILE_BYTES} bytes, so not a key")
        data = file.read_bytes()
    except FileNotFoundError:
        raise WalletError(f"no hotkey at {file}", hint=missing) from None
    except OSError as error:
        raise WalletError(
            f"{file}: {error.strerror}", hint="make it readable for the user that runs this"
        ) from None
    return _signing(_parse(file, _decrypt(file, data)), file)


def create_wallet(path: Path, name: str, hotkey: str, *, seed: str | None = None) -> Wallet:
    """Create an unencrypted throw-away wallet for a local network, or open it when it is there already.

    With `seed` both keys follow from it and the names; without, they are random. Files are made for the owner
    only and never overwritten. Hotkeys of one wallet share its coldkey.

    Raises:
        WalletError: the names are malformed, a file cannot be written, or another key than the seed's is
            there.

    """
    hotkey_file = _hotkey_file(path, name, hotkey)
    coldkey_file = hotkey_file.parent.parent / "coldkey"
    coldkey = _open_or_create(coldkey_file, coldkey_file.with_name("coldkeypub.txt"), seed, f"{name}/coldkey")
    public = hotkey_file.with_name(f"{hotkey}pub.txt")
    pair = _open_or_create(hotkey_file, public, seed, f"{name}/hotkeys/{hotkey}")
    return Wallet(name, pair, coldkey.ss58_address)


def _hotkey_file(path: Path, wallet: str, hotkey: str) -> Path:
    for kind, value in (("wallet", wallet), ("hotkey", hotkey)):
        if not _NAME.match(value):
            raise WalletError(f"{kind} name {value!r}: letters, digits, '.', '_' and '-' are allowed")
    return Path(path).expanduser() / wallet / "hotkeys" / hotkey


def _decrypt(file: Path, data: bytes) -> bytes:
    if not sp_core.keyfile_data_is_encrypted(data):
        return data
    variable = (
        "BT_PW_" + str(file).replace(os.sep, "_").replace(".", "_").upper()
    )  # the SDK's own name for it
    try:
        password = sp_core.get_password_from_environment(variable)
        if password is None:
            hint = f"no service can ask for a password: use an unencrypted hotkey, or set {variable}"
            raise WalletError(f"{file} is encrypted", hint=hint)
        return bytes(sp_core.decrypt_keyfile_data(data, password))
    except sp_core.KeyfileError as error:
        raise WalletError(f"{file}: {error}", hint=f"check the password in {variable}") from None


def _parse(file: Path, data: bytes) -> Keypair:
    try:
        pair: Keypair = sp_core.deserialize_keypair_from_keyfile_data(data)
    except (sp_core.KeyfileError, ValueError) as error:
        detail = str(error).split("(", maxsplit=1)[0].strip()  # what follows may quote the file
        hint = "restore it from its mnemonic: btcli wallet regen-hotkey"
        raise WalletError(f"{file} is not a key file: {detail}", hint=hint) from None
    return pair


def _signing(pair: Keypair, file: Path) -> Keypair:
    if pair.crypto_type != sp_core.CRYPTO_SR25519:
        raise WalletError(f"{file}: crypto type {pair.crypto_type}; a hotkey must be sr25519 (1)")
    try:
        pair.sign(b"")
    except ValueError:
        hint = "copy the private hotkey file to this machine, not the one that ends in pub.txt"
        raise WalletError(f"{file} holds a public key only, which cannot sign", hint=hint) from None
    return pair


def _open_or_create(private: Path, public: Path, seed: str | None, role: str) -> Keypair:
    material = secrets.token_bytes(32) if seed is None else _derive(seed, role)
    wanted: Keypair = sp_core.Keypair.create_from_seed(material, sp_core.CRYPTO_SR25519)
    try:
        private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _write_new(private, bytes(sp_core.serialized_keypair_to_keyfile_data(wanted))):
            found = _signing(_parse(private, _decrypt(private, private.read_bytes())), private)
            if seed is not None and found.ss58_address != wanted.ss58_address:
                raise WalletError(
                    f"{private} holds {found.ss58_address}, not the key of this seed; remove it or its folder"
                )
            wanted = found
        _write_new(public, _public_text(wanted))
    except OSError as error:
        raise WalletError(f"{error.filename or private}: {error.strerror}") from None
    return wanted


def _derive(seed: str, role: str) -> bytes:
    return hashlib.sha256(b"perturb/wallet/1\n" + json.dumps([seed, role]).encode()).digest()


def _write_new(file: Path, data: bytes) -> bool:
    """Write the file for its owner only, and whole; False when it exists."""
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        os.link(partial, file)  # fails if it exists, and never shows half a key
    except FileExistsError:
        return False
    finally:
        partial.unlink()
    return True


def _public_text(pair: Keypair) -> bytes:
    key = "0x" + bytes(pair.public_key).hex()
    fields = {
        "accountId": key,
        "publicKey": key,
        "ss58Address": pair.ss58_address,
        "cryptoType": pair.crypto_type,
    }
    return json.dumps(fields).encode()
