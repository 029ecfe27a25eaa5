"""Taking turns: what counts, and what the numbers mean."""

import pytest
import torch

from mmclip.benchmark import rounds
from mmclip.benchmark.rounds import (
    OURS,
    YARDSTICK,
    Case,
    Entry,
    compete,
    peak_memory,
    time_in_turn,
)


@pytest.fixture
def work(monkeypatch):
    """Makes calls that take the given seconds, the last of them for ever."""
    now = [0.0]
    monkeypatch.setattr(rounds, 'timer', lambda: now[0])

    def make(*seconds):
        left = list(seconds)

        def call():
            now[0] += left.pop(0) if len(left) > 1 else left[0]

        return call

    return make


def test_a_noisy_round_is_repeated(work):
    calls = dict(a=work(1, 1, 1, 5, 1), b=work(2))
    kept, repeated = time_in_turn(calls, 4)
    assert kept == [dict(a=1, b=2)] * 4
    assert repeated == 1


def test_where_all_is_noise_the_least_noisy_rounds_count(work):
    calls = dict(a=work(1, 9, 1, 8), b=work(9, 1, 8, 1))
    kept, repeated = time_in_turn(calls, 2)
    assert kept == [dict(a=1, b=8), dict(a=8, b=1)]
    assert repeated == 2


def test_each_round_begins_with_another_one():
    order = []
    calls = {name: lambda n=name: order.append(n) for name in 'abc'}
    time_in_turn(calls, 3)
    assert ''.join(order).startswith('abcbcacab')


def test_ratios_and_shares(work):
    case = Case(
        'a case',
        [
            Entry(OURS, work(9, 2), work=100),
            Entry('peer', work(3), work=100),
            Entry(YARDSTICK, work(1), work=200),
        ],
    )
    ours, peer, _ = compete(case, 3)
    assert (ours.first, ours.seconds, ours.ratio) == (9, 2, 1)
    assert (peer.seconds, peer.ratio, peer.spread) == (3, 1.5, 0)
    assert (ours.share, peer.share) == pytest.approx((1 / 4, 1 / 6))


def test_who_is_far_slower_is_timed_once(work):
    slow = Entry('slow', work(50, 40, 1))
    row = compete(Case('', [Entry(OURS, work(1)), slow]), 5)[1]
    assert (row.rounds, row.first, row.seconds) == (1, 50, 40)


def test_peak_memory_is_what_stands_at_a_time():
    x = torch.zeros(1000)

    def call():
        y = x + 1
        del y
        return (x + 1, x + 2)  # freed when the call has ended

    peak = peak_memory(call, torch.device('cpu'))
    assert 8000 <= peak < 12000
