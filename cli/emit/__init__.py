"""Layouts in the words of the programs that run them. Each module has ``emit(problem, layout) -> str``."""
