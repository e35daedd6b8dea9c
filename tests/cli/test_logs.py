from __future__ import annotations

import json
import logging

from pydrm.cli.logs import JsonLines, Lines


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "pydrm.agent", "levelno": 20, "levelname": "INFO", "msg": message, **extra})
    made.created = 0.1234
    return made


def test_a_line_carries_the_fields_that_came_as_extra() -> None:
    line = Lines().format(record("opened", resource="btc", token=7, detail="all is well", nothing=""))

    assert line == (
        '1970-01-01T00:00:00.123Z INFO    pydrm.agent: opened resource=btc token=7 detail="all is well" nothing=""'
    )


def test_a_field_cannot_forge_a_line() -> None:
    """What a third party sends may end up in a field; it stays on its line."""
    line = Lines().format(record("opened", detail="x\n1970-01-01 ERROR forged"))

    assert "\n" not in line


def test_json_has_the_same_fields_as_members() -> None:
    line = JsonLines().format(record("opened", resource="btc", token=7))

    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.123Z",
        "level": "info",
        "logger": "pydrm.agent",
        "message": "opened",
        "resource": "btc",
        "token": 7,
    }


def test_a_trace_follows_its_line() -> None:
    try:
        raise ValueError("oh")
    except ValueError as error:
        failed = record("failed", exc_info=(type(error), error, error.__traceback__))

    assert Lines().format(failed).splitlines()[-1] == "ValueError: oh"
    assert json.loads(JsonLines().format(failed))["trace"].endswith("ValueError: oh")
