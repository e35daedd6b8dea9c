from __future__ import annotations

import os

import pytest


@pytest.fixture
def rounds() -> range:
    """How often a promise is put to the test: ten of ten with PYDRM_ACCEPTANCE=long, else two of two."""
    return range(10 if os.environ.get("PYDRM_ACCEPTANCE") == "long" else 2)
