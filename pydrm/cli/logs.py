"""How `pydrm run` logs: to stderr, one record a line, with the fields that came in `extra`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

__all__ = ["set_up_logging"]

# What every record has of its own; whatever else it carries came in `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up_logging(level: str, *, as_json: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else Lines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        # Each connection that opens or closes is a line there, and pydrm tells of the resource already.
        logging.getLogger("websockets").setLevel(logging.WARNING)


class Lines(logging.Formatter):
    """`2031-05-01T12:00:00.123Z INFO    pydrm.agent: opened resource=btc token=7`"""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _extra(record).items())
        line = f"{_when(record)} {record.levelname:<7} {record.name}: {record.getMessage()}{fields}"
        return line + "".join(f"\n{text}" for text in _traces(self, record))


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _when(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if traces := _traces(self, record):
            line["trace"] = "\n".join(traces)
        return json.dumps(line, default=str, ensure_ascii=False)


def _when(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> Mapping[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _OWN}


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text and '"' not in text else json.dumps(text)


def _traces(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    traces = [formatter.formatException(record.exc_info)] if record.exc_info else []
    return traces + ([formatter.formatStack(record.stack_info)] if record.stack_info else [])
