"""temporary"""

from __future__ import annotations

import enum

import attrs
import msgspec

from pydrm.core.records import *
from pydrm.core.state import State


class Section(enum.Enum):
    ALL = "all"


import pickle


class Blob(msgspec.Struct):
    data: bytes


SECTION_TYPES = {Section.ALL: Blob}


class Head(msgspec.Struct):
    count: int = 1


@attrs.frozen
class Picture:
    head: Head
    sections: dict


def take(state):
    return Picture(Head(), {Section.ALL: [Blob(pickle.dumps(state.__dict__))]})


class Restoring:
    def __init__(self, head):
        self.state = State()
        self.n = 0

    def add(self, section, items):
        for i in items:
            self.state.__dict__.update(pickle.loads(i.data))
            self.n += 1

    def finish(self):
        if self.n != 1:
            raise ValueError("not all records")
        yield
