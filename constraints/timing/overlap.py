"""What of the communication is exposed: the share that no computation hides, by group.

Inside a micro-batch a fitted share of each collective stays visible, and of a ring all that outlasts the attention that it
hides behind. Once per step the gradients hide behind the last micro-batch's backward pass; Megatron-FSDP gathers and
scatters in every micro-batch.
"""

from __future__ import annotations

import math
from typing import Any

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.memory.activations import shard_tokens
from constraints.problem import Problem
from constraints.rule import Degrees
from constraints.timing import collectives
from constraints.timing.communication import (
    context_collectives,
    expert_tensor_gather,
    quantized_gather,
    tensor_calls,
    tensor_collective,
)
from constraints.timing.compute import attention_ns, coefficient, ring_ns, scale
from constraints.timing.rates import rates_of, whole
from constraints.timing.ring import is_ring
from constraints.topology import fewest_together
from models_catalog.schema import LayerKind, ModelSpec

__all__ = [
    "dispatch_ps",
    "exposed_context_ns",
    "exposed_experts_ns",
    "exposed_gathers_ns",
    "exposed_layer_ns",
    "exposed_tensor_ns",
]

PERMILLE = 1000


def _share(a: Arithmetic, time: Quantity, share: Any) -> Quantity:
    if isinstance(time, int) and time == 0:
        return 0
    return a.ceil_div(time * whole(PERMILLE * share), PERMILLE)


def exposed_layer_ns(
    a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Any = None
) -> dict[str, Quantity]:
    """Exposed nanoseconds of one layer and micro-batch, forward and backward, by group.

    ``recompute``, here and below, stands in the place of what is decided.
    """
    out = {"tp": exposed_tensor_ns(a, p, x, kind, recompute)}
    if kind.mixer != "none":
        out["cp"] = exposed_context_ns(a, p, x, recompute)
    if kind.feedforward == "moe":
        out["ep"] = exposed_experts_ns(a, p, x, recompute)
    return out


@once
def exposed_tensor_ns(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Any = None) -> Quantity:
    """Gathers and scatters around the blocks of one layer."""
    calls, quantized = tensor_calls(a, p, x, kind, recompute)
    shown = _share(a, quantized_gather(a, p, x), rates_of(p).exposed_tp)
    return a.mul(exposed_gathers_ns(a, p, x, 1), calls) + a.mul(shown, quantized)


@once
def exposed_context_ns(a: Arithmetic, p: Problem, x: Degrees, recompute: Any = None) -> Quantity:
    """Context parallelism of one layer; of a ring at least what outlasts the attention."""
    raw = context_collectives(a, p, x, recompute)
    shown = _share(a, raw, rates_of(p).exposed_cp)
    return a.maximum(shown, raw - attention_ns(a, p, x) - ring_ns(a, p, x, recompute)) if is_ring(p) else shown


def exposed_gathers_ns(a: Arithmetic, p: Problem, x: Degrees, calls: int) -> Quantity:
    """``calls`` gathers of the residual stream."""
    return _share(a, tensor_collective(a, p, x) * calls, rates_of(p).exposed_tp)


@once
def exposed_experts_ns(a: Arithmetic, p: Problem, x: Degrees, recompute: Any = None) -> Quantity:
    """Dispatch and combine, forward and backward; again where experts are recomputed."""
    calls = a.choose(recompute or x.recompute, lambda o: 6 if o.is_uniform or o.drops("moe") else 4)
    per_token = a.lookup(_dispatch, p, x.etp, x.ep)
    once_ = a.ceil_div(a.mul(shard_tokens(a, p, x), per_token), scale(p)) + a.lookup(_dispatch_latency, p, x.etp, x.ep)
    return a.mul(once_ + expert_tensor_gather(a, p, x), calls)


# -- tables


def distinct(members: int, choices: int) -> float:
    """How many of ``members`` a token meets that is sent to ``choices`` experts, spread evenly over them.

    >>> round(distinct(64, 8), 4), round(distinct(2, 8), 4)
    (7.5759, 1.9922)
    """
    return float(members * (1 - (1 - 1 / members) ** choices))


def domains_met(domains: int, model: ModelSpec) -> float:
    """How many of ``domains`` a token meets, its experts spread evenly; where the router first chooses groups of experts,
    over the domains that hold the chosen ones (``megatron/core/transformer/moe/moe_utils.py::group_limited_topk``).

    A domain that holds ``n`` of the groups holds ``j`` of the chosen ones with hypergeometric odds, and is then missed by
    every choice with ``(1 - j / chosen)`` to the power of the choices.

    >>> from models_catalog.loader import load_model
    >>> [round(domains_met(domains, load_model("deepseek-v3")), 2) for domains in (1, 2, 4, 8)]
    [1.0, 1.92, 2.91, 3.6]
    """
    groups, chosen, choices = model.moe_router_num_groups, model.moe_router_group_topk, model.moe_router_topk
    if not groups or not chosen:
        return distinct(domains, choices)
    if groups % domains:
        return distinct(max(1, domains * chosen // groups), choices)
    held = groups // domains
    ways = math.comb(groups, chosen)
    missed = sum(
        math.comb(held, j) * math.comb(groups - held, chosen - j) * (1 - j / chosen) ** choices
        for j in range(min(held, chosen) + 1)
    )
    return domains * (1 - missed / ways)


def dispatch_ps(p: Problem, etp: int, ep: int) -> tuple[Any, Any]:
    """Picoseconds per token of one dispatch or combine before overlap: (inside the domain, over the network).

    DeepEP and HybridEP send a token once to each distinct rank, and over the network once to each distinct node; a plain
    all-to-all sends every routed copy.
    """
    model, together = p.model, fewest_together(etp, ep, p.gpus, p.nvlink_domain)
    topk, bytes_ = model.moe_router_topk, 2 * (model.moe_latent_size or model.hidden_size)
    domains = -(-ep // together)
    if p.settings.moe_token_dispatcher_type == "flex":
        near = distinct(ep, topk) * (ep - 1) / ep
        far = domains_met(domains, model) * (domains - 1) / domains
    else:
        near, far = topk * (together - 1) / ep, topk * (ep - together) / ep
    network = p.gpu.network_bytes_per_second * p.gpu.network_efficiency
    return near * bytes_ * 10**12 / p.gpu.nvlink_bytes_per_second, far * bytes_ * 10**12 / network


def _dispatch(p: Problem, etp: int, ep: int) -> Any:
    """Exposed, per token: whichever way is slower."""
    if ep == 1:
        return 0
    r = rates_of(p)
    near, far = dispatch_ps(p, etp, ep)
    near, far = near * r.exposed_ep, far * r.exposed_ep_network
    return coefficient(p, (near + far + abs(near - far)) / 2)


def _dispatch_latency(p: Problem, etp: int, ep: int) -> Any:
    return whole(collectives.expert_latency(p, etp, ep) * rates_of(p).exposed_ep)
