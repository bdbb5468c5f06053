"""Command line over environment over file over default; whatever is not allowed is named, with what is."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from perturbnet.config import Setting, load_settings, parse_value, registry, require_live
from perturbnet.config.loading import SMALLEST_EPSILON
from perturbnet.errors import ConfigError
from perturbnet.rounds.challenges import draw_epsilon
from tests.support.config.refusals import HOME, refused, write

# Precedence


def test_command_line_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = write(tmp_path, "k_miners = 2\nhistory_size = 2\nmax_rounds = 2\n")
    loaded = load_settings(
        {"PERTURB_K_MINERS": "3", "PERTURB_HISTORY_SIZE": "3", **HOME},
        overrides={"PERTURB_K_MINERS": "4"},
        file=file,
    )
    settings, origins = loaded.settings, loaded.origins
    assert (settings.k_miners, settings.history_size, settings.max_rounds) == (4, 3, 2)
    assert settings.min_processed_count == 50
    assert origins["PERTURB_K_MINERS"] == "command line"
    assert origins["PERTURB_HISTORY_SIZE"] == "environment"
    assert origins["PERTURB_MAX_ROUNDS"] == f"file {file}"
    assert origins["PERTURB_MIN_PROCESSED_COUNT"] == "default"
    assert set(origins) == {setting.name for setting in registry()}


def test_file_is_named_by_the_environment_or_the_caller(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    named = write(tmp_path, "k_miners = 2")
    given_ = write(tmp_path / "sub", "k_miners = 3")
    assert load_settings({"PERTURB_CONFIG": str(named)}).settings.k_miners == 2
    assert load_settings({"PERTURB_CONFIG": "~/perturb.toml", "HOME": str(tmp_path)}).settings.k_miners == 2
    assert load_settings({"PERTURB_CONFIG": str(named)}, file=given_).settings.k_miners == 3


def test_bad_value_is_an_error_even_when_overridden_by_name_only(tmp_path: Path) -> None:
    """The layer that holds decides; one below it is not read, but its names are."""
    file = write(tmp_path, "k_miner = 5")
    assert refused(file=file, overrides={"PERTURB_K_MINERS": "4"}).name == "k_miner"


def test_empty_text_is_no_value_where_that_is_possible() -> None:
    loaded = load_settings({"PERTURB_BURN_UID": "", "HF_TOKEN": ""})
    assert loaded.settings.burn_uid is None
    assert loaded.settings.hf_token is None
    assert loaded.origins["PERTURB_BURN_UID"] == "environment"
    assert refused({"PERTURB_K_MINERS": ""}).value == ""


def test_environment_of_others_is_left_alone() -> None:
    load_settings({"PATH": "/bin", "PERTURBATION": "x", "K_MINERS": "none", "perturb_k_miners": "none"})


# Errors


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PERTURB_K_MINERS", "many", "a whole number from 1 to 256"),
        ("PERTURB_K_MINERS", "0", "a whole number from 1 to 256"),
        ("PERTURB_MINER_EXPLORATION_RATIO", "1.5", "a decimal number from 0 to 1, at most 6 decimals"),
        ("PERTURB_CHALLENGE_AUGMENT", "maybe", "true or false"),
        ("PERTURB_PROFILE", "cifar", "one of imagenet100, reference"),
        ("PERTURB_DEVICE", "tpu", "auto, cpu or cuda[:N]"),
        ("NETWORK", "http://x", "finney, test, local or a ws(s):// address"),
        ("NETUID", "65536", "a whole number from 0 to 65535"),
        ("PERTURB_AXON_EXTERNAL_IP", "1.2.3", "an IPv4 or IPv6 address"),
        ("PERTURB_STATE_DIR", "", "a path"),
        ("PERTURB_STATE_DIR", "~nobody-of-this-name/x", "a path"),
        ("WALLET_NAME", "../x", "letters, digits, '.', '_' and '-', at most 64"),
    ],
)
def test_value_that_is_not_allowed_is_named_wherever_it_stands(
    tmp_path: Path, name: str, value: str, allowed: str
) -> None:
    key = name.removeprefix("PERTURB_").lower()
    file = write(tmp_path, f"{key} = '{value}'\n")
    for error, source in (
        (refused({name: value}), "environment"),
        (refused(overrides={name: value}), "command line"),
        (refused(file=file), f"file {file}"),
    ):
        assert (error.name, error.value, error.allowed) == (name, value, allowed)
        assert error.message == f"{name}: {value!r} (from {source}) is not allowed; expected {allowed}"
        assert error.exit_code == 2


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PERTURB_K_MINER", "did you mean PERTURB_K_MINERS?"),
        ("PERTURB_HISTORY", "did you mean PERTURB_HISTORY_SIZE?"),
        ("PERTURB_HF_TOKEN", "did you mean HF_TOKEN?"),
        ("PERTURB_", "see `perturb config show`"),
        ("PERTURB_ZZZZZZZZZZ", "see `perturb config show`"),
    ],
)
def test_unknown_name(name: str, meant: str) -> None:
    for error, source in (
        (refused({name: "hush"}), "environment"),
        (refused(overrides={name: "hush"}), "command line"),
    ):
        assert error.name == name
        assert meant in error.message
        assert f"from {source}" in error.message
        assert "hush" not in error.diagnostics()


# Secrets


@pytest.mark.parametrize("name", [setting.name for setting in registry() if setting.secret])
def test_secret_is_never_shown(tmp_path: Path, name: str) -> None:
    key = name.removeprefix("PERTURB_").lower()
    texts = [f"{key} = ['hush']", f"{key} = {{hush = 1}}", f'{key} = "hush\\u0007"']
    errors = [refused(file=write(tmp_path, text)) for text in texts]
    errors += [refused({name: "hush\x07"}), refused(overrides={name: "hush\x07"})]
    for error in errors:
        assert error.name == name
        assert "hush" not in f"{error.diagnostics()} {error.value} {error!r}"
        assert "(hidden)" in error.message


def test_the_two_secrets_are_secret() -> None:
    assert {setting.name for setting in registry() if setting.secret} == {"HF_TOKEN", "PERTURB_SECRET_SEED"}


# XDG and home


def test_folders_follow_xdg_and_home() -> None:
    plain = load_settings(HOME).settings
    assert plain.state_dir == Path("/srv/somebody/.local/state/perturb")
    assert plain.cache_dir == Path("/srv/somebody/.cache/perturb")
    assert plain.wallet_path == Path("/srv/somebody/.bittensor/wallets")
    xdg = load_settings({"XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c", **HOME}).settings
    assert (xdg.state_dir, xdg.cache_dir) == (Path("/s/perturb"), Path("/c/perturb"))


@pytest.mark.parametrize("value", ["", "relative/folder", "~/x"])
def test_xdg_path_that_is_not_absolute_is_ignored(value: str) -> None:
    """So says the specification."""
    settings = load_settings({"XDG_STATE_HOME": value, **HOME}).settings
    assert settings.state_dir == Path("/srv/somebody/.local/state/perturb")


def test_said_folder_is_over_xdg() -> None:
    settings = load_settings({"PERTURB_STATE_DIR": "~/mine", "XDG_STATE_HOME": "/s", **HOME}).settings
    assert settings.state_dir == Path("/srv/somebody/mine")


def test_environment_of_the_process_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERTURB_K_MINERS", "7")
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    loaded = load_settings(HOME)
    assert loaded.settings.k_miners == 100
    assert loaded.settings.state_dir == Path("/srv/somebody/.local/state/perturb")


# Across settings


@pytest.mark.parametrize(
    ("values", "name", "said"),
    [
        ({"MIN_LINF_DELTA": "0.03"}, "PERTURB_MIN_LINF_DELTA", "less than PERTURB_MAX_LINF_DELTA (0.03)"),
        ({"MIN_LINF_DELTA": "0.5"}, "PERTURB_MIN_LINF_DELTA", "less than"),
        ({"MIN_LINF_DELTA": "0.004", "MAX_LINF_DELTA": "0.0075"}, "PERTURB_MIN_LINF_DELTA", "a whole level"),
        ({"MIN_LINF_DELTA": "0", "MAX_LINF_DELTA": "0.0039"}, "PERTURB_MIN_LINF_DELTA", "a whole level"),
        (
            {"LINF_COMPONENT_WEIGHT": "0", "RMSE_COMPONENT_WEIGHT": "0.0"},
            "PERTURB_LINF_COMPONENT_WEIGHT",
            "not 0",
        ),
        ({"SPEED_WEIGHT": "0.1"}, "PERTURB_SPEED_WEIGHT", "at most 1"),
        ({"PERTURBATION_WEIGHT": "0"}, "PERTURB_SPEED_WEIGHT", "more than 0"),
        ({"SECRET_SEED": "hush"}, "PERTURB_SECRET_SEED", "unset unless NETWORK=local"),
    ],
)
def test_values_that_contradict_each_other(values: dict[str, str], name: str, said: str) -> None:
    error = refused({f"PERTURB_{key}": value for key, value in values.items()})
    assert error.name == name
    assert said in error.allowed
    assert "hush" not in error.message


def test_local_network_needs_its_chain() -> None:
    assert refused({"NETWORK": "local"}).name == "PERTURB_LOCAL_CHAIN"
    local = {"NETWORK": "local", "PERTURB_LOCAL_CHAIN": "/tmp/chain", "PERTURB_SECRET_SEED": "seed"}
    assert load_settings(local).settings.secret_seed == "seed"


@pytest.mark.parametrize(
    ("low", "high"), [("0", "0.003922"), ("0.003", "0.03"), ("0.0039", "0.004"), ("0.0588", "1")]
)
def test_gates_that_leave_a_level_are_allowed(low: str, high: str) -> None:
    load_settings({"PERTURB_MIN_LINF_DELTA": low, "PERTURB_MAX_LINF_DELTA": high})


def test_no_epsilon_is_below_the_minimum_delta() -> None:
    """Public bug: an epsilon below the minimum delta, so that nobody could succeed."""
    assert (
        refused({"PERTURB_MIN_LINF_DELTA": "0.06", "PERTURB_MAX_LINF_DELTA": "1"}).name
        == "PERTURB_MIN_LINF_DELTA"
    )
    assert min(Decimal(draw_epsilon(1, block, 0)) for block in range(5000)) >= SMALLEST_EPSILON


# A live network


def test_live_network_needs_its_four_settings_said() -> None:
    said = {"WALLET_NAME": "default", "WALLET_HOTKEY": "default", "NETUID": "1", "NETWORK": "finney"}
    require_live(load_settings(said))
    for missing in said:
        partly = {name: value for name, value in said.items() if name != missing}
        with pytest.raises(ConfigError) as caught:
            require_live(load_settings(partly))
        assert caught.value.name == missing
        assert "a live network needs it" in caught.value.message


def test_a_hotkey_file_stands_for_the_two_names() -> None:
    said = {"PERTURB_HOTKEY_FILE": "/srv/hotkey", "NETUID": "1", "NETWORK": "finney"}
    require_live(load_settings(said))
    with pytest.raises(ConfigError, match="NETUID"):
        require_live(load_settings({name: text for name, text in said.items() if name != "NETUID"}))


def test_local_network_may_leave_them_out() -> None:
    require_live(load_settings({"NETWORK": "local", "PERTURB_LOCAL_CHAIN": "/tmp/chain"}))


# Parsing one value


@pytest.mark.parametrize("setting", registry(), ids=lambda setting: setting.name)
def test_default_parses_to_what_is_loaded(setting: Setting) -> None:
    value = getattr(load_settings({}).settings, setting.attribute)
    if setting.default is None:
        assert value is None
    else:
        assert parse_value(setting, f"  {setting.default} ", "here") == value
