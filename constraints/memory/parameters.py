"""Parameters that one rank stores, as element counts.

Dense parameters (attention, norms, dense and shared feed-forward, router, embedding) and routed experts live in
separate buffers with their own data-parallel groups, so they are counted apart. Mixers are counted in
:mod:`constraints.memory.mixers`, whole models in :mod:`constraints.memory.counts`, which is held against published counts.
Source: NVIDIA/Megatron-LM@d98e8a6 ``megatron/core/transformer/mlp.py``, ``moe/{router,experts,shared_experts,moe_layer}.py``,
``multi_token_prediction.py``.
"""

from __future__ import annotations

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.memory.mixers import Sizes, hyper_connection, mixer_sizes, norm_elements
from constraints.problem import Problem
from constraints.rule import Degrees
from models_catalog.schema import LayerKind, ModelSpec

__all__ = [
    "all_experts",
    "dense_parameters",
    "embedding_parameters",
    "expert_parameters",
    "layer_sizes",
    "local_vocabulary",
    "mtp_projection",
]


@once
def local_vocabulary(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Vocabulary rows on one tensor rank, padded to a multiple of ``make_vocab_size_divisible_by * tp`` in all.

    >>> from types import SimpleNamespace as Some
    >>> from constraints.arithmetic import Integers
    >>> model = Some(vocab_size=128256, should_pad_vocab=True, make_vocab_size_divisible_by=128)
    >>> local_vocabulary(Integers(), Some(model=model), Some(tp=8))  # ceil(128256 / 1024) * 128
    16128
    """
    model = p.model
    if not model.should_pad_vocab:
        return a.ceil_div(model.vocab_size, x.tp)
    divisor = model.make_vocab_size_divisible_by
    return a.ceil_div(model.vocab_size, x.tp * divisor) * divisor


@once
def embedding_parameters(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Elements of a word embedding or an output projection: padded rows times ``hidden_size``."""
    return local_vocabulary(a, p, x) * p.model.hidden_size


@once
def dense_parameters(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Quantity:
    """Elements of one layer in the dense buffer of one rank."""
    sharded, replicated = layer_sizes(p.model, kind)
    return a.ceil_div(sharded, x.tp) + replicated


@once
def expert_parameters(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Quantity:
    """Elements of one layer's routed experts on one rank: ``experts/ep * (gate+1) * h * f / etp``."""
    if kind.feedforward != "moe":
        return 0
    return a.ceil_div(all_experts(p.model), a.mul(x.ep, x.etp))


@once
def mtp_projection(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Elements that an MTP layer adds to a decoder layer: the ``2h -> h`` projection and three norms."""
    h = p.model.hidden_size
    return a.ceil_div(2 * h * h, x.tp) + norm_elements(p.model, 3)


def all_experts(model: ModelSpec) -> int:
    """Elements of all routed experts of one layer, biases included."""
    width, bias = model.moe_latent_size or model.hidden_size, model.add_bias_linear
    each = (model.gate + 1) * width * model.expert_ffn + (model.gate * model.expert_ffn + width if bias else 0)
    return model.experts * each


def layer_sizes(model: ModelSpec, kind: LayerKind) -> Sizes:
    """One layer's dense elements: (split over tensor ranks, replicated on each)."""
    mixer, feedforward = mixer_sizes(model, kind.mixer), _FEEDFORWARDS[kind.feedforward](model)
    return mixer[0] + feedforward[0], mixer[1] + feedforward[1]


def _none(model: ModelSpec) -> Sizes:
    return 0, 0


def _before(model: ModelSpec) -> int:
    """The norms that belong to the feed-forward part, and the hyper-connection around it."""
    norms = model.norms_per_layer - (1 if model.norms_per_layer <= 2 else 2)
    return norm_elements(model, norms) + hyper_connection(model)


def _dense(model: ModelSpec) -> Sizes:
    h, f = model.hidden_size, model.ffn
    bias = model.add_bias_linear
    return (model.gate + 1) * h * f + (model.gate * f if bias else 0), _before(model) + (h if bias else 0)


def _moe(model: ModelSpec) -> Sizes:
    """The router, the shared expert and the latent projections; routed experts are counted by :func:`all_experts`."""
    h, shared = model.hidden_size, model.moe_shared_expert_intermediate_size or 0
    replicated = _before(model) + h * model.experts
    if model.moe_router_enable_expert_bias:
        replicated += model.experts
    if model.add_bias_linear:
        replicated += model.experts
    if model.moe_shared_expert_gate:
        replicated += h
    if model.moe_latent_size:
        replicated += 2 * h * model.moe_latent_size
    return (model.gate + 1) * h * shared, replicated


_FEEDFORWARDS = {"none": _none, "dense": _dense, "moe": _moe}
