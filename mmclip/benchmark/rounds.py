"""Timing in turn, and what the times say."""

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import torch
from torch.utils.benchmark import timer

OURS = 'mmclip'
YARDSTICK = 'matrix product'
QUIET = 0.1  # a round is noisy if a call takes so much longer than usual
HOPELESS = 4  # whoever takes so many times as long as ours is timed once


@dataclass
class Entry:
    """One of those who do the work of a case.

    Args:
        name (str): ``OURS``, a peer, or ``YARDSTICK``.
        call (Callable): Does the work once.
        difference (float | None): Of its output from ours, over the largest
            value of ours; None if they cannot be compared.
        peak (int | None): The bytes of memory that a call needs.
        work (float): Operations that a plain implementation needs for it.
    """

    name: str
    call: Callable[[], Any]
    difference: float | None = None
    peak: int | None = None
    work: float = 0


@dataclass
class Case:
    """A piece of work, and those who do it.

    Args:
        name (str): What is done, in what size and precision.
        entries (list[Entry]): Ours first.
        missing (list[str]): Peers that are left out, and why.
    """

    name: str
    entries: list[Entry]
    missing: list[str] = field(default_factory=list)


@dataclass
class Row:
    """What was measured of one entry; times are in seconds."""

    case: str
    name: str
    first: float  # the first call, with what is compiled or read in it
    seconds: float  # the median
    spread: float  # interquartile range, over the median
    ratio: float  # to ours, the median over rounds; above 1 is slower
    ratio_low: float  # quartiles of the ratio
    ratio_high: float
    rounds: int
    repeated: int  # noisy rounds that others replaced
    widest: float  # the largest excess over a median in a round that counts
    peak: int | None = None
    share: float | None = None  # of the rate of the yardstick
    difference: float | None = None


def compete(case: Case, rounds: int) -> list[Row]:
    """Time the entries of a case in turn.

    Returns:
        list[Row]: A row per entry, ours first.
    """
    calls = {entry.name: entry.call for entry in case.entries}
    first = {name: _seconds(call) for name, call in calls.items()}
    warm = {name: _seconds(call) for name, call in calls.items()}
    running = {
        name: call
        for name, call in calls.items()
        if warm[name] < HOPELESS * warm[OURS]
    }
    kept, repeated = time_in_turn(running, rounds)
    times = {name: [times[name] for times in kept] for name in running}
    times |= {n: [s] * len(kept) for n, s in warm.items() if n not in running}
    widest = max(map(_excess, kept, [_medians(kept)] * len(kept)))
    rows = []
    for entry in case.entries:
        seconds = times[entry.name]
        low, middle, high = _quartiles(seconds)
        ratios = [a / b for a, b in zip(seconds, times[OURS], strict=True)]
        ratio_low, ratio, ratio_high = _quartiles(ratios)
        rows.append(
            Row(
                case=case.name,
                name=entry.name,
                first=first[entry.name],
                seconds=middle,
                spread=(high - low) / middle,
                ratio=ratio,
                ratio_low=ratio_low,
                ratio_high=ratio_high,
                rounds=len(kept) if entry.name in running else 1,
                repeated=repeated,
                widest=widest,
                peak=entry.peak,
                share=_share(case.entries, entry, times),
                difference=entry.difference,
            )
        )
    return rows


def time_in_turn(
    calls: dict[str, Callable[[], Any]], rounds: int
) -> tuple[list[dict[str, float]], int]:
    """Call each once per round, until there are enough quiet rounds.

    A round in which a call takes more than ``QUIET`` longer than its median
    is noisy, and another one is run instead. After twice as many rounds the
    least noisy ones are taken.

    Args:
        calls (dict[str, Callable]): What to time; each round begins with
            another one of them.
        rounds (int): How many rounds count.

    Returns:
        tuple[list[dict[str, float]], int]: The seconds of each call in the
        rounds that count, and how many others were run.
    """
    names = list(calls)
    run: list[dict[str, float]] = []
    enabled = gc.isenabled()
    gc.disable()
    try:
        while len(run) < 2 * rounds:
            start = len(run) % len(names)
            order = names[start:] + names[:start]
            run.append({name: _seconds(calls[name]) for name in order})
            gc.collect()
            usual = _medians(run)
            quiet = [r for r in run if _excess(r, usual) <= QUIET]
            if len(quiet) >= rounds:
                break
    finally:
        if enabled:
            gc.enable()
    usual = _medians(run)
    kept = sorted(run, key=lambda times: _excess(times, usual))[:rounds]
    return kept, len(run) - len(kept)


def peak_memory(call: Callable[[], Any], device: torch.device) -> int:
    """Return the most bytes that torch adds at a time during a call.

    On a CPU the events of torch's allocator are added up, so that the number
    does not depend on what the process has done before.
    """
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # it prints each start
    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu], profile_memory=True) as prof:
        call()
    results: Any = prof.profiler.kineto_results
    events = [e for e in results.events() if e.name() == '[memory]']
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _seconds(call: Callable[[], Any]) -> float:
    start = timer()  # waits for the GPU
    call()
    return timer() - start


def _medians(run: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: median(times[name] for times in run) for name in run[0]}


def _excess(times: dict[str, float], usual: dict[str, float]) -> float:
    """Return by how much the slowest call of a round exceeds its median."""
    return max(times[name] / usual[name] - 1 for name in times)


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method='inclusive')
    return low, middle, high


def _share(
    entries: Sequence[Entry], entry: Entry, times: dict[str, list[float]]
) -> float | None:
    """Return which share of the yardstick's rate an entry reaches."""
    yardstick = next((e for e in entries if e.name == YARDSTICK), None)
    if yardstick is None:
        return None
    shares = [
        (entry.work / mine) / (yardstick.work / its)
        for mine, its in zip(times[entry.name], times[YARDSTICK], strict=True)
    ]
    return median(shares)
