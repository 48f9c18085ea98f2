"""The zoos that ship are good ones, and what ``docs/zoo.md`` says of their keys is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from models_catalog.loader import model_names
from solver.zoo.file import AXES, SHARED, read_zoo
from solver.zoo.jobs import Jobs
from tests.zoo.test_file import zoo_of

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = sorted((ROOT / "examples" / "zoo").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_has_jobs_and_says_what_it_is(path: Path) -> None:
    jobs = Jobs(read_zoo(str(path)))
    names = [job.name for job in jobs]
    assert len(names) == len(set(names)) == len(jobs) > 1
    assert path.read_text().startswith("# ")


def test_one_example_is_the_whole_catalog() -> None:
    zoo = read_zoo(str(ROOT / "examples" / "zoo" / "catalog.yaml"))
    assert [model.name for model in zoo.models] == model_names()


def test_the_page_tells_of_every_axis_and_of_keys_that_exist() -> None:
    page = (ROOT / "docs" / "zoo.md").read_text()
    table = page[page.index("| key | holds |") : page.index("There is a job for every combination")]
    first = set(re.findall(r"^\| ((?:`\w+`(?:, )?)+)", table, re.MULTILINE))
    named = {name for cell in first for name in re.findall(r"`(\w+)`", cell)}
    assert named == {*AXES, "time_limit"}
    others = set(re.findall(r"`(\w+)`", table[table.index("any other key") :]))
    assert others <= set(SHARED)


def test_the_example_of_the_page_is_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "zoo.md").read_text()
    text = page.split("```yaml\n")[1].split("```")[0].replace(", ./my-model/config.json", "")
    assert len(Jobs(zoo_of(tmp_path, text))) > 50
