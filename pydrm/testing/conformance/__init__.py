"""
What every kind and every source has to do, played with those of anybody and the real thing that they talk to.
"""

from __future__ import annotations

from pydrm.testing.conformance.checked import Counterpart
from pydrm.testing.conformance.kinds import check_kind
from pydrm.testing.conformance.sources import ListCounterpart, check_source

__all__ = ["Counterpart", "ListCounterpart", "check_kind", "check_source"]
