"""What an exit code means, the same for every command; and `Failed`, which carries one to `main`."""

from __future__ import annotations

import enum

__all__ = ["Exit", "Failed", "exit_for"]


class Exit(enum.IntEnum):
    OK = 0
    FAILURE = 1
    USAGE = 2  # argparse's own
    UNREACHABLE = 3
    NO_MAJORITY = 4
    CONFLICT = 5  # or not found
    TIMEOUT = 6
    INVALID = 7  # configuration or data


class Failed(Exception):
    """A command cannot go on; `main` prints the message to stderr and exits with *exit*."""

    def __init__(self, message: str, *, exit: Exit) -> None:
        super().__init__(message)
        self.exit = exit


_BY_REASON = {
    "no-majority": Exit.NO_MAJORITY,
    "timeout": Exit.TIMEOUT,
    "unsent": Exit.CONFLICT,
    "failed": Exit.FAILURE,
}


def exit_for(status: int, reason: str) -> Exit:
    """For an HTTP status that is not 200, and the reason that the admin API gave with it."""
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    match status:
        case 404 | 409:
            return Exit.CONFLICT
        case 400 | 413:
            return Exit.INVALID
        case _:
            return Exit.FAILURE
