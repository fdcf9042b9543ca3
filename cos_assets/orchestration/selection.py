"""The partitions that the options of `cos run` select."""

from __future__ import annotations

from collections.abc import Iterable

from cos_assets.orchestration.graph import Graph, Unit
from cos_assets.orchestration.partitions import as_dict


def selected(
    graph: Graph, study: str, select: str | None, budgets: Iterable[str], sources: Iterable[str]
) -> list[Unit]:
    """Return the units that the options select, and their ancestors. Raises ValueError for an unknown name."""
    chosen = graph.select(study, select) if select else graph.keys(study)
    wanted = {"budget": set(budgets), "source": set(sources)}
    units = graph.units(chosen)
    dimensions = [as_dict(p or "", graph.graph.get(key).partitions_def) for key, p in units]
    for name, values in wanted.items():
        allowed = list(dict.fromkeys(d[name] for d in dimensions if name in d))
        for value in sorted(values - set(allowed)):
            raise ValueError(f"--{name} {value!r}: allowed are {', '.join(allowed) or 'none with this selection'}")
    matched = {
        unit
        for unit, where in zip(units, dimensions, strict=True)
        if where and all(not values or where.get(name) in values for name, values in wanted.items())
    }
    # Of other studies, whose models this one samples, only the ancestors are kept.
    own = [unit for unit in units if unit[0].path[0] == study] or units
    # A table over all partitions (the report) is left out if any partition that it reads is left out.
    left_out = {unit for unit, where in zip(units, dimensions, strict=True) if where} - matched
    kept = {unit for unit in own if unit in matched or (unit[1] is None and not graph.reads_any(unit, left_out))}
    frontier = list(kept)
    while frontier:
        new = {parent for unit in frontier for parent in graph.parents(unit)} - kept
        if select:
            new &= set(units)
        kept |= new
        frontier = list(new)
    order = graph.units(graph.with_ancestors({key for key, _ in kept}))
    return [unit for unit in order if unit in kept]


def named(units: Iterable[Unit], names: Iterable[str]) -> set[Unit]:
    """Return the units whose partition or asset has one of these names. Raises ValueError for an unknown name."""
    found = set()
    for name in names:
        matched = {(key, partition) for key, partition in units if name in (partition, key.path[-1])}
        if not matched:
            partitions = dict.fromkeys(partition for _, partition in units if partition)
            allowed = ", ".join([*partitions, *dict.fromkeys(key.path[-1] for key, _ in units)])
            raise ValueError(f"--again {name!r}: allowed are {allowed}")
        found |= matched
    return found
