"""
Another version of pydrm beside this one, in the same process: a copy of its whole text under another name, patched.

What an app has in its hands, the errors and `Resource`, is of this version on both sides; what is said on the wire,
written to disk and kept in the state is of one version or the other.

The next version speaks one wire format more, and has protocol 2, and with it
    a command that nobody knew before, `Annotate`, which puts a note on a resource;
    a field more in an old command, `AddResources.note`, which it sends at all times and which counts from then on;
    a field more in an old record, `Record.note`.
"""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import attrs

import pydrm
from pydrm.testing.simulation.cluster import Version

__all__ = ["NextVersion", "next_version"]

NAME = "pydrm_next"
SHARED = ("errors", "core.resource")
NOTE = "added by the next version"

_IMPORT = re.compile(rf"^(\s*(?:from|import) )pydrm\b(?!\.(?:{'|'.join(SHARED)})\b)", re.MULTILINE)
# `pydrm/__init__.py` names the homes of what it imports late.
_HOME = re.compile(r'(?<=: ")pydrm(?=\.[a-z.]+",$)', re.MULTILINE)

_ANNOTATE = '''
class Annotate(msgspec.Struct, frozen=True, gc=False):
    """Put a note on a resource."""

    resource: str
    note: str


Command = (
    Annotate
    |'''

_DECIDE_ANNOTATE = """
def decide_annotate(state: State, command: Annotate) -> Decision:
    record = state.records.get(command.resource)
    if record is None:
        return refused(Reason.NOT_FOUND, command.resource)
    return Decision(Done(), (Defined(replace(record, note=command.note)),))


def decide_remove("""

_NOTE_IN_FORCE = """
def _note(state: State, command: AddResources) -> str:
    in_force = state.settings is not None and state.settings.protocol >= 2
    return command.note if in_force else ""


def _add_one("""

_PARTS = "return (*parts, self.parked.parts()) if self.parked else parts"

_ANNOTATE_METHOD = '''
    async def annotate(self, id: str, note: str, *, timeout: float = 10) -> None:
        """Put *note* on a resource."""
        await self._requests.ask(Annotate(id, note), timeout)

    async def force_release('''

_FUTURE = "\nfrom __future__ import annotations\n"
_IMPORT_ANNOTATE = f"{_FUTURE}\nfrom {NAME}.core.commands import Annotate\n"

# (module, what it says, what the next version says there)
PATCHES = (
    *((module, _FUTURE, _IMPORT_ANNOTATE) for module in ("core/protocol.py", "core/decide_resources.py", "manager.py")),
    *((module, _FUTURE, _IMPORT_ANNOTATE) for module in ("core/machine.py", "engine/codec.py")),
    ("engine/handshake.py", "\nWIRE_FORMAT = 1\n", "\nWIRE_FORMAT = 2\n"),
    ("core/protocol.py", "\nPROTOCOL = 1\n", "\nPROTOCOL = 2\n"),
    ("core/protocol.py", "SINCE: dict[type, int] = {}", "SINCE: dict[type, int] = {Annotate: 2}"),
    ("core/commands.py", "\nCommand = (\n   ", _ANNOTATE),
    ("core/commands.py", "    if_absent: bool = False\n", '    if_absent: bool = False\n    note: str = ""\n'),
    (
        "core/records.py",
        "    parked: Parked | None = None\n",
        '    parked: Parked | None = None\n    note: str = ""\n',
    ),
    ("core/records.py", _PARTS, f"parts += (self.note,) if self.note else ()\n        {_PARTS}"),
    ("core/decide_resources.py", "import Audited, Cause", "import Audited, Cause, Defined"),
    ("core/decide_resources.py", "\ndef decide_remove(", _DECIDE_ANNOTATE),
    (
        "core/decide_resources.py",
        "definition, command.if_absent)",
        "definition, command.if_absent, _note(state, command))",
    ),
    ("core/decide_resources.py", "if_absent: bool) -> str:", "if_absent: bool, note: str) -> str:"),
    ("core/decide_resources.py", "revision=draft.number()))", "revision=draft.number(), note=note))"),
    (
        "core/decide_resources.py",
        "\ndef _add_one(",
        _NOTE_IN_FORCE,
    ),
    ("core/machine.py", "import decide_add, ", "import decide_add, decide_annotate, "),
    (
        "core/machine.py",
        "    RaiseProtocol: decide_raise_protocol,\n",
        "    RaiseProtocol: decide_raise_protocol,\n    Annotate: decide_annotate,\n",
    ),
    ("engine/codec.py", "    RaiseProtocol: 15,\n", "    RaiseProtocol: 15,\n    Annotate: 100,\n"),
    ("requests.py", "AddResources(part, if_absent)", f'AddResources(part, if_absent, "{NOTE}")'),
    ("manager.py", "\n    async def force_release(", _ANNOTATE_METHOD),
)


@attrs.frozen
class NextVersion:
    """
    Attributes:
        module: Any module of it, by its name in pydrm.
    """

    version: Version
    module: Callable[[str], ModuleType]


@cache
def next_version() -> NextVersion:
    """The next version, imported; one for all, because what was imported stays."""
    # Kept until the process ends: a traceback may want to show its lines.
    directory = tempfile.TemporaryDirectory(prefix="pydrm-next-")
    _DIRECTORIES.append(directory)
    _write(Path(directory.name) / NAME)
    sys.path.insert(0, directory.name)
    try:
        importlib.import_module(f"{NAME}.manager")
        importlib.import_module(f"{NAME}.core.invariants")
    finally:
        sys.path.remove(directory.name)
    version = Version(sys.modules[f"{NAME}.manager"].ResourceManager, sys.modules[f"{NAME}.core.invariants"].check)
    return NextVersion(version, lambda name: sys.modules[f"{NAME}.{name}"])


_DIRECTORIES: list[tempfile.TemporaryDirectory[str]] = []


def _write(target: Path) -> None:
    source = Path(pydrm.__file__).parent
    patched = set()
    for file in sorted(source.rglob("*.py")):
        module = file.relative_to(source)
        if module.parts[0] == "testing" or ".".join(module.with_suffix("").parts) in SHARED:
            continue
        text = _HOME.sub(NAME, _IMPORT.sub(rf"\g<1>{NAME}", file.read_text(encoding="utf-8")))
        for path, said, says in PATCHES:
            if path == module.as_posix():
                assert text.count(said) == 1, f"{path} has {said!r} {text.count(said)} times: correct the patch"
                text = text.replace(said, says)
                patched.add(path)
        copied = target / module
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(text, encoding="utf-8")
    assert patched == {path for path, _, _ in PATCHES}
