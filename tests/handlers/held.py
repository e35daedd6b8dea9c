"""`Held`, as tests of the kinds have always called it."""

from __future__ import annotations

from pydrm.testing.held import Held, until

__all__ = ["Held", "until"]
