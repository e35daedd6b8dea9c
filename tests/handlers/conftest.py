"""Fixtures that the tests of the kinds share."""

from __future__ import annotations

import importlib.util
import os

import pytest

from pydrm.handlers.websocket.kind import Websocket


@pytest.fixture(params=["websockets", "picows"])
def each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lives through the test once with each library that websockets can be made with."""
    if importlib.util.find_spec(request.param) is None:
        why = f"needs {request.param}"
        if os.environ.get("PYDRM_SERVERS") == "required":
            pytest.fail(why)
        pytest.skip(why)
    monkeypatch.setitem(Websocket.__init__.__kwdefaults__, "transport", request.param)
    return str(request.param)
