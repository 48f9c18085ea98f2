"""What attention costs more in a ring than on the whole sequence: smaller kernels, and partial results put together.

A rank of ``c`` holds ``s/c`` tokens, two chunks of ``2c``, so that causal ranks have as much to do as each other. Each of
``c`` steps meets the keys of one rank: its own under the causal mask, all its queries with the first half of an earlier
rank's keys, or the second half of its queries with all keys of a later one. Such a part takes ``1 + ring_part / (s/c)``
times what its FLOP take at the full rate, attention as a whole ``1 + short_sequence / s`` times. Then outputs are scaled and
added, and gradients of queries, keys and values added: six bytes an element.

Source: NVIDIA/TransformerEngine@d0067d0 ``pytorch/attention/dot_product_attention/context_parallel.py``
(``AttnFuncWithCPAndKVP2P``); both terms are held against measurements on an H100 (``tests/timing/test_ring.py``). An
all-to-all attends to the whole sequence, with fewer heads.
"""

from __future__ import annotations

from typing import Any

from constraints.problem import Problem
from constraints.timing.rates import rates_of
from constraints.timing.work import Work, core_attention

__all__ = ["is_ring", "ring_work"]

MERGED_BYTES = 6
"""An element of a partial result is read, the sum read and written, in bf16."""
MERGED_SHARE = 3 / 4
"""Of the rows, in the mean: half of the steps meet all of them, half one half."""


def is_ring(p: Problem) -> bool:
    """True where context parallelism passes keys and values around."""
    return p.settings.cp_comm_type in (None, "p2p")


def ring_work(p: Problem, tp: int, cp: int) -> Work:
    """Picoseconds per token of the rank beyond those of the whole sequence's attention."""
    if cp == 1:
        return Work()
    r, whole = rates_of(p), core_attention(rates_of(p), p, tp)
    part, short = r.ring_slowness
    slower = (1 + part * cp / p.seq_length) / short - 1
    each = MERGED_BYTES * MERGED_SHARE * cp * r.hbm_ps
    out, gradients = _widths(p, tp)
    return Work(whole.forward * slower + out * each, whole.backward * slower + gradients * each)


def _widths(p: Problem, tp: int) -> tuple[Any, Any]:
    """Elements per token of the output, and of the gradients of queries, keys and values."""
    model = p.model
    if model.multi_latent_attention:
        query, value = (model.qk_head_dim or 0) + (model.qk_pos_emb_head_dim or 0), model.v_head_dim or 0
        heads = model.num_attention_heads / tp
        return heads * value, heads * (2 * query + value)
    width = model.num_attention_heads * model.head_dim / tp
    return width, width + 2 * max(model.query_groups * model.head_dim / tp, model.head_dim)
