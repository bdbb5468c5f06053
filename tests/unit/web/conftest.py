"""A validator's log to show: an honest one, with its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from perturbnet.errors import PerturbError
from perturbnet.overview import Overview, PublishedFeed
from perturbnet.web import Pictures, Viewer, build_app
from tests.support.auditing.honest import Honest, live
from tests.support.auditing.published import publish_honest
from tests.support.web.asking import PORT


@dataclass
class FixedFeed:
    """Shows one overview, or raises one error; deltas come from another feed."""

    shown: Overview | PerturbError
    deltas: PublishedFeed

    reads: int = 0

    def read(self) -> Overview:
        self.reads += 1
        if isinstance(self.shown, PerturbError):
            raise self.shown
        return self.shown

    def blob(self, digest: str) -> bytes:
        return self.deltas.blob(digest)


@dataclass
class Site:
    """A site about one log."""

    feed: FixedFeed
    honest: Honest

    @property
    def overview(self) -> Overview:
        assert isinstance(self.feed.shown, Overview)
        return self.feed.shown

    def pictures(self) -> Pictures:
        return Pictures(lambda: self.honest.source, self.feed.blob)

    def app(self) -> ASGIApp:
        return build_app(Viewer(self.feed), self.pictures(), port=PORT)


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    """A validator's log over one whole epoch."""
    return live(tmp_path_factory.mktemp("honest"))


@pytest.fixture
def site(honest: Honest, tmp_path: Path) -> Site:
    """A site about the honest log."""
    feed = PublishedFeed(str(publish_honest(honest, tmp_path / "bundle")))
    return Site(FixedFeed(feed.read(), feed), honest)
