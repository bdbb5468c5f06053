"""The pages of a running neuron: what they hold, who may read them, and that a failing one harms nobody."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator

import pytest
from prometheus_client import Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families

from perturbnet.errors import LedgerError
from perturbnet.telemetry import FailureCount, Loopback, new_registry
from perturbnet.telemetry.loopback import HOST, MAX_CONNECTIONS


@pytest.fixture
def shown() -> Iterator[Loopback]:
    registry = new_registry("validator")
    Gauge("perturb_answer", "42.", registry=registry).set(42)

    def broken() -> bytes:
        raise ZeroDivisionError

    loopback = Loopback(registry, {"/overview.json": lambda: b"{}", "/broken.json": broken})
    assert loopback.start(0)
    yield loopback
    loopback.close()


def get(
    loopback: Loopback, path: str, host: str | None = None, method: str = "GET"
) -> tuple[int, str, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(HOST, loopback.port, timeout=5)
    connection.request(method, path, headers={"Host": host or f"{HOST}:{loopback.port}"})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body, response


def test_prometheus_reads_the_numbers(shown: Loopback) -> None:
    status, body, response = get(shown, "/metrics")
    found = {family.name: family for family in text_string_to_metric_families(body)}
    assert status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert found["perturb_answer"].samples[0].value == 42
    assert found["perturb_build_info"].samples[0].labels["role"] == "validator"
    assert found["process_resident_memory_bytes"].samples[0].value > 10**6


def test_pages(shown: Loopback) -> None:
    assert get(shown, "/overview.json?x=1")[:2] == (200, "{}")
    assert get(shown, "/healthz")[:2] == (200, '{"status": "ok"}')
    status, body, _ = get(shown, "/nothing")
    assert (status, "/overview.json" in body) == (404, True)
    assert get(shown, "/overview.json", method="HEAD")[:2] == (200, "")
    assert get(shown, "/overview.json", method="POST")[0] == 501


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost:1", "0.0.0.0"]
)
def test_another_host_is_refused(shown: Loopback, host: str) -> None:
    """A page of a stranger whose name was made to point here sends its own name."""
    assert get(shown, "/metrics", host.format(port=shown.port))[0] == 421


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "LOCALHOST:{port}", "[::1]:{port}"])
def test_loopback_has_these_names(shown: Loopback, host: str) -> None:
    assert get(shown, "/healthz", host.format(port=shown.port))[0] == 200


def test_no_page_is_for_other_origins(shown: Loopback) -> None:
    headers = get(shown, "/overview.json")[2].headers
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"


def test_a_page_that_fails_is_logged(shown: Loopback, caplog: pytest.LogCaptureFixture) -> None:
    assert get(shown, "/broken.json")[0] == 500
    assert "The page '/broken.json' failed" in caplog.text
    assert get(shown, "/healthz")[0] == 200


def test_idle_connections_do_not_pile_up(shown: Loopback) -> None:
    idle = [socket.create_connection((HOST, shown.port)) for _ in range(MAX_CONNECTIONS)]
    time.sleep(0.3)
    with socket.create_connection((HOST, shown.port), timeout=5) as refused:
        assert refused.recv(1) == b""
    for connection in idle:
        connection.close()
    for _ in range(50):
        try:
            assert get(shown, "/healthz")[0] == 200
        except (http.client.HTTPException, OSError):
            time.sleep(0.1)
        else:
            return
    pytest.fail("no room again after the idle ones had gone")


def test_a_port_that_is_taken_is_said(shown: Loopback, caplog: pytest.LogCaptureFixture) -> None:
    second = Loopback(new_registry("validator"))
    assert not second.start(shown.port)
    second.close()
    assert second.port == 0
    assert "set PERTURB_METRICS_PORT" in caplog.text


def test_after_closing_nobody_listens(shown: Loopback) -> None:
    port = shown.port
    shown.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port))


def test_failures_are_counted_by_kind() -> None:
    registry = new_registry("validator")
    count = FailureCount(registry, "validator")
    count.add(LedgerError("a"))
    count.add(LedgerError("b"))
    name = "perturb_validator_failures_total"
    assert registry.get_sample_value(name, {"error": "LedgerError"}) == 2


def test_two_processes_worth_of_numbers_do_not_meet() -> None:
    for _ in range(2):
        Counter("perturb_twice", "Once in each registry.", registry=new_registry("miner"))
