"""
A whole cluster in one thread, on a virtual clock, a virtual network and virtual disks, from one seed.

Everything of pydrm and of PySyncObj is the real code; only what they stand on is made up here. The same seed gives
the same life, event for event, so a failure that happens once in a thousand can be looked at as often as one likes.
"""

from __future__ import annotations

from pydrm.testing.simulation.cluster import SimulatedCluster

__all__ = ["SimulatedCluster"]
