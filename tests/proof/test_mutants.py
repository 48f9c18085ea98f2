"""Certificates that were tampered with are refused, and not for their seal alone: every mutant here is sealed anew."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from constraints.refutation.certificate import (
    LARGEST_FILE,
    BadFile,
    Refuted,
    read_certificate,
    sealed,
    verify,
    written,
)
from constraints.refutation.encoding import digest
from solver.refutation import refutation_of
from solver.request import Request
from solver.resolution import resolve

REQUESTS = {
    "memory": Request(model="llama-3.1-70b", gpus=12, gpu="a100-40gb"),
    "heads": Request(model="qwen2.5-7b", gpus=64, gpu="h100", pin=("tp=8",)),
    "meshes": Request(model="deepseek-v3", gpus=256, gpu="h100", pin=("tp=2", "pp=16", "ep=64")),
    "batch": Request(model="llama-3.1-8b", gpus=127, gpu="h100", global_batch_size=1024),
}
Certificate = dict[str, Any]


@cache
def original(name: str) -> str:
    certificate = refutation_of(resolve(REQUESTS[name])).certificate
    assert certificate is not None
    return written(certificate)


def certificate(name: str) -> Certificate:
    return read_certificate(original(name))


def nodes(tree: Any) -> Iterator[list[Any]]:
    """Every inner node, the root first."""
    if isinstance(tree, list):
        yield tree
        for branch in tree[1:]:
            yield from nodes(branch[1])


def drop_a_branch(c: Certificate) -> None:
    c["conflicts"][0]["tree"].pop()


def drop_a_value(c: Certificate) -> None:
    branch = max((b for n in nodes(c["conflicts"][0]["tree"]) for b in n[1:]), key=lambda b: len(b[0]))
    branch[0].pop()


def duplicate_a_leaf(c: Certificate) -> None:
    tree = c["conflicts"][0]["tree"]
    tree.append(copy.deepcopy(tree[1]))


def alter_a_value(c: Certificate) -> None:
    c["conflicts"][0]["tree"][1][0][0] += 1


def split_another_decision(c: Certificate) -> None:
    tree = c["conflicts"][0]["tree"]
    tree[0] = "micro_batch_size" if tree[0] != "micro_batch_size" else "cp"


def only_the_first_rule(c: Certificate) -> None:
    """Every leaf cites the same rule."""
    conflict = c["conflicts"][0]
    for node in nodes(conflict["tree"]):
        for branch in node[1:]:
            if isinstance(branch[1], int):
                branch[1] = 0


def wrong_rule(c: Certificate) -> None:
    leaf = next(b for n in nodes(c["conflicts"][0]["tree"]) for b in n[1:] if isinstance(b[1], int))
    leaf[1] = (leaf[1] + 1) % len(c["conflicts"][0]["rules"])


def rule_out_of_range(c: Certificate) -> None:
    leaf = next(b for n in nodes(c["conflicts"][0]["tree"]) for b in n[1:] if isinstance(b[1], int))
    leaf[1] = 99


def leaf_of_everything(c: Certificate) -> None:
    c["conflicts"][0]["tree"] = 0


def miscount_leaves(c: Certificate) -> None:
    name = c["conflicts"][0]["rules"][0]
    c["conflicts"][0]["leaves"][name] += 1


def rename_a_rule(c: Certificate) -> None:
    c["conflicts"][0]["rules"][0] = "mesh.nothing"


def spare_rule(c: Certificate) -> None:
    """A rule that has nothing to do with it."""
    conflict = c["conflicts"][0]
    conflict["rules"].append("recompute.rc-full")
    conflict["leaves"]["recompute.rc-full"] = 0
    conflict["witnesses"]["recompute.rc-full"] = next(iter(conflict["witnesses"].values()))


def drop_a_witness(c: Certificate) -> None:
    c["conflicts"][0]["witnesses"].popitem()


def alter_a_witness(c: Certificate) -> None:
    next(iter(c["conflicts"][0]["witnesses"].values()))["tp"] = 12345


def swap_witnesses(c: Certificate) -> None:
    witnesses = c["conflicts"][0]["witnesses"]
    first, second, *_ = witnesses
    witnesses[first], witnesses[second] = witnesses[second], witnesses[first]


def alter_a_way_out(c: Certificate) -> None:
    c["ways_out"][0]["layout"]["dp"] += 1


def way_out_that_changes_nothing(c: Certificate) -> None:
    c["ways_out"][0]["request"] = {}


def way_out_by_dropping_a_law(c: Certificate) -> None:
    c["ways_out"][0]["request"] = {"rules": []}


def alter_the_request(c: Certificate) -> None:
    c["request"]["gpus"] *= 64


def a_feasible_request(c: Certificate) -> None:
    """The seal of the request is renewed as well."""
    c["request"]["gpus"] = 512
    c["request"]["pins"] = []
    c["request"]["global_batch_size"] = None
    c["request_digest"] = digest(c["request"])


def alter_the_catalog(c: Certificate) -> None:
    c["request"]["model"]["digest"] = "0" * 64
    c["request_digest"] = digest(c["request"])


def no_conflict(c: Certificate) -> None:
    c["conflicts"] = []


def the_same_conflict_twice(c: Certificate) -> None:
    c["conflicts"].append(copy.deepcopy(c["conflicts"][0]))


MUTATIONS: tuple[Callable[[Certificate], None], ...] = (
    drop_a_branch,
    drop_a_value,
    duplicate_a_leaf,
    alter_a_value,
    split_another_decision,
    only_the_first_rule,
    wrong_rule,
    rule_out_of_range,
    leaf_of_everything,
    miscount_leaves,
    rename_a_rule,
    spare_rule,
    drop_a_witness,
    alter_a_witness,
    swap_witnesses,
    alter_a_way_out,
    way_out_that_changes_nothing,
    way_out_by_dropping_a_law,
    alter_the_request,
    a_feasible_request,
    alter_the_catalog,
    no_conflict,
    the_same_conflict_twice,
)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_original_stands(name: str) -> None:
    done = verify(certificate(name))
    assert done.conflicts
    assert sum(done.leaves.values()) > 0


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mutant_is_refused(name: str, mutation: Callable[[Certificate], None]) -> None:
    mutant = certificate(name)
    mutation(mutant)
    with pytest.raises((Refuted, BadFile)):
        verify(read_certificate(written(sealed(mutant))))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_change_without_a_new_seal_is_refused(name: str) -> None:
    mutant = certificate(name)
    mutant["ways_out"][0]["change"] += " "
    with pytest.raises(Refuted, match="digest"):
        verify(mutant)


def test_every_number_of_a_tree_counts() -> None:
    """Each value and each rule number of a small tree, one after the other, is made another one."""
    text = json.dumps(certificate("heads")["conflicts"][0]["tree"])
    for place, character in enumerate(text):
        if not character.isdigit():
            continue
        mutant = certificate("heads")
        changed = json.loads(text[:place] + str((int(character) + 1) % 10) + text[place + 1 :].replace("[0", "[10", 0))
        mutant["conflicts"][0]["tree"] = changed
        with pytest.raises((Refuted, BadFile)):
            verify(sealed(mutant))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"schema": "meshwright-certificate/1"}',
        '{"schema": "meshwright/1", "explanation": {"certificate": null}}',
        "[" * 100_000,
        '{"a": NaN}',
        '{"a": ' + "9" * 5000 + "}",
        "x" * (LARGEST_FILE + 1),
    ],
    ids=["empty", "cut", "list", "null", "no keys", "report without", "deep", "nan", "long number", "enormous"],
)
def test_what_is_no_certificate_is_a_bad_file(text: str) -> None:
    with pytest.raises(BadFile):
        read_certificate(text)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_file_is_a_bad_file(share: float) -> None:
    text = original("memory").strip()
    with pytest.raises(BadFile):
        read_certificate(text[: int(len(text) * share)])


HOSTILE = {
    "gpus": 10**6,
    "seq_length": 10**8,
    "global_batch_size": 97_772_400,
    "budget_bytes": 1,
}


def test_a_hostile_request_is_refused() -> None:
    """Numbers that open an enormous space, with leaves that would want it listed: were it listed, this would not end."""
    for name, value in HOSTILE.items():
        mutant = certificate("memory")
        mutant["request"][name] = value
        mutant["request_digest"] = digest(mutant["request"])
        with pytest.raises((Refuted, BadFile)):
            verify(sealed(mutant))


def test_numbers_beyond_sense_are_refused() -> None:
    for name, value in (("gpus", 10**7), ("seq_length", 0), ("gpus", True), ("global_batch_size", -1), ("gpus", "12")):
        mutant = certificate("memory")
        mutant["request"][name] = value
        mutant["request_digest"] = digest(mutant["request"])
        with pytest.raises(Refuted, match=name):
            verify(sealed(mutant))
