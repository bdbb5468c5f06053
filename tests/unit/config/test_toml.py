"""The settings' file: TOML's own types, keys nobody knows, files that are none."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.config import load_settings, registry
from tests.support.config.refusals import refused, write


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("k_miner", "k_miners"),
        ("K_MINERS", "k_miners"),
        ("PERTURB_K_MINERS", "k_miners"),
        ("netuids", "netuid"),
    ],
)
def test_unknown_key_in_a_file(tmp_path: Path, key: str, meant: str) -> None:
    error = refused(file=write(tmp_path, f"history_size = 3\n{key} = 5\n"))
    assert error.name == key
    assert f"did you mean {meant}?" in error.message
    assert "perturb.toml" in error.message


def test_table_in_a_file_is_an_unknown_key(tmp_path: Path) -> None:
    assert refused(file=write(tmp_path, "[validator]\nk_miners = 5\n")).name == "validator"


@pytest.mark.parametrize(
    "text",
    [
        "k_miners = ",
        "k_miners = 1\nk_miners = 2",
        "\x00",
        "a = " + "9" * 5000,
        "a = 1e" + "9" * 30,
        "a = " + "[" * 5000,
    ],
)
def test_file_that_is_no_toml(tmp_path: Path, text: str) -> None:
    error = refused(file=write(tmp_path, text))
    assert error.name == "PERTURB_CONFIG"
    assert "a valid TOML file" in error.allowed


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path, allowed in ((tmp_path, "readable"), (tmp_path / "none", "readable"), (binary, "valid")):
        error = refused({"PERTURB_CONFIG": str(path)})
        assert (error.name, error.value) == ("PERTURB_CONFIG", str(path))
        assert allowed in error.allowed


# TOML's own types


def test_toml_types(tmp_path: Path) -> None:
    text = """
        netuid = 0x10
        k_miners = "12"
        wandb_enabled = true
        group_by_ip = "off"
        min_ssim = 0.975
        max_linf_delta = 0.030000
        min_linf_delta = 3e-3
        speed_weight = 0
        state_dir = "/srv/état"
    """
    settings = load_settings({}, file=write(tmp_path, text)).settings
    assert (settings.netuid, settings.k_miners) == (16, 12)
    assert (settings.wandb_enabled, settings.group_by_ip) == (True, False)
    assert str(settings.min_ssim) == "0.975"
    assert str(settings.max_linf_delta) == "0.030000"
    assert settings.min_linf_delta == Decimal("0.003")
    assert settings.speed_weight == 0
    assert settings.state_dir == Path("/srv/état")


@given(st.decimals(0, 1, places=6))
def test_decimals_in_a_file_are_exact(tmp_path_factory: pytest.TempPathFactory, value: Decimal) -> None:
    """Read as binary floats, 0.000001 and its like came out as 0."""
    file = write(tmp_path_factory.mktemp("toml"), f"min_ssim = {value:f}\n")
    assert load_settings({}, file=file).settings.min_ssim == value


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("k_miners = true", "PERTURB_K_MINERS"),
        ("k_miners = 1.5", "PERTURB_K_MINERS"),
        ("k_miners = [5]", "PERTURB_K_MINERS"),
        ("k_miners = {a = 5}", "PERTURB_K_MINERS"),
        ("k_miners = 1979-05-27", "PERTURB_K_MINERS"),
        ("min_ssim = inf", "PERTURB_MIN_SSIM"),
        ("min_ssim = nan", "PERTURB_MIN_SSIM"),
        ("min_ssim = true", "PERTURB_MIN_SSIM"),
        ("min_ssim = 1e999999", "PERTURB_MIN_SSIM"),
        ("min_ssim = 1e-999999", "PERTURB_MIN_SSIM"),
        ("wandb_enabled = 1", "PERTURB_WANDB_ENABLED"),
        ("wallet_name = 5", "WALLET_NAME"),
        ("wandb_run_name = false", "PERTURB_WANDB_RUN_NAME"),
        ("state_dir = 5", "PERTURB_STATE_DIR"),
    ],
)
def test_toml_value_of_another_type_refused(tmp_path: Path, line: str, name: str) -> None:
    error = refused(file=write(tmp_path, line))
    assert error.name == name
    assert error.allowed == next(setting for setting in registry() if setting.name == name).kind.allowed
