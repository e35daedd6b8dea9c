"""
`Publishing`: webhooks, events that apps publish, and what the receiver is promised by that.
"""

from __future__ import annotations

from pydrm.core.resource import Resource
from pydrm.errors import DrmError
from pydrm.testing.simulation.stage import Stage

__all__ = ["SECRET", "TOPIC", "Publishing"]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TOPIC = "orders.created"


class Publishing(Stage):
    """Events are asked for at once, and acknowledged, or not, while time passes."""

    @staticmethod
    def webhook(id: str, *, once: bool, ordered: bool = False) -> Resource:
        """A subscription to all that is published here."""
        return Resource(
            id,
            kind="webhook",
            url=f"https://receiver.example/{id}",
            topics=["orders.#"],
            secret=SECRET,
            timeout=2,
            ordered=ordered,
            delivery="at_most_once" if once else "at_least_once",
        )

    def publish(self, id: str, *, via: str) -> None:
        """Have *via* publish an event under *id*; if it does not know what became of that, it may be repeated."""
        node = self.nodes[via]
        manager = node.manager
        if manager is None or not node.host.alive:
            return
        # Published again it is for whom it was the first time.
        there = self._first_asked.setdefault(
            id,
            [
                (name, wanted["delivery"] == "at_most_once")
                for name, wanted in self.acknowledged.items()
                if wanted is not None and wanted.kind == "webhook" and name not in self.uncertain
            ],
        )
        self._note(f"{via} is asked to publish {id}")
        node.asked += 1

        async def ask() -> None:
            try:
                await manager.publish(TOPIC, {"id": id}, event_id=id, timeout=5)
            except DrmError as error:
                self._note(f"{via} does not know whether {id} is published: {error}")
            else:
                self.published.append(id)
                self.receiver.promised(there, id)
            node.asked -= 1

        node.host.app.call_soon(lambda: node.host.app.create_task(ask()))

    # --- the receiver ------------------------------------------------------------------------------------------------

    def receiver_refuses(self) -> None:
        self._note("the receiver refuses")
        self.receiver.refuses = True

    def receiver_fails(self) -> None:
        self._note("the receiver answers 500")
        self.receiver.fails = True

    def receiver_is_silent(self) -> None:
        self._note("the receiver does not answer")
        self.receiver.silent = True

    def receiver_works(self) -> None:
        self._note("the receiver works")
        self.receiver.works()
