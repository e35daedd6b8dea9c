"""
How the demo looks: a live picture on a terminal with rich, plain lines everywhere else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.text import Text

__all__ = ["Picture", "PlainView", "View", "rich_view"]

COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "bright_red", "bright_cyan", "bright_magenta", "bright_yellow")
CELLS_MAX = 60
BAR_CHARACTERS = 30
SHOW_EVERY_S = 0.08
LINE_EVERY_S = 0.4


@attrs.frozen
class Picture:
    """
    One moment, as the third party sees it.

    Attributes:
        holders: Each resource, with the node and the token of every connection that there is for it.
        nodes: Each node, with what was done to its process last, and how many connections it has.
    """

    elapsed_s: float
    holders: Sequence[tuple[str, Sequence[tuple[str, int]]]]
    nodes: Sequence[tuple[str, str, int]]


class View(Protocol):
    """Called from one thread, with `show` as often as one likes."""

    def say(self, elapsed_s: float, text: str) -> None:
        """Tell what is done or has come about."""

    def show(self, picture: Picture) -> None: ...

    def close(self) -> None:
        """Leave the last picture as it is; safe to repeat."""


class PlainView:
    """A line for each thing that is said, and now and then one while a resource is not held once."""

    def __init__(self, title: str) -> None:
        self._line = ""
        self._shown_s = -LINE_EVERY_S
        print(title, flush=True)

    def say(self, elapsed_s: float, text: str) -> None:
        print(f"{elapsed_s:6.2f} s  {text}", flush=True)

    def show(self, picture: Picture) -> None:
        unheld = sum(1 for _, connections in picture.holders if not connections)
        twice = sum(1 for _, connections in picture.holders if len(connections) > 1)
        if not unheld and not twice:
            return
        line = "  ".join(f"{name} {load}" for name, _, load in picture.nodes) + f"  nobody {unheld}"
        line += f"  TWICE {twice}" if twice else ""
        if line != self._line and picture.elapsed_s - self._shown_s >= LINE_EVERY_S:
            self._line, self._shown_s = line, picture.elapsed_s
            print(f"{picture.elapsed_s:6.2f} s    {line}", flush=True)

    def close(self) -> None:
        pass


def rich_view(title: str) -> View | None:
    """The live picture; None if rich is not installed."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        return None
    console = Console()
    live = Live(console=console, auto_refresh=False)
    live.start()
    return _RichView(title, live)


class _RichView:
    def __init__(self, title: str, live: Live) -> None:
        self._title = title
        self._live = live
        self._said: list[tuple[float, str]] = []
        self._shown_s = 0.0
        self._picture = Picture(0.0, (), ())

    def say(self, elapsed_s: float, text: str) -> None:
        self._said.append((elapsed_s, text))
        self._refresh()

    def show(self, picture: Picture) -> None:
        self._picture = picture
        now_s = time.monotonic()
        if now_s - self._shown_s >= SHOW_EVERY_S:
            self._shown_s = now_s
            self._refresh()

    def close(self) -> None:
        if self._live.is_started:
            self._refresh()
            self._live.stop()

    def _refresh(self) -> None:
        self._live.update(self._render(), refresh=True)

    def _render(self) -> RenderableType:
        from rich.columns import Columns
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        colours = {name: COLOURS[index % len(COLOURS)] for index, (name, _, _) in enumerate(self._picture.nodes)}
        cells = [_cell(name, connections, colours) for name, connections in self._picture.holders[:CELLS_MAX]]
        more = len(self._picture.holders) - CELLS_MAX
        if more > 0:
            cells.append(Text(f"and {more} more", style="dim"))
        return Group(
            Text(f"\n{self._title}\n", style="bold"),
            Panel(
                Columns(cells, equal=True, padding=(0, 3)),
                title="resource, holder, fencing token",
                title_align="left",
                border_style="dim",
            ),
            *(
                _bar(name, state, load, len(self._picture.holders), colours[name])
                for name, state, load in self._picture.nodes
            ),
            Text(""),
            *(Text(f"{elapsed_s:6.2f} s  {text}") for elapsed_s, text in self._said),
        )


def _cell(name: str, connections: Sequence[tuple[str, int]], colours: dict[str, str]) -> Text:
    from rich.text import Text

    cell = Text(f"{name:<5} ")
    if not connections:
        cell.append("nobody", style="bold white on red")
    elif len(connections) > 1:
        cell.append("TWICE " + ", ".join(node for node, _ in connections), style="bold white on red")
    else:
        [(node, token)] = connections
        cell.append(f" {node} ", style=f"bold reverse {colours.get(node, 'white')}")
        cell.append(f" #{token}", style="dim")
    return cell


def _bar(name: str, state: str, load: int, total: int, colour: str) -> Text:
    from rich.text import Text

    length = round(BAR_CHARACTERS * load / max(total, 1))
    bar = Text()
    bar.append(f"  node {name}  ", style="bold")
    bar.append(f"{state:<12}", style="green" if state == "running" else "red" if state == "killed" else "dim")
    bar.append(f"{load:>5}  ")
    bar.append("█" * length, style=colour)
    return bar
