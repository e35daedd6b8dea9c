"""
Guards: what has to be mended in PySyncObj's messages before its core, or a peer, sees them.

PySyncObj 0.3.17 alone loses acknowledged commands. Each defect has a number, and each guard is a pure
function of a message and the log, applied by `raft` on the way in or out:

    S1  A follower cuts its log at every append_entries, not only where terms conflict, and acknowledges more
        than the message proved (Raft, section 5.3, "delete the existing entry and all that follow it" only
        "if an existing entry conflicts").  `only_news`, `proved_only`.
    S2  A snapshot's chunks move the commit index over entries that nobody verified.  `raft.Raft.heard_leader`: what
        comes with a snapshot says nothing about what is committed.
    S3  At boot the whole journal is cleared unless it begins with the dump's last two entries.
        `journal.Journal.align`: the log is brought into line with the snapshot before the core exists.
    S6  Installing a snapshot throws away a longer log.  `raft.Raft.holds`: a log that has its last entry is kept.
    S4  A diverged follower with a long log is set back and forth for ever.  `back_to_commit`.
    S5  next_node_idx carries no term, so a stale one is believed.  The frame carries it; `of_this_term`.
    S7  Request ids restart at 0 in a new process, so a late answer reaches another command's callback. No
        callbacks are given to PySyncObj: what became of a command is seen when it is applied, by its own id.
    S8  Members added by the log count too late. Membership is not PySyncObj's: see
        `voter_changes`.

Its own snapshots are never taken, sent or accepted: there is no frame for them.

And what its core would unpickle or act on is refused: `acceptable` admits plain commands and no-ops only.
"""

from __future__ import annotations

from typing import Protocol

from pydrm.engine.frames import Append, NextIndex
from pydrm.engine.journal import Entry

__all__ = ["Log", "LogDiverged", "acceptable", "back_to_commit", "of_this_term", "only_news", "proved_only"]

# The first byte of a command (pysyncobj/syncobj.py, _COMMAND_TYPE): REGULAR and NO_OP.
_ACCEPTABLE = (b"\x00", b"\x01")


class LogDiverged(Exception):
    """The leader's log contradicts what this node knows to be committed: nothing here can be trusted."""


class Log(Protocol):
    """The part of the journal that guards look at; never empty."""

    def __len__(self) -> int: ...
    def __getitem__(self, item: int) -> Entry: ...


def only_news(log: Log, message: Append, commit_index: int) -> tuple[Append, int | None]:
    """
    S1: leave out the entries that the log already holds, so that the core has nothing to cut.

    Returns the message to process, and up to which index its answer may acknowledge (None: the core is right).

    Raises:
        LogDiverged: It would cut off entries that are committed.
    """
    first, last = log[0][1], log[len(log) - 1][1]
    previous = message.previous_index
    if previous < first or previous > last or log[previous - first][2] != message.previous_term:
        return message, None  # the core answers that it cannot use it
    known = 0
    for _, index, term in message.entries:
        if index > last or log[index - first][2] != term:
            break
        known += 1
    proved = previous + known
    if known == len(message.entries):
        if proved == last:
            return _instead(message, log, proved, ()), None
        # The log goes on after what this message proves; keep that, and do not speak for it.
        commit = min(message.commit_index, proved)
        return _instead(message, log, last, (), commit_index=commit), proved
    if proved < last and proved < commit_index:
        raise LogDiverged(f"entry {proved + 1} differs from the leader's, and {commit_index} are committed")
    return _instead(message, log, proved, message.entries[known:]), None


def _instead(
    message: Append, log: Log, previous: int, entries: tuple[Entry, ...], *, commit_index: int | None = None
) -> Append:
    """*message* with other entries, which begin after *previous*."""
    return Append(
        term=message.term,
        commit_index=message.commit_index if commit_index is None else commit_index,
        previous_index=previous,
        previous_term=log[previous - log[0][1]][2],
        entries=entries,
    )


def proved_only(answer: NextIndex, proved: int | None) -> NextIndex:
    """S1: acknowledge no more than the message that is answered has proved."""
    if proved is None or answer.next_index <= proved + 1:
        return answer
    return NextIndex(answer.term, proved + 1, answer.reset, answer.success)


def back_to_commit(answer: NextIndex, commit_index: int, last_index: int) -> NextIndex:
    """S4: what a follower asks to be sent again begins after what it knows to be committed."""
    if not answer.reset:
        return answer
    return NextIndex(answer.term, min(commit_index, last_index) + 1, reset=True, success=answer.success)


def of_this_term(answer: NextIndex, term: int) -> bool:
    """S5: whether the answer was given to this leader, not to an earlier one."""
    return answer.term == term


def acceptable(command: bytes) -> bool:
    """Whether an entry is of a kind that the core does not unpickle."""
    return command[:1] in _ACCEPTABLE
