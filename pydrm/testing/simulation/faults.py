"""
`Misfortune`: random lives of a cluster, in which everything goes wrong that may.

A profile says how often what happens; everything is drawn from the cluster's seed. In the end the faults end, and
the cluster has to come to rest with everything as it was acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import Random

import attrs

from pydrm.core.resource import Resource
from pydrm.testing.simulation.cluster import SimulatedCluster
from pydrm.testing.simulation.listing import LIES, REMOVED, TAKEN
from pydrm.testing.simulation.profiles import PROFILES
from pydrm.testing.simulation.stage import SOURCE

__all__ = ["Life", "Misfortune", "live"]

_SLICE_S = 0.1
_MOODS = ("calm", "calm", "calm", "slow", "raises", "stubborn", "refuses")


@attrs.frozen
class Life:
    """
    Attributes:
        violations: What went against the promises, in words.
        trace: What happened, line by line.
        seconds: How long it was, in simulated seconds.
        fingerprint: Equal for equal lives.
    """

    violations: list[str]
    trace: list[str]
    seconds: float
    fingerprint: str


def live(seed: int, *, nodes: int = 3, workers: int = 0, profile: str = "everything", seconds: float = 30.0) -> Life:
    """One life: *seconds* of misfortune, then peace, then the verdict."""
    with SimulatedCluster(seed, nodes=nodes, workers=workers) as cluster:
        Misfortune(cluster, PROFILES[profile]).run(seconds)
        cluster.settle()
        return Life(cluster.verify(), cluster.trace, cluster.scheduler.now, cluster.fingerprint())


class Misfortune:
    def __init__(self, cluster: SimulatedCluster, rates: Mapping[str, float]) -> None:
        self._cluster = cluster
        self._rates = rates
        self._random = Random(cluster.random.random())
        self._made = 0
        self._events: list[str] = []
        self._over = False
        # With both in one life, the voters that are left could be those that have forgotten.
        self._may_forget = self._random.random() < 0.5
        self._revoting = False
        self._forgotten = ""
        self._takes: bool | None = None

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / _SLICE_S)):
            self._use()
            for what, rate in self._rates.items():
                if self._random.random() < rate * _SLICE_S:
                    getattr(self, f"_{what}")()
            self._bring_back()
            self._cluster.run(_SLICE_S)
            if self._cluster.third_party.violations:
                break
        self._over = True

    def _use(self) -> None:
        """What an app does meanwhile."""
        cluster, random = self._cluster, self._random
        if "publish" in self._rates:
            self._subscribe()
            return
        if "list_changes" in self._rates:
            self._keep_source()
            return
        if random.random() < 0.15 and len(cluster.acknowledged) < 40:
            self._made += 1
            cluster.add(self._resource(f"r{self._made}"), via=self._anyone())
        if random.random() < 0.05:
            self._update()
        if random.random() < 0.03 and (known := self._known()):
            cluster.remove(random.choice(known), via=self._anyone())

    def _subscribe(self) -> None:
        if self._made < 6 and self._random.random() < 0.2:
            self._made += 1
            once, ordered = self._random.random() < 0.5, self._random.random() < 0.3
            self._cluster.add(
                self._cluster.webhook(f"hook{self._made}", once=once, ordered=ordered), via=self._anyone()
            )

    def _keep_source(self) -> None:
        """It is added soon, and now and then with another field, for which it is opened anew."""
        if self._random.random() < (0.005 if SOURCE in self._cluster.acknowledged else 0.2):
            self._cluster.add(self._cluster.source(poll=0.2 + 0.3 * self._random.random()), via=self._anyone())

    def _update(self) -> None:
        if known := self._known():
            self._cluster.add(self._resource(self._random.choice(known)), via=self._anyone())

    def _park(self) -> None:
        """Have a resource paused, and most often resumed."""
        if known := self._known():
            id = self._random.choice(known)
            self._cluster.pause_resource(id, via=self._anyone())
            self._later(0.0, 6.0, lambda: self._cluster.resume_resource(id, via=self._anyone()))

    def _known(self) -> list[str]:
        """What is under management for certain."""
        cluster = self._cluster
        return sorted(id for id, wanted in cluster.acknowledged.items() if wanted and id not in cluster.uncertain)

    def _resource(self, id: str) -> Resource:
        return Resource(id, kind="held", mood=self._random.choice(_MOODS), version=self._random.randrange(10**6))

    def _anyone(self) -> str:
        return self._random.choice(sorted(self._cluster.nodes))

    def _two(self) -> tuple[str, str]:
        one, other = self._random.sample(sorted(self._cluster.nodes), 2)
        return one, other

    def _later(self, least_s: float, most_s: float, call: Callable[[], None]) -> None:
        def unless_over() -> None:
            if not self._over:
                call()

        self._cluster.scheduler.call_later(least_s + (most_s - least_s) * self._random.random(), unless_over)

    def _bring_back(self) -> None:
        for name, node in self._cluster.nodes.items():
            if not node.host.alive and self._random.random() < 0.5 * _SLICE_S:
                self._cluster.mend_disk(name)
                self._cluster.start(name)

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def _kill(self) -> None:
        self._cluster.kill(self._anyone())

    def _kill_writing(self) -> None:
        self._cluster.kill_writing(self._anyone())

    def _power_cut(self) -> None:
        self._cluster.power_cut(self._anyone())

    def _stop(self) -> None:
        self._cluster.stop(self._anyone())

    def _pause(self) -> None:
        name = self._anyone()
        if not self._cluster.nodes[name].host.paused:
            self._cluster.pause(name)
            self._later(0.05, 6.0, lambda: self._cluster.resume(name))

    def _isolate(self) -> None:
        name = self._anyone()
        self._cluster.partition([other for other in self._cluster.nodes if other != name])
        self._later(0.1, 6.0, self._cluster.heal)

    def _cut_one_way(self) -> None:
        self._cluster.cut(*self._two())
        self._later(0.1, 6.0, self._cluster.heal)

    def _bridge(self) -> None:
        names = sorted(self._cluster.nodes)
        self._random.shuffle(names)
        half = len(names) // 2
        self._cluster.partition(names[: half + 1], names[half:])
        self._later(0.1, 6.0, self._cluster.heal)

    def _hold_back(self) -> None:
        """For less than after which a link is given up: it all arrives, late and at once."""
        one, other = self._two()
        self._cluster.cut(one, other)
        self._later(0.2, 2.9, lambda: self._cluster.join(one, other))

    def _slow(self) -> None:
        self._cluster.slow(*self._two(), 0.9 * self._random.random())

    def _lag(self) -> None:
        """One node hears the others ever so late, and then not at all."""
        name = self._anyone()
        for other in self._cluster.nodes:
            if other != name:
                self._cluster.slow(other, name, 0.3 + 0.6 * self._random.random())
        others = [other for other in self._cluster.nodes if other != name]
        self._later(0.5, 3.0, lambda: self._cluster.partition(others))
        self._later(4.0, 8.0, self._cluster.heal)

    def _mute(self) -> None:
        """What one node says is held back for about as long as a lease lasts, and what it hears is late."""
        name = self._anyone()
        others = [other for other in self._cluster.nodes if other != name]
        for other in others:
            self._cluster.cut(name, other)
            self._cluster.slow(other, name, 0.3 + 0.6 * self._random.random())
        for other in others:
            self._later(1.5, 2.9, partial(self._cluster.join, name, other))
        self._later(4.0, 8.0, self._cluster.heal)

    def _reset(self) -> None:
        self._cluster.reset(*self._two())

    def _block_app(self) -> None:
        # Longer than what it takes to lose the lease, too: the stall timeout and the lease's own time.
        self._cluster.block_app(self._anyone(), 0.1 + 12 * self._random.random())

    def _disk_full(self) -> None:
        self._cluster.fill_disk(self._anyone())

    def _disk_broken(self) -> None:
        self._cluster.break_disk(self._anyone())

    def _replace_disk(self) -> None:
        """Once in a life: with a second one, the majority could have forgotten. Then the voter is replaced."""
        cluster = self._cluster
        if not self._may_forget or not cluster.formed or self._forgotten:
            return
        self._forgotten = name = self._anyone()
        cluster.wipe(name)
        self._later(2.0, 8.0, lambda: cluster.change_voters("replace", name, via=self._other_than(name)))

    def _revote(self) -> None:
        """One loses its vote, and gets it back."""
        cluster = self._cluster
        if (self._may_forget and "replace_disk" in self._rates) or self._revoting or not cluster.formed:
            return
        self._revoting = True
        name = self._anyone()
        cluster.change_voters("remove", name, via=self._anyone())

        def back() -> None:
            self._revoting = False
            cluster.change_voters("add", name, via=self._other_than(name))

        self._later(1.0, 6.0, back)

    def _other_than(self, name: str) -> str:
        return self._random.choice([other for other in sorted(self._cluster.nodes) if other != name])

    def _roll(self) -> None:
        """A rolling restart."""
        for number, name in enumerate(sorted(self._cluster.nodes)):
            self._later(3.0 * number, 3.0 * number, partial(self._cluster.stop, name))
            self._later(3.0 * number + 1.0, 3.0 * number + 2.0, partial(self._cluster.start, name))

    def _drift(self) -> None:
        # Of two clocks one may be as much too fast as the other is too slow: together that is the promised percent.
        self._cluster.set_rate(self._anyone(), 0.9951 + 0.0098 * self._random.random())

    def _jump_wall(self) -> None:
        self._cluster.jump_wall(self._anyone(), 7200 * (self._random.random() - 0.5))

    def _refuse(self) -> None:
        self._cluster.third_party_refuses()
        self._later(0.1, 3.0, self._cluster.third_party_works)

    def _stall(self) -> None:
        self._cluster.third_party_stalls()
        self._later(0.5, 6.0, self._cluster.third_party_works)

    def _hang(self) -> None:
        """The third party stalls; and an app that waits for it does nothing else either, for longer than its lease."""
        name = self._anyone()
        self._cluster.third_party_stalls()
        self._later(0.2, 0.6, lambda: self._cluster.block_app(name, 10.0))
        self._later(7.5, 10.0, self._cluster.third_party_works)

    def _publish(self) -> None:
        """A new event; or an old one again, as by somebody who was not told what became of it."""
        if not self._events or self._random.random() < 0.8:
            self._events.append(f"event-{len(self._events)}")
            id = self._events[-1]
        else:
            id = self._random.choice(self._events[-10:])
        self._cluster.publish(id, via=self._anyone())

    def _receiver_mood(self) -> None:
        cluster = self._cluster
        self._random.choice([cluster.receiver_refuses, cluster.receiver_fails, cluster.receiver_is_silent])()
        self._later(0.1, 3.0, cluster.receiver_works)

    def _list_changes(self) -> None:
        self._cluster.change_list()

    def _list_mood(self) -> None:
        cluster = self._cluster
        moods: list[Callable[[], None]] = [partial(cluster.list_lies, how) for how in LIES]
        moods += [cluster.list_is_down, partial(cluster.list_is_late, 3 * self._random.random())]
        self._random.choice(moods)()
        self._later(0.1, 3.0, cluster.list_works)

    def _list_late(self) -> None:
        self._cluster.list_is_late(3 * self._random.random())
        self._later(1.0, 5.0, self._cluster.list_works)

    def _meddle(self) -> None:
        """The app removes what the list has, or, in other lives, adds it too: of a list that it has a part of, no
        source is ever content, and so never asks whether it has changed."""
        if self._takes is None:
            self._takes = self._random.random() < 0.5
        if self._takes:
            self._cluster.take_from_list(self._random.choice(TAKEN), via=self._anyone())
        else:
            self._cluster.remove_from_under_list(self._random.choice(REMOVED), via=self._anyone())

    def _answer_late(self) -> None:
        self._cluster.third_party_answers_late(8 * self._random.random())
        self._later(1.0, 10.0, self._cluster.third_party_works)
