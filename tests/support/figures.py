"""A measured figure beside its target, and how a run of `make chaos` or `make bench` prints them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was measured; `holds` says whether its target was reached."""

    name: str
    measured: str
    """With its unit."""
    target: str
    """As design/promises.md or design/performance.md says it, "must" before "aim"."""
    holds: bool


def print_figures(title: str, figures: Sequence[Figure]) -> bool:
    """Print `figures` under `title`; returns whether all hold."""
    print(f"\n{title}")
    names = max((len(figure.name) for figure in figures), default=0)
    values = max((len(figure.measured) for figure in figures), default=0)
    for figure in figures:
        verdict = "holds" if figure.holds else "BROKEN"
        print(f"  {verdict:<6}  {figure.name:<{names}}  {figure.measured:<{values}}  target: {figure.target}")
    return all(figure.holds for figure in figures)
