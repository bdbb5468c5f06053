"""What a validator has done, at one look: the values that `perturb status` and `perturb web` show.

`views` are plain values with one JSON form; `tail` keeps the latest rounds of a log; `build` puts an overview
together from a log's state and tail; `feeds` fetch one: from a running validator on loopback, or by reading
its published log. Nothing here writes.
"""

from __future__ import annotations

from perturbnet.overview.build import Facts, build_overview
from perturbnet.overview.feeds import Feed, LiveFeed, PublishedFeed, open_feed
from perturbnet.overview.tail import Tail
from perturbnet.overview.views import (
    AnchorView,
    AnswerView,
    HealthView,
    Overview,
    RoundView,
    decode_overview,
    encode_overview,
)

__all__ = [
    "AnchorView",
    "AnswerView",
    "Facts",
    "Feed",
    "HealthView",
    "LiveFeed",
    "Overview",
    "PublishedFeed",
    "RoundView",
    "Tail",
    "build_overview",
    "decode_overview",
    "encode_overview",
    "open_feed",
]
