"""Prometheus numbers of one process.

Rules
- Each process has a registry of its own, made by `new_registry`; nothing is registered when a module is
  imported, so tests make as many as they like.
- Names begin with `perturb_`; times are in seconds, sizes in bytes, and the name says so. A label has few
  values, all of them ours (reject codes, uids): what a peer sends is never one, or it could fill the memory.
- What stands in a state already is read when it is asked for (`Collector`), not copied when it changes.

Source: prometheus.io/docs/practices/naming, prometheus.io/docs/practices/instrumentation.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics

from perturbnet.version import __version__


def new_registry(role: str) -> CollectorRegistry:
    """A registry that holds the process's own numbers (memory, threads' time, files) and who it is."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # one more number for each, which nobody asks for
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    build = Gauge("perturb_build_info", "Always 1; what runs here.", ["role", "version"], registry=registry)
    build.labels(role, __version__).set(1)
    return registry


class FailureCount:
    """Counts by kind of error what a loop's edge caught: `perturb_<role>_failures_total{error=…}`."""

    def __init__(self, registry: CollectorRegistry, role: str) -> None:
        """Register it."""
        self._counter = Counter(
            f"perturb_{role}_failures",
            "What the loop's edge caught, by kind of error.",
            ["error"],
            registry=registry,
        )

    def add(self, error: BaseException) -> None:
        """Count one; the label is the class's name, of which there are few."""
        self._counter.labels(type(error).__name__).inc()
