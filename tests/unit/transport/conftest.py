"""Coroutine tests run on asyncio (anyio's plugin, which comes with Starlette)."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
