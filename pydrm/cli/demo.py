"""`pydrm demo`; all of it is in testing, with the third party that it needs."""

from __future__ import annotations

from pydrm.testing.demo import add_arguments, run

__all__ = ["add_arguments", "run"]
