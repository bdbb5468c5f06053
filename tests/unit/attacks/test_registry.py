"""Attacks by name, third parties' among them."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from perturbnet.attacks import AttackResult, AttackTask, Deadline, Oracle, attack_names, open_attack, registry
from perturbnet.attacks.pgd import AscendingPgd
from perturbnet.errors import AttackError, ConfigError


class Stranger:
    """A third party's attack."""

    name = "stranger"

    def run(self, oracle: Oracle, task: AttackTask, deadline: Deadline) -> AttackResult:
        return AttackResult(None, 0, "a stranger")


@pytest.fixture
def third_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(name: str, value: str) -> EntryPoint:
        return EntryPoint(name, value, registry.ENTRY_POINT_GROUP)

    installed = EntryPoints(
        [
            entry("stranger", f"{__name__}:Stranger"),
            entry("another", f"{__name__}:Stranger"),
            entry("pgd", f"{__name__}:Stranger"),
            entry("no-module", "perturbnet.attacks.nowhere:Attack"),
            entry("no-name", "perturbnet.attacks.pgd:Nothing"),
            EntryPoint("foreign", f"{__name__}:Stranger", "somebody.else"),
        ]
    )
    monkeypatch.setattr(registry, "entry_points", installed.select)


def test_ours() -> None:
    assert "pgd" in attack_names()
    assert isinstance(open_attack("pgd"), AscendingPgd)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"PERTURB_ATTACK: 'nowhere'.*one of exchange, pgd"):
        open_attack("nowhere")


@pytest.mark.usefixtures("third_parties")
def test_third_parties_are_found_by_their_entry_point() -> None:
    assert attack_names() == ["exchange", "pgd", "another", "no-module", "no-name", "stranger"]
    assert type(open_attack("stranger")).__name__ == "Stranger"
    with pytest.raises(ConfigError):
        open_attack("foreign")


@pytest.mark.usefixtures("third_parties")
def test_a_third_party_cannot_take_our_name() -> None:
    assert isinstance(open_attack("pgd"), AscendingPgd)
    assert attack_names().count("pgd") == 1


@pytest.mark.usefixtures("third_parties")
@pytest.mark.parametrize("name", ["no-module", "no-name"])
def test_one_that_cannot_be_imported_is_named(name: str) -> None:
    with pytest.raises(AttackError, match=rf"attack '{name}' \(perturbnet\.attacks"):
        open_attack(name)
