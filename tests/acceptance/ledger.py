"""
Clients that never rest, and the ledger of what they were told.

Each id is asked for once, so that what comes of a request can be told from the resources alone: an id whose add was
acknowledged is there, until somebody asks to have it removed; one whose removal was acknowledged is not there again,
which it would be if an add were applied a second time. Of a request without an answer nothing is known.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count

from pydrm.cli.client import Client
from pydrm.cli.exits import Exit, Failed

__all__ = ["Clients", "Ledger"]

REQUEST_TIMEOUT_S = 2.0
BATCH_MAX = 5
PAUSE_S = 0.01
REFUSED_PAUSE_S = 0.1

# What somebody may hear from a cluster that is being killed; anything else is not an answer to what is asked here.
UNKNOWN = (Exit.UNREACHABLE, Exit.NO_MAJORITY, Exit.TIMEOUT, Exit.FAILURE)


class Ledger:
    """
    Safe from any thread.

    Attributes:
        there: Acknowledged as added, and nobody has asked to have them removed.
        gone: Acknowledged as removed.
        unknown: Asked for, without an answer.
        acknowledged: How many adds and removals, of one id each, were acknowledged.
    """

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.gone: set[str] = set()
        self.unknown: set[str] = set()
        self.acknowledged = 0
        self._lock = threading.Lock()
        self._wrong: list[str] = []

    def asked(self, ids: Collection[str]) -> None:
        """What becomes of *ids* is unknown until it is answered."""
        with self._lock:
            self.unknown.update(ids)

    def take(self, most: int) -> list[str]:
        """Up to so many of those that are there, for the caller to have them removed."""
        with self._lock:
            taken = sorted(self.there)[:most]
            self.there.difference_update(taken)
            self.unknown.update(taken)
            return taken

    def added(self, ids: Collection[str]) -> None:
        self._answered(ids, self.there)

    def removed(self, ids: Collection[str]) -> None:
        self._answered(ids, self.gone)

    def contradicted(self, what: str) -> None:
        """An answer, in words, that nobody should have been given."""
        with self._lock:
            self._wrong.append(what)

    def came_to_rest(self, present: Collection[str]) -> None:
        """Nobody has asked for anything for a while; so what is there now was added, whatever its client was told."""
        with self._lock:
            known = self.unknown.intersection(present)
            self.unknown -= known
            self.there |= known

    def problems(self, present: Sequence[str]) -> list[str]:
        """What contradicts it if those ids are all that are there."""
        with self._lock:
            found = list(self._wrong)
            found += [f"{id} was acknowledged and is not there" for id in sorted(self.there.difference(present))]
            found += [f"{id} was removed and is there again" for id in sorted(self.gone.intersection(present))]
            asked_for = self.there | self.gone | self.unknown
            found += [f"{id} is there and nobody asked for it" for id in sorted(set(present) - asked_for)]
            found += [f"{id} is there twice" for id in sorted({id for id in present if present.count(id) > 1})]
            return found

    def _answered(self, ids: Collection[str], where: set[str]) -> None:
        with self._lock:
            self.unknown.difference_update(ids)
            where.update(ids)
            self.acknowledged += len(ids)


class Clients:
    """
    Some threads that add and remove through the admin API of any node, one request at a time each.

    They keep about *most* resources under management.
    """

    def __init__(
        self, ledger: Ledger, admins: Mapping[str, str], url: str, *, threads: int = 3, most: int = 60, seed: int = 0
    ) -> None:
        """*admins*: the URL of each node's admin API by name; *url*: that of the resources' third party."""
        self._ledger = ledger
        self._admins = admins
        self._url = url
        self._threads = threads
        self._most = most
        self._random = random.Random(seed)
        self._numbers = count(1)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """In its body they ask; when it is left, each has had its answer or given up."""
        over = threading.Event()
        dice = [random.Random(self._random.random()) for _ in range(self._threads)]
        threads = [threading.Thread(target=self._ask, args=(die, over)) for die in dice]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _ask(self, dice: random.Random, over: threading.Event) -> None:
        while not over.is_set():
            node = dice.choice(sorted(self._admins))
            client = Client(self._admins[node], timeout=REQUEST_TIMEOUT_S)
            ask = self._add if len(self._ledger.there) < self._most else self._remove
            try:
                ask(client, dice.randint(1, BATCH_MAX))
                over.wait(PAUSE_S)
            except Failed as failed:
                if failed.exit not in UNKNOWN or "bug" in str(failed):
                    self._ledger.contradicted(f"{node} answered: {failed}")
                over.wait(REFUSED_PAUSE_S)

    def _add(self, client: Client, size: int) -> None:
        ids = [f"n{next(self._numbers)}" for _ in range(size)]
        self._ledger.asked(ids)
        client.add([{"id": id, "kind": "websocket", "url": self._url} for id in ids])
        self._ledger.added(ids)

    def _remove(self, client: Client, size: int) -> None:
        ids = self._ledger.take(size)
        client.remove(ids)
        self._ledger.removed(ids)
