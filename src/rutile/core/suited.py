"""Defaults that follow from what is given: what `Settings.suited` adds, told apart from what was given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from rutile.core.describe import full_annotation, groups
from rutile.core.errors import SettingsError
from rutile.core.settings import Settings

Tree = dict[str, Any]
Path = tuple[str, ...]
MOST = 200
"""Settings that are given, of which is said what would hold without them."""


def suited_defaults(cls: type[Settings], given: Tree) -> Tree:
    """What holds for settings that are not given, where it follows from those that are.

    Of settings that are given: what would hold without them. Groups are dicts, as in `given`; settings whose defaults
    depend on nothing are left out.

    Args:
        cls: class of the settings.
        given: some of them, right or wrong.
    """
    out = _added(_suited(cls, given), given)
    for path in list(_paths(given))[:MOST]:
        found, value = _at(_suited(cls, _without(given, path)), path)
        if found:
            _put(out, path, value)
    return out


def _suited(cls: type[BaseModel], given: Tree) -> Tree:
    """What is given with what suits it, also within groups; as it is where it is wrong."""
    try:
        tree: Any = cls.suited(given) if issubclass(cls, Settings) else given
    except SettingsError:
        return given
    out = dict(tree)
    for name, value in out.items():
        if isinstance(value, dict) and name in cls.model_fields:
            variants = groups(full_annotation(cls.model_fields[name]))
            model = variants.get(str(value.get("name", ""))) or (variants.get("") if len(variants) == 1 else None)
            out[name] = _suited(model, value) if model else value
    return out


def _added(suited: Mapping[str, Any], given: Mapping[str, Any]) -> Tree:
    """What is in one tree and not in the other."""
    out = {}
    for name, value in suited.items():
        old = given.get(name)
        if name not in given:
            out[name] = value
        elif isinstance(value, dict) and isinstance(old, dict) and (more := _added(value, old)):
            out[name] = more
    return out


def _paths(tree: Tree, before: Path = ()) -> Iterator[Path]:
    """Ways to everything that is no group."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _paths(value, (*before, name))
        else:
            yield (*before, name)


def _at(tree: Any, path: Path) -> tuple[bool, Any]:
    """Whether there is something, and what."""
    for name in path:
        if not isinstance(tree, dict) or name not in tree:
            return False, None
        tree = tree[name]
    return True, tree


def _without(tree: Tree, path: Path) -> Tree:
    """The same but for one setting; a group that it leaves empty goes, too."""
    name, *rest = path
    inner = _without(tree[name], tuple(rest)) if rest else {}
    return {key: inner if key == name else value for key, value in tree.items() if key != name or inner}


def _put(tree: Tree, path: Path, value: Any) -> None:
    *groups_before, last = path
    for name in groups_before:
        inner = tree.setdefault(name, {})
        tree = inner if isinstance(inner, dict) else {}
    tree[last] = value
