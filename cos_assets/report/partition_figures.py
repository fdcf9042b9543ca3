"""Small figures of one partition, for its metadata in the UI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl

from cos_assets.report.figures import COLOURS, GREY, canvas

_BINS = 24
_WIDTH, _HEIGHT = 4.6, 2.1  # inches, like the next line
_EDGE, _TOP, _BOTTOM, _LEFT, _LETTER = 0.15, 0.28, 0.29, 0.55, 0.082
_BLUE, _RED = COLOURS[1], COLOURS[0]


@contextmanager
def _canvas(height: float, labels: Sequence[str] = ()) -> Iterator[tuple[Any, Any]]:
    """Yield a figure with one axis. `labels` are those of its y axis.

    The margins are computed here, because letting matplotlib find them draws the figure twice, and every partition
    has a figure.
    """
    with canvas(1, 1, _WIDTH, height, layout="none") as (figure, axes):
        left = _LEFT if not labels else _EDGE + _LETTER * max(map(len, labels))
        top, bottom = 1 - _TOP / height, _BOTTOM / height
        figure.subplots_adjust(left=min(left / _WIDTH, 0.6), right=1 - _EDGE / _WIDTH, top=top, bottom=bottom)
        yield figure, axes[0, 0]


def lengths(rows: pl.DataFrame) -> Any:
    """Draw the number of completions by tokens, from [completion_tokens, finish_reason]. Completions that were cut
    off have another color."""
    cut = pl.col("finish_reason") == "length"
    parts = [rows.filter(~cut)["completion_tokens"].to_numpy(), rows.filter(cut)["completion_tokens"].to_numpy()]
    tokens = rows["completion_tokens"].to_numpy()
    least, most = int(tokens.min()), int(tokens.max())
    width = -(-(most - least + 1) // _BINS)  # whole, or some bars would span more numbers of tokens than others
    edges = [edge - 0.5 for edge in range(least, most + width + 1, width)]
    with _canvas(_HEIGHT) as (figure, axis):
        axis.hist(parts, bins=edges, stacked=True, color=[_BLUE, _RED])
        axis.set_title(
            f"completions by tokens; {len(parts[1]):,} cut off" if len(parts[1]) else "completions by tokens"
        )
        axis.grid(axis="x", visible=False)
        return figure


def counts(values: Mapping[str, int], title: str, wrong: Sequence[str] = ()) -> Any:
    """Draw a bar with its number for each name. Those in `wrong` have another color."""
    places = range(len(values))
    with _canvas(0.6 + 0.27 * len(values), list(values)) as (figure, axis):
        axis.barh(places, list(values.values()), color=[_RED if name in wrong else _BLUE for name in values])
        for place, value in zip(places, values.values(), strict=True):
            axis.annotate(f" {value:,}", (value, place), va="center")
        axis.set_yticks(places, list(values))
        axis.invert_yaxis()
        axis.set_xlim(0, 1.15 * max(1, *values.values()))
        axis.set_title(title)
        axis.grid(axis="y", visible=False)
        return figure


def curve(metrics: pl.DataFrame) -> Any:
    """Draw coverage@k over all levels, with its interval, from sample metrics."""
    rows = metrics.filter(pl.col("metric") == "coverage", pl.col("level").is_null()).sort("k")
    with _canvas(_HEIGHT) as (figure, axis):
        low, value, high = (100 * rows[name] for name in ("low", "value", "high"))
        axis.fill_between(rows["k"], low, high, color=_BLUE, alpha=0.2, linewidth=0)
        axis.plot(rows["k"], value, color=_BLUE, linewidth=2, marker="o" if rows.height < 5 else None)
        axis.set_ylim(0, 105)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title("coverage@k, %, over k samples per problem")
        return figure


def intervals(values: Mapping[str, tuple[float, float | None, float | None]], title: str) -> Any:
    """Draw a share in percent for each name, with its interval if there is one."""
    with _canvas(0.65 + 0.3 * max(len(values), 2), list(values)) as (figure, axis):
        for place, (value, low, high) in enumerate(values.values()):
            if low is not None and high is not None:
                axis.plot([100 * low, 100 * high], [place, place], color=_BLUE, linewidth=2)
            axis.plot([100 * value], [place], "o", color=_BLUE)
            axis.annotate(f"{value:.1%}", (100 * value, place), xytext=(0, 5), textcoords="offset points", ha="center")
        axis.set_yticks(range(len(values)), list(values))
        axis.set_ylim(len(values) - 0.4, -0.8)
        axis.margins(x=0.1)
        axis.set_title(title)
        axis.grid(axis="y", visible=False)
        return figure


def per_problem(rows: pl.DataFrame, problems: int) -> Any:
    """Draw the number of problems by the number of rows [problem_id] that they have in a set. Problems without rows
    are gray."""
    sizes = rows.group_by("problem_id").len()["len"].value_counts().sort("len")
    x, y = [0, *sizes["len"]], [problems - rows["problem_id"].n_unique(), *sizes["count"]]
    with _canvas(_HEIGHT) as (figure, axis):
        axis.bar(x, y, color=[GREY, *[_BLUE] * len(sizes)], width=0.9)
        axis.set_title("problems by number of training rows")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(axis="x", visible=False)
        return figure
