"""Progress reports of long work, and their observers."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from cos_assets import progress
from cos_assets.orchestration.graph import Batch
from cos_assets.orchestration.terminal import Terminal
from cos_assets.progress import Meter, Report, duration


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its first element is the time, in seconds."""
    now = [1000.0]
    monkeypatch.setattr("cos_assets.progress.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def seen(clock: list[float]) -> list[Report]:
    return []


def test_a_report_contains_pace_spend_and_remaining_time(clock: list[float], seen: list[Report]) -> None:
    with progress.shown_by(seen.append):
        progress.report("sampling with wc", 0, 400)
        clock[0] += 20
        progress.report("sampling with wc", 100, 400, tokens=5000, flops=1e9, cost=0.25)
    last = seen[-1]
    assert last.numbers == {
        "done": 100,
        "total": 400,
        "progress": 0.25,
        "seconds": 20.0,
        "seconds_left": 60.0,
        "tokens": 5000,
        "tokens_per_second": 250.0,
        "flops": 1e9,
        "flops_expected": 4e9,
        "cost": 0.25,
        "cost_expected": 1.0,
    }
    assert str(last) == (
        "sampling with wc: 100 of 400 (25%), 250 tokens/s, 1e+09 of about 4e+09 FLOPs,"
        " cost 0.25 of about 1, 1 min 0 s left"
    )
    assert "left" not in str(seen[0]), "the time is unknown before the first result"


def test_resumed_work_is_measured_from_where_it_resumes(clock: list[float], seen: list[Report]) -> None:
    with progress.shown_by(seen.append):
        progress.report("train student after a kill", 40, 100, tokens=4000, flops=8.0)
        clock[0] += 10
        progress.report("train student after a kill", 50, 100, tokens=5000, flops=10.0)
    last = seen[-1]
    assert (last.tokens, last.flops, last.seconds_left) == (1000, 2.0, 50.0)
    assert last.tokens_per_second == 100.0 and last.expected(2.0) == 12.0


def test_spend_is_summed_over_pieces_of_work(clock: list[float]) -> None:
    meter = Meter()
    with progress.shown_by(meter):
        for _ in range(2):  # two checkpoints are validated one after the other, under one name
            progress.report("validation with student", 0, 3)
            progress.report("validate student", 0, 2)
            for done in (1, 3):
                progress.report("validation with student", done, 3, tokens=10 * done, flops=5.0 * done)
        progress.report("step checking", 7, 7)
    assert meter.spent() == {"tokens": 60, "flops": 30.0}


def test_at_most_one_report_is_printed_per_interval(clock: list[float]) -> None:
    lines: list[str] = []
    with progress.shown_by(progress.lines(lines.append, 30.0)):
        for done in range(101):
            progress.report("grading", done, 100)
            clock[0] += 1
    assert [line.split(" of")[0] for line in lines] == ["grading: 30", "grading: 60", "grading: 90"]


def test_counted_items_are_reported_when_they_are_done(clock: list[float], seen: list[Report]) -> None:
    with progress.shown_by(seen.append):
        assert list(progress.counted("reading", "abcde", 5, at_once=2)) == list("abcde")
    assert [report.done for report in seen] == [0, 2, 4, 5]


def test_no_report_is_delivered_after_the_end(seen: list[Report]) -> None:
    with pytest.raises(KeyError), progress.shown_by(seen.append):
        raise KeyError
    progress.report("more", 1, 2)
    assert not seen


@pytest.mark.parametrize(("seconds", "told"), [(12.4, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_are_formatted(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def drawn(clock: list[float], width: int, what: str, done: int, total: int, **took: float) -> str:
    """The output on a terminal of `columns` columns for a step after 20 s."""
    console = Console(file=StringIO(), force_terminal=True, width=width, record=True)
    batch = Batch("demo budget|model high|wc", "high|wc", [])
    with Terminal(console) as terminal, progress.shown_by(lambda now: terminal.progress(batch, now)):
        terminal.started(batch, [])
        progress.report(what, 0, total)
        clock[0] += 20
        progress.report(what, done, total, **took)
        terminal.bars.refresh()
    return console.export_text()


def test_a_terminal_shows_a_bar_with_pace_and_spend(clock: list[float]) -> None:
    shown = drawn(clock, 160, "sampling with wc", 100, 400, tokens=5000, cost=0.25)
    assert "100/400" in shown and "1 min 0 s left · 250 tokens/s · cost 0.25 of about 1" in shown


def test_a_narrow_terminal_shows_the_bar_without_details(clock: list[float]) -> None:
    shown = drawn(clock, 80, "validation with student", 30_000, 40_000, tokens=50_000, flops=1e15)
    assert "30000/40000 7 s left" in shown and "━" * 12 in shown and "tokens/s" not in shown
