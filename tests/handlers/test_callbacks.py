"""The app's functions that receive messages."""

from __future__ import annotations

import pytest

from pydrm.agent.message import Message
from pydrm.errors import ConfigurationError
from pydrm.handlers.callbacks import Callbacks


async def on_trade(message: Message) -> None:
    pass


def test_a_callback_is_found_by_its_name() -> None:
    callbacks = Callbacks()

    callbacks.register("trades", on_trade)

    assert callbacks.get("trades") is on_trade
    assert callbacks.get("quotes") is None
    assert list(callbacks) == ["trades"]


def test_a_sync_function_is_refused_because_it_would_block_the_loop() -> None:
    with pytest.raises(ConfigurationError, match="'trades' must be an async function"):
        Callbacks().register("trades", lambda message: None)


def test_a_name_is_given_once() -> None:
    callbacks = Callbacks()
    callbacks.register("trades", on_trade)

    with pytest.raises(ConfigurationError, match="registered already"):
        callbacks.register("trades", on_trade)
