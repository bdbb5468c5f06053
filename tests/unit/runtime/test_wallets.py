"""Wallets: files that say what is wrong with them, and keys that are for their owner only."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from bittensor import Wallet as SdkWallet
from bittensor import sp_core
from bittensor.keyfiles import Keyfile

from perturbnet.errors import WalletError
from perturbnet.runtime.wallets import create_wallet, load_hotkey
from perturbnet.wire.keys import Keypair, sign, verify

DOMAIN = "perturb/test/1"


def keypair(number: int = 1, crypto_type: int = sp_core.CRYPTO_SR25519) -> Keypair:
    made: Keypair = sp_core.Keypair.create_from_seed(number.to_bytes(32, "big"), crypto_type)
    return made


def test_a_created_wallet_is_loaded(tmp_path: Path) -> None:
    wallet = create_wallet(tmp_path, "validator", "default")
    loaded = load_hotkey(tmp_path, "validator", "default")
    assert loaded.ss58_address == wallet.hotkey.ss58_address != wallet.coldkey_ss58
    assert verify(loaded.ss58_address, DOMAIN, b"x", sign(loaded, DOMAIN, b"x"))


def test_the_sdk_reads_what_was_created(tmp_path: Path) -> None:
    wallet = create_wallet(tmp_path, "miner", "one", seed="s")
    theirs = SdkWallet("miner", "one", str(tmp_path))
    assert theirs.hotkey.ss58_address == theirs.hotkeypub.ss58_address == wallet.hotkey.ss58_address
    assert theirs.coldkey.ss58_address == theirs.coldkeypub.ss58_address == wallet.coldkey_ss58


def test_what_the_sdk_created_is_read(tmp_path: Path) -> None:
    theirs = SdkWallet("cold", "hot", str(tmp_path))
    theirs.create_new_hotkey(use_password=False, suppress=True)
    assert load_hotkey(tmp_path, "cold", "hot").ss58_address == theirs.hotkey.ss58_address


def test_a_seed_gives_the_same_keys(tmp_path: Path) -> None:
    one = create_wallet(tmp_path / "a", "m", "h", seed="7")
    two = create_wallet(tmp_path / "b", "m", "h", seed="7")
    assert (one.hotkey.ss58_address, one.coldkey_ss58) == (two.hotkey.ss58_address, two.coldkey_ss58)
    others = [
        create_wallet(tmp_path / "c", *names, seed=seed)
        for *names, seed in (("m", "i", "7"), ("n", "h", "8"))
    ]
    assert len({one.hotkey.ss58_address, *(other.hotkey.ss58_address for other in others)}) == 3


def test_no_seed_gives_new_keys(tmp_path: Path) -> None:
    one, two = (create_wallet(tmp_path / name, "m", "h") for name in "ab")
    assert one.hotkey.ss58_address != two.hotkey.ss58_address


def test_hotkeys_of_one_wallet_share_its_coldkey(tmp_path: Path) -> None:
    one, two = (create_wallet(tmp_path, "m", name, seed="s") for name in ("h1", "h2"))
    assert one.coldkey_ss58 == two.coldkey_ss58
    assert one.hotkey.ss58_address != two.hotkey.ss58_address


def test_an_existing_wallet_is_opened_and_not_replaced(tmp_path: Path) -> None:
    wallet = create_wallet(tmp_path, "m", "h")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert create_wallet(tmp_path, "m", "h").hotkey.ss58_address == wallet.hotkey.ss58_address
    with pytest.raises(WalletError, match="not the key of this seed"):
        create_wallet(tmp_path, "m", "h", seed="other")
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    create_wallet(tmp_path, "m", "h")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_public_files_hold_no_secret(tmp_path: Path) -> None:
    create_wallet(tmp_path, "m", "h")
    for path in tmp_path.rglob("*pub.txt"):
        assert set(json.loads(path.read_text())) == {"accountId", "publicKey", "ss58Address", "cryptoType"}


def test_a_missing_hotkey_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(WalletError, match="no hotkey at") as caught:
        load_hotkey(tmp_path, "validator", "default")
    assert caught.value.exit_code == 2
    for word in ("btcli wallet create", "WALLET_NAME", "WALLET_HOTKEY", "WALLET_PATH"):
        assert word in caught.value.hint


def test_a_hotkey_file_wins_over_the_wallet(tmp_path: Path) -> None:
    wallet = create_wallet(tmp_path / "wallets", "m", "h")
    copy = tmp_path / "hotkey"
    copy.write_bytes((tmp_path / "wallets" / "m" / "hotkeys" / "h").read_bytes())
    loaded = load_hotkey(tmp_path / "nowhere", "x", "y", file=copy)
    assert loaded.ss58_address == wallet.hotkey.ss58_address
    with pytest.raises(WalletError, match="no hotkey at") as caught:
        load_hotkey(tmp_path / "wallets", "m", "h", file=tmp_path / "missing")
    assert "PERTURB_HOTKEY_FILE" in caught.value.hint


@pytest.mark.parametrize(
    "names", [("../x", "h"), ("x", "../../h"), ("", "h"), ("x", ""), ("a/b", "h"), (".", "h")]
)
def test_names_do_not_leave_the_folder(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(WalletError, match="name"):
        load_hotkey(tmp_path, *names)
    with pytest.raises(WalletError, match="name"):
        create_wallet(tmp_path, *names)


def _hotkey_file(tmp_path: Path) -> Path:
    path = tmp_path / "w" / "hotkeys" / "h"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    "text", ["", "{}", "garbage", '{"secretSeed": "0x12"}', '{"privateKey":"0x12"}', "\x00" * 40]
)
def test_a_file_that_is_no_key(tmp_path: Path, text: str) -> None:
    _hotkey_file(tmp_path).write_text(text)
    with pytest.raises(WalletError, match="is not a key file") as caught:
        load_hotkey(tmp_path, "w", "h")
    assert "regen-hotkey" in caught.value.hint


def test_a_file_that_is_much_too_large(tmp_path: Path) -> None:
    _hotkey_file(tmp_path).write_bytes(b"{" * 70_000)
    with pytest.raises(WalletError, match="larger than 65536 bytes"):
        load_hotkey(tmp_path, "w", "h")


def test_a_folder_in_place_of_the_key(tmp_path: Path) -> None:
    _hotkey_file(tmp_path).mkdir()
    with pytest.raises(WalletError, match="directory"):
        load_hotkey(tmp_path, "w", "h")


def test_a_public_key_cannot_sign(tmp_path: Path) -> None:
    create_wallet(tmp_path, "w", "h")
    hotkeys = tmp_path / "w" / "hotkeys"
    os.replace(hotkeys / "hpub.txt", hotkeys / "h")
    with pytest.raises(WalletError, match="public key only"):
        load_hotkey(tmp_path, "w", "h")


def test_a_hotkey_of_another_scheme(tmp_path: Path) -> None:
    Keyfile(_hotkey_file(tmp_path)).set_keypair(keypair(1, sp_core.CRYPTO_ED25519), encrypt=False)
    with pytest.raises(WalletError, match="sr25519"):
        load_hotkey(tmp_path, "w", "h")


def test_an_encrypted_hotkey_never_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _hotkey_file(tmp_path)
    file.write_bytes(b"$NACL" + bytes(100))
    variable = Keyfile(file).env_var_name()
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(WalletError, match="is encrypted") as caught:
        load_hotkey(tmp_path, "w", "h")
    assert variable in caught.value.hint
    monkeypatch.setenv(variable, "not what the SDK writes there")
    with pytest.raises(WalletError, match="password"):
        load_hotkey(tmp_path, "w", "h")


@pytest.mark.slow  # the key derivation alone takes seconds, three times
def test_an_encrypted_hotkey_is_opened_with_the_password_kept_by_the_sdk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyfile = Keyfile(_hotkey_file(tmp_path))
    keyfile.set_keypair(keypair(), encrypt=True, password="correct horse")
    monkeypatch.setenv(keyfile.env_var_name(), "")
    keyfile.save_password_to_env("wrong")
    with pytest.raises(WalletError, match="wrong password"):
        load_hotkey(tmp_path, "w", "h")
    keyfile.save_password_to_env("correct horse")
    assert load_hotkey(tmp_path, "w", "h").ss58_address == keypair().ss58_address


def test_an_error_never_quotes_the_file(tmp_path: Path) -> None:
    secret = "e5be9a5092b81bca64be81d212e7f2f9eba183bb7a90954f7b76361f6edb5c0a"
    _hotkey_file(tmp_path).write_text(json.dumps({"secretSeed": "0x" + secret[:-2], secret: secret}))
    with pytest.raises(WalletError) as caught:
        load_hotkey(tmp_path, "w", "h")
    assert secret[:20] not in caught.value.diagnostics()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("a file")
    with pytest.raises(WalletError, match="w"):
        create_wallet(tmp_path, "w", "h")
