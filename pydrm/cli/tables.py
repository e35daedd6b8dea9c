"""Rows for people: in columns, and in colour where rich is installed and somebody is looking."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["print_table"]


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print to stdout; None shows as "-"."""
    texts = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    if not (sys.stdout.isatty() and _print_rich(head, texts)):
        print("\n".join(_plain(head, texts)))


def _plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [[name.upper() for name in head], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _print_rich(head: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return False
    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    # An id may look like rich's markup; it is none.
    Console(markup=False, highlight=False).print(table)
    return True
