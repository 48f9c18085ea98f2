"""The schedule played through: what it comes to by hand, every micro-batch played, turns that repeat left out."""

from __future__ import annotations

import random

import pytest

from constraints.interleaving import schedule_takes
from constraints.timing.replay import MOST_STEPS, replayed
from tests.timing.by_table import played_to_the_end


def test_two_ranks_of_two_chunks_by_hand() -> None:
    """The first chunk takes 2 forward, all else 1. Rank 0 computes its second chunk from 4 to 6, the loss is at 6 and 8, rank
    0 turns back at 7 and 9, rank 1 at 9 and 10, and rank 0 ends with 10 and 11."""
    assert replayed([2, 1, 1, 1], [1, 1, 1, 1], 2, 2) == 12


@pytest.mark.parametrize("seed", range(4))
def test_it_takes_as_long_as_every_micro_batch_played(seed: int) -> None:
    draw = random.Random(seed)
    played = 0
    while played < 150:
        pp, chunks = draw.choice([1, 2, 3, 4, 6]), draw.choice([1, 2, 3, 4])
        group, microbatches = pp + draw.choice([0, 0, 1, 5]), draw.randint(1, 60)
        if chunks > 1 and (pp == 1 or not schedule_takes(pp, group, microbatches)):
            continue
        least, most = draw.choice([(60, 140), (1, 3), (1000, 1001), (5, 5)])
        forward, backward = ([draw.randint(least, most) for _ in range(pp * chunks)] for _ in range(2))
        hop = draw.choice([0, 1, 1000])
        case = (forward, backward, pp, microbatches)
        assert replayed(*case, group=group, hop=hop) == played_to_the_end(*case, group=group, hop=hop), case
        played += 1


def test_a_billion_micro_batches_take_no_longer_to_know() -> None:
    """Four ranks of two chunks, of 5 to 12: each turn of four micro-batches takes what it takes at once or later."""
    forward, backward = [3, 5, 2, 4, 3, 3, 4, 2], [6, 9, 5, 7, 5, 6, 8, 4]
    turn = replayed(forward, backward, 4, 404) - replayed(forward, backward, 4, 400)
    assert replayed(forward, backward, 4, 400) == played_to_the_end(forward, backward, 4, 400)
    assert replayed(forward, backward, 4, 10**9) == replayed(forward, backward, 4, 400) + turn * (10**9 - 400) // 4


def test_ranks_that_are_nearly_alike_are_played_in_part_and_right_within_a_thousandth() -> None:
    """They repeat themselves after thousands of turns: each is later by a few units of a million than the one before."""
    draw = random.Random(2)
    for _ in range(6):
        chunks = [1_000_000 + draw.randint(0, 10) for _ in range(8)]
        case = ([time // 3 for time in chunks], [time - time // 3 for time in chunks], 4, 1200)
        bounded = replayed(*case, most_steps=2000)
        assert bounded == pytest.approx(replayed(*case, most_steps=10**9), rel=1e-3)


def test_groups_that_are_too_large_to_play_are_left_alone() -> None:
    assert replayed([1] * 8, [2] * 8, 4, 10**6, group=10**6) is None
    assert replayed([1] * 8, [2] * 8, 4, 10**6, group=MOST_STEPS // 200) is not None
