from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.build import CLUSTERS


@pytest.fixture(autouse=True)
def _close_clusters() -> Iterator[None]:
    yield
    while CLUSTERS:
        CLUSTERS.pop().close()
