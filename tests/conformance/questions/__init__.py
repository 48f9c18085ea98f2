"""Questions for Megatron: random models and layouts from a seed, most of them legal or wrong in exactly one place."""

from tests.conformance.questions.sampling import questions

__all__ = ["questions"]
