"""Kinds that installed packages bring."""

from __future__ import annotations

import random
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pydrm.clock import SystemClock
from pydrm.core.resource import Resource
from pydrm.errors import ConfigurationError
from pydrm.handlers.custom import FunctionKind
from pydrm.handlers.installed import installed_kind


class Brought:
    """A kind of another package."""

    def validate(self, resource: Resource) -> None: ...

    async def run(self, hold: object) -> None: ...


class Demanding(Brought):
    """One that wants something of the node that it runs on."""

    def __init__(self) -> None:
        raise KeyError("BROKER")


async def brought(hold: object) -> None: ...


def find(name: str) -> object:
    return installed_kind(name, clock=SystemClock(), random=random.Random(7))


def install(directory: Path, package: str, *points: str) -> None:
    info = directory / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pydrm.kinds]\n" + "\n".join(points))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that packages are installed in."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_what_a_package_brings_is_found_by_its_name(site: Path) -> None:
    install(site, "bringer", f"one = {__name__}:Brought", f"two = {__name__}:brought")

    assert isinstance(find("one"), Brought)
    assert isinstance(find("two"), FunctionKind)
    assert find("three") is None


def test_two_packages_that_bring_the_same_are_refused(site: Path) -> None:
    install(site, "bringer", f"one = {__name__}:Brought")
    install(site, "rival", f"one = {__name__}:Brought")

    with pytest.raises(ConfigurationError, match="brought by bringer and rival"):
        find("one")


def test_what_cannot_be_loaded_is_named(site: Path) -> None:
    install(site, "bringer", "one = no_such_module:Brought")

    with pytest.raises(ConfigurationError, match="cannot be loaded from no_such_module:Brought"):
        find("one")


def test_a_class_that_cannot_be_made_here_is_named(site: Path) -> None:
    """Anything else that came out of this would be the end of the agent, and so of all that the node holds."""
    install(site, "bringer", f"one = {__name__}:Demanding")

    with pytest.raises(ConfigurationError, match=f"cannot be loaded from {__name__}:Demanding: KeyError: 'BROKER'"):
        find("one")


def test_an_entry_point_is_what_packaging_says_it_is() -> None:
    assert EntryPoint("one", f"{__name__}:Brought", "pydrm.kinds").load() is Brought
