"""Pipelines: the layout language, the assignment of layers to chunks, where ``solve`` puts them, what is in flight."""
