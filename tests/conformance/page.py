"""``docs/conformance.md``, made from the recordings: ``python -m tests.conformance.page`` writes it anew."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from constraints.registry import RULES, rules_of
from constraints.rule import Stratum
from tests.conformance.additions import ADDITIONS, NOT_DRIVEN
from tests.conformance.placement_file import placement_files, shape_count
from tests.conformance.replay import Compared, compared, generation_of
from tests.conformance.verdict_file import FOLDER, read_verdicts, recordings

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
ROOMS = ("megatron_core", "megatron_bridge", "transformer_engine", "torch", "python", "date", "seed")

INTRODUCTION = """# Conformance with the real Megatron

Made by `python -m tests.conformance.page` from the recordings in `tests/conformance/verdicts`; do not edit.

Each question is a model and a layout. The real Megatron Bridge configuration is made of it and taken as far as a launched
job would go before it computes: validation, process groups at the real world size, the split of layers, the model itself
with Transformer Engine's modules (without storage), the batch, the schedule, the router and the entry of attention. Only
compiled code is replaced. The first thing that raises is the verdict; `meshwright check` is held to the same verdict.

Questions are put to the configuration itself. What Bridge's training script sets before that, since 0.19 the loss by token of
fine-tuning over context parallelism, is said as the configuration has it: false unless the question says otherwise.
"""


def page() -> str:
    """The whole page."""
    found = []
    for path in recordings():
        head, recorded = read_verdicts(path)
        generation = generation_of(head)
        found.append((head, generation, list(compared(recorded, generation))))
    parts = [
        INTRODUCTION,
        _recordings(found),
        _families(found),
        _answers(),
        _placement(),
        _versions(),
        _additions(found),
    ]
    return "\n".join(parts)


Found = list[tuple[dict[str, Any], str, list[Compared]]]


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def _recordings(found: Found) -> str:
    rows = []
    for head, _, questions in found:
        accepted = sum(c.recorded.accepted for c in questions)
        stricter = sum(c.addition is not None for c in questions)
        wrong = sum(not c.agree and c.addition is None for c in questions)
        counts = [len(questions), accepted, len(questions) - accepted, stricter, wrong]
        rows.append([*(head[name] for name in ROOMS), *counts])
    names = ["Core", "Bridge", "Transformer Engine", "torch", "Python", "date", "seed"]
    commits = "".join(
        f"\n{head['megatron_core']}: {', '.join(head['commits'])}.\n" for head, _, _ in found if "commits" in head
    )
    return (
        "## Recordings\n\n"
        + _table([*names, "questions", "accepted", "refused", "stricter on purpose", "disagreements"], rows)
        + commits
    )


def _families(found: Found) -> str:
    rows = []
    for family in dict.fromkeys(rule.id.split(".")[0] for rule in RULES if _binding(rule)):
        row: list[Any] = [family]
        for _, generation, questions in found:
            mine = {rule.id for rule in rules_of(generation) if _binding(rule) and rule.id.startswith(family + ".")}
            broken = [c for c in questions if mine & set(c.broken)]
            alone = [c for c in questions if len(c.broken) == 1 and c.broken[0] in mine and not c.recorded.accepted]
            agreed = sum(not c.recorded.accepted or c.addition is not None for c in broken)
            row.append(f"{agreed} of {len(broken)} ({len(alone)} alone)")
        rows.append(row)
    head = ["family", *(generation for _, generation, _ in found)]
    text = "\n## Agreement by family\n\nQuestions in which a rule of the family is broken and Megatron refuses too"
    return text + " (or a named addition stands), and in how many it is the only one.\n\n" + _table(head, rows)


def _binding(rule: Any) -> bool:
    return rule.stratum in (Stratum.LAW, Stratum.FRAMEWORK)


def _answers() -> str:
    rows = []
    for path in sorted(FOLDER.glob("answers_*.jsonl.gz")):
        head, recorded = read_verdicts(path)
        models, counts = {each.line["model"] for each in recorded}, {each.line["gpus"] for each in recorded}
        accepted = sum(each.accepted for each in recorded)
        rows.append([head["megatron_core"], head["date"], len(recorded), accepted, len(models), len(counts)])
    text = "\n## Answers of `solve`\n\nEmitted as Bridge overrides and read by Bridge's own parser.\n\n"
    return text + _table(["Core", "date", "answers", "accepted", "models", "GPU counts"], rows)


def _placement() -> str:
    rows = [[path.name.split("_")[1].removeprefix("mcore-"), shape_count(path)] for path in placement_files()]
    text = "\n## Rank placement\n\nMeshes whose groups, of every rank, are those that link costs assume.\n\n"
    return text + _table(["Core", "meshes"], rows)


def _versions() -> str:
    rows = [[rule.id, rule.since or "", rule.until or "", rule.statement] for rule in RULES if rule.since or rule.until]
    text = "\n## Rules that do not hold for every generation\n\n`--megatron` chooses one. Defaults differ too: before 0.19 "
    text += "an unset `etp` is `tp`, and sequence parallelism with tp = 1 raises instead of being dropped.\n\n"
    return text + _table(["rule", "since", "before", "law"], rows)


def _additions(found: Found) -> str:
    counts = Counter(c.addition for _, _, questions in found for c in questions if c.addition)
    rows = [[f"`{rule}`", counts[rule], reason] for rule, reason in ADDITIONS.items()]
    text = "\n## Where meshwright is stricter, and why\n\n" + _table(["rule", "questions", "reason"], rows)
    text += "\n## What the recordings hold alone seldom or never\n\n"
    return text + _table(["rule", "why"], [[f"`{rule}`", reason] for rule, reason in NOT_DRIVEN.items()])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
