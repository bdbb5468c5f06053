"""What several tests of the validator begin with."""

from __future__ import annotations

from tests.support.validator.publications import chain

__all__ = ["chain"]
