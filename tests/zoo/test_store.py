"""The folder of results: everything whole or not there, whatever was interrupted, and never in somebody else's folder."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from constraints.errors import RequestError
from solver.zoo.durable import publish_file, publish_folder
from solver.zoo.manifest import Manifest
from solver.zoo.store import Store

FILES = {"a.txt": b"a", "b.txt": b"b" * 100_000}


def opened(path: Path, *, resume: bool = True, maker: str = "me") -> Store:
    return Store(str(path), resume=resume, maker=maker)


def entry(job: str, digest: str = "d") -> dict[str, str]:
    return {"job": job, "status": "optimal", "digest": digest}


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes no more."""

    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)


def test_a_job_is_a_folder_and_a_line(tmp_path: Path) -> None:
    store = opened(tmp_path / "new" / "zoo")
    store.keep(FILES, entry("one"))
    store.close()
    root = tmp_path / "new" / "zoo"
    assert {path.name: path.read_bytes() for path in (root / "one").iterdir()} == FILES
    (line,) = (root / "manifest.jsonl").read_text().splitlines()
    assert json.loads(line) | {"finished": ""} == entry("one") | {"by": "me", "finished": ""}
    assert sorted(path.name for path in root.iterdir()) == ["manifest.jsonl", "one", "run.log"]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "manifest.jsonl"
    manifest = Manifest(path)
    for job in ("one", "two"):
        manifest.append(entry(job))
    manifest.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    again = Manifest(path)
    assert list(again) == (["one"] if cut < 60 else [])
    again.append(entry("two"))
    assert again.entry("two") == entry("two")
    again.close()
    assert path.read_bytes() == (whole if cut < 60 else whole[len(whole) // 2 :])


def test_lines_that_are_none_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(b'\x00\xff\n[]\n{"job": 3}\n' + json.dumps(entry("one")).encode() + b"\n")
    manifest = Manifest(path)
    assert list(manifest) == ["one"]
    manifest.put_in_order(["two", "one"])
    manifest.close()
    assert path.read_text() == json.dumps(entry("one")) + "\n"


def test_what_was_cut_off_before_its_line_goes(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.keep(FILES, entry("one"))
    store.close()
    publish_folder(tmp_path, "two", FILES)
    (tmp_path / ".tmp-three").mkdir()
    (tmp_path / ".tmp-three" / "a.txt").write_text("half")
    (tmp_path / ".tmp-summary.csv").write_text("half")
    (tmp_path / "notes").mkdir()
    again = opened(tmp_path)
    again.check(lambda job: "d" if job in ("one", "two", "three") else None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.jsonl", "notes", "one", "run.log"]
    again.close()


def test_a_finished_job_whose_folder_is_gone_is_not_finished(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.keep({}, entry("one"))
    (tmp_path / "one").rmdir()
    store.check(lambda job: "d")
    assert "one" not in store.manifest
    store.close()


def test_a_folder_that_is_not_empty_needs_resume(tmp_path: Path) -> None:
    opened(tmp_path, resume=False).close()
    with pytest.raises(RequestError, match="is not empty: --resume goes on"):
        opened(tmp_path, resume=False)


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".tmp-mine").write_text("precious")
    with pytest.raises(RequestError, match="it is not the folder of a zoo"):
        opened(tmp_path)
    assert (tmp_path / ".tmp-mine").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [".tmp-mine"]


def test_a_folder_at_work_is_refused(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(RequestError, match="is at work for another run"):
        opened(tmp_path)
    store.close()
    opened(tmp_path).close()


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "zoo").write_text("")
    with pytest.raises(RequestError, match="cannot be used"):
        opened(tmp_path / "zoo")
    with pytest.raises(RequestError, match="cannot be used"):
        opened(tmp_path / "nul\0")


@pytest.mark.parametrize(
    ("digest", "maker", "message"),
    [
        (None, "me", "holds 'one', which is of another zoo file"),
        ("other", "me", "holds 'one', which was asked differently then"),
        ("d", "you", "was made by me; this is you"),
    ],
)
def test_results_of_another_zoo_are_not_mixed_in(tmp_path: Path, digest: str | None, maker: str, message: str) -> None:
    store = opened(tmp_path)
    store.keep(FILES, entry("one"))
    store.close()
    again = opened(tmp_path, maker=maker)
    with pytest.raises(RequestError, match=message):
        again.check(lambda job: digest)
    again.close()
    assert (tmp_path / "one" / "a.txt").read_bytes() == b"a"


def test_a_full_disk_leaves_no_half_of_anything(tmp_path: Path, full: None) -> None:
    with pytest.raises(OSError, match="No space left"):
        publish_folder(tmp_path, "one", FILES)
    with pytest.raises(OSError, match="No space left"):
        publish_file(tmp_path / "two", [b"2"])
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_cannot_grow_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    manifest.append(entry("one"))
    before = manifest.path.read_bytes()
    write = os.write

    def half(handle: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            manifest.append(entry("two"))
    assert manifest.path.read_bytes() == before
    manifest.append(entry("two"))
    assert list(manifest) == ["one", "two"]
    manifest.close()
