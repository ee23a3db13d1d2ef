"""The tasks, periodics and sweep steps of all parts: each part of billing lists its own in `<part>/tasks.py`.

A part may have parts of its own: `payouts/sending/tasks.py`.
"""

import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TypeVar

import raymart_billing
from raymart_billing.work.task import Declared, Periodic, SweepStep, Task

Named = TypeVar("Named", Task, Periodic)


@dataclass(frozen=True, slots=True)
class Registry:
    """What a worker can do, by name."""

    tasks: Mapping[str, Task]
    periodics: Mapping[str, Periodic]


def collect() -> Declared:
    """What `raymart_billing.<part>.tasks` of every part names `TASKS`, `PERIODICS` and `SWEEP_STEPS`; each is optional."""
    tasks: list[Task] = []
    periodics: list[Periodic] = []
    steps: list[SweepStep] = []
    for part in _parts(raymart_billing.__path__, raymart_billing.__name__):
        if find_spec(f"{part}.tasks") is None:
            continue
        declared = vars(import_module(f"{part}.tasks"))
        tasks += declared.get("TASKS", ())
        periodics += declared.get("PERIODICS", ())
        steps += declared.get("SWEEP_STEPS", ())
    return Declared(tasks=tasks, periodics=periodics, sweep_steps=steps)


def _parts(path: Iterable[str], name: str) -> Iterator[str]:
    """The names of all packages below the package `name` at `path`."""
    for found in pkgutil.iter_modules(path, f"{name}."):
        spec = find_spec(found.name) if found.ispkg else None
        if spec is not None and spec.submodule_search_locations is not None:
            yield found.name
            yield from _parts(spec.submodule_search_locations, found.name)


def by_name(tasks: Iterable[Task], periodics: Iterable[Periodic]) -> Registry:
    """A registry of these. Two of one name are a programmer's error."""
    named_tasks, named_periodics = _named(tasks), _named(periodics)
    both = named_tasks.keys() & named_periodics.keys()
    assert not both, f"a task and a periodic are named {sorted(both)}"
    return Registry(tasks=named_tasks, periodics=named_periodics)


def _named(items: Iterable[Named]) -> Mapping[str, Named]:
    named: dict[str, Named] = {}
    for item in items:
        assert item.name not in named, f"two are named {item.name!r}"
        named[item.name] = item
    return named
