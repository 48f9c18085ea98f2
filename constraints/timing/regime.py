"""The kinds of prediction that are told apart when errors are reported: model kind, and for MoE the topology."""

from __future__ import annotations

from constraints.problem import Problem

__all__ = ["REGIMES", "regime_of"]

REGIMES = ("dense", "moe-one-domain", "moe-several-nodes", "hybrid")

SMALL_DOMAIN = 8


def regime_of(p: Problem) -> str:
    """``hybrid`` with state-space or delta-net layers; a MoE job over several small NVLink domains is apart from the rest."""
    if any(kind.mixer in ("mamba", "gdn") for kind in p.model.layer_kinds):
        return "hybrid"
    if not p.model.is_moe:
        return "dense"
    return "moe-several-nodes" if p.gpus > p.nvlink_domain and p.nvlink_domain <= SMALL_DOMAIN else "moe-one-domain"
