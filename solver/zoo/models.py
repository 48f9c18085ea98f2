"""Which models a zoo means: names and globs of the catalog, paths of files and folders, or all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from constraints.errors import RequestError
from constraints.problem import Origin
from models_catalog import loader
from models_catalog.errors import UnknownName
from models_catalog.names import resolve, spelling
from models_catalog.schema import ModelSpec

__all__ = ["chosen_models"]

MOST_FILES = 10_000
WILD = frozenset("*?[")


def chosen_models(words: Iterable[tuple[str, Origin]], folder: Path) -> tuple[ModelSpec, ...]:
    """The models that the words mean, each once, in the order of the words; of a glob in order of the names.

    A word that begins with a dot, a slash or ``~``, or ends like a file, is a path below ``folder``; others are of the
    catalog. Raises :class:`~constraints.errors.RequestError` for a word that means none.
    """
    catalog = _Catalog()
    found: dict[ModelSpec, None] = {}
    for word, origin in words:
        for model in _files(word, origin, folder) if _is_path(word, folder) else catalog.meant(word, origin):
            found.setdefault(model)
    return tuple(found)


class _Catalog:
    """The catalog's models; all at once from its index where a word means several."""

    def __init__(self) -> None:
        self.all: dict[str, ModelSpec] | None = None

    def meant(self, word: str, origin: Origin) -> list[ModelSpec]:
        if word == "all" or WILD & set(word):
            self.all = self.all or {model.name: model for model in loader.all_models()}
            pattern = "*" if word == "all" else word.lower()
            models = [model for name, model in self.all.items() if fnmatchcase(name, pattern)]
            if not models:
                raise RequestError(
                    "models", word, origin, "matches no model of the catalog: `meshwright catalog models`"
                )
            return models
        name = resolve("model", word)
        if name is not None and self.all is not None:
            return [self.all[name]]
        try:
            return [loader.load_model(name or word)]
        except UnknownName as error:
            hint = f"; did you mean {' or '.join(error.suggestions)}?" if error.suggestions else ":"
            message = f"is not in the catalog{hint} `meshwright catalog models` lists them"
            raise RequestError("models", word, origin, message) from None


def _is_path(word: str, folder: Path) -> bool:
    if word.startswith((".", "/", "~")) or word.endswith((".json", ".yaml", ".yml")):
        return True
    return bool(spelling(word)) and not WILD & set(word) and resolve("model", word) is None and (folder / word).is_dir()


def _files(word: str, origin: Origin, folder: Path) -> Iterator[ModelSpec]:
    path = Path(word).expanduser()
    path = path if path.is_absolute() else folder / path
    if not WILD & set(word):
        yield loader.read_model(str(path))
        return
    if "**" in word:
        raise RequestError("models", word, origin, "has **: name the folders, as in ./models/*/config.json")
    fixed = next(i for i, part in enumerate(path.parts) if WILD & set(part))
    matches = []
    for match in Path(*path.parts[:fixed]).glob(str(Path(*path.parts[fixed:]))):
        matches.append(match)
        if len(matches) > MOST_FILES:
            raise RequestError("models", word, origin, f"matches more than {MOST_FILES} files")
    if not matches:
        raise RequestError("models", word, origin, "matches no file")
    for match in sorted(matches):
        yield loader.read_model(str(match))
