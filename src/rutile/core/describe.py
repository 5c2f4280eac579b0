"""What a class of settings or results says about itself: type, unit, bounds, default and meaning of every key.

Help text, reference pages and error messages are made from these descriptions; none is written by hand.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as at
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rutile.core.units import Unit

LISTS = (list, tuple, set, frozenset)
_SCALARS = {int: "integer", float: "number", str: "text", bool: "true or false", Path: "path", type(None): "null"}


@dataclass(frozen=True)
class Entry:
    """One setting, as shown to a user."""

    key: str
    """Dotted key, for example "potential.cutoff"."""
    kind: str
    """Type in words, with bounds: "number > 0"."""
    unit: str | None
    """Symbol of its unit."""
    default: str | None
    """Default as written in YAML; None: it must be given."""
    meaning: str
    """Docstring of the field."""
    groups: dict[str, type[BaseModel]]
    """Nested settings classes: {"": class} for a plain group, {tag: class} for a tagged union."""
    value: Any = None
    """Default as a value; the defaults inside a nested group are those of this value."""

    def inside(self, group: type[BaseModel]) -> list[Entry]:
        """Settings of one of the nested classes, with the defaults that hold here."""
        return entries(group, self.key + ".", self.value if type(self.value) is group else None)


def entries(model: type[BaseModel], prefix: str = "", usual: BaseModel | None = None) -> list[Entry]:
    """Describe the fields of one settings class; nested classes are named in `groups`, not expanded.

    Args:
        model: the class.
        prefix: begins every key, for example "loss.".
        usual: an instance whose values stand as defaults instead of those of the class.
    """
    set_here = usual.model_fields_set if usual is not None else set()
    return [
        describe(prefix + name, field, *([getattr(usual, name)] if name in set_here else []))
        for name, field in model.model_fields.items()
    ]


def describe(key: str, field: FieldInfo, *usual: Any) -> Entry:
    """Describe one field; `usual` is its default where it is not that of the class."""
    annotation = full_annotation(field)
    required = field.is_required() and not usual
    value = None if required else usual[0] if usual else field.get_default(call_default_factory=True, validated_data={})
    tag = get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    meaning = (field.description or "").strip() or ("Chooses this variant." if tag else "")
    default = None if required else default_text(value)
    return Entry(key, kind(annotation), unit(annotation), default, meaning, groups(annotation), value)


def every_entry(model: type[BaseModel]) -> Iterator[Entry]:
    """All settings of a class, nested groups and all variants of tagged unions included, depth first."""
    yield from _depth_first(entries(model))


def _depth_first(fields: list[Entry]) -> Iterator[Entry]:
    for entry in fields:
        yield entry
        for nested in entry.groups.values():
            yield from _depth_first(entry.inside(nested))


def full_annotation(field: FieldInfo) -> Any:
    """The type of a field together with the bounds and unit that pydantic moved out of it."""
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def unit(annotation: Any) -> str | None:
    """Symbol of the unit found anywhere in a type: `Angstrom | None` has "Å"."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        return next((m.symbol for m in marks if isinstance(m, Unit)), None) or unit(inner)
    if get_origin(annotation) is Literal:
        return None
    return next((u for u in map(unit, get_args(annotation)) if u), None)


def units_of(model: type[BaseModel]) -> dict[str, str]:
    """Symbols of the units of those fields of a class that have one: column of a table -> unit."""
    found = ((name, unit(full_annotation(field))) for name, field in model.model_fields.items())
    return {name: symbol for name, symbol in found if symbol}


def kind(annotation: Any) -> str:
    """A type in the words of a user: "integer >= 1", "list of paths", "one of a, b"."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated_kind(args[0], args[1:])
    if origin is Literal:
        return str(args[0]) if len(args) == 1 else "one of " + ", ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(kind, args)))
    if args:
        return _collection_kind(origin, args)
    if is_model(annotation):
        return "group"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "one of " + ", ".join(str(m.value) for m in annotation)
    return _SCALARS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _annotated_kind(inner: Any, marks: tuple[Any, ...]) -> str:
    """Type and bounds; the bounds of a union are said of its first member."""
    if get_origin(inner) in (Union, types.UnionType):
        first, *rest = get_args(inner)
        return " or ".join(dict.fromkeys([_annotated_kind(first, marks), *map(kind, rest)]))
    return " ".join(filter(None, [kind(inner), bounds(marks)]))


def _collection_kind(origin: Any, args: tuple[Any, ...]) -> str:
    """Lists, tuples and mappings."""
    if issubclass(origin, Mapping):
        return f"mapping of {kind(args[0])} to {kind(args[1])}"
    if origin is tuple and Ellipsis not in args:
        return "list (" + ", ".join(map(kind, args)) + ")"
    return f"list of {kind(args[0])}" + (
        "s" if strip(args[0]) in (int, float, Path) and kind(args[0]).isalpha() else ""
    )


def bounds(marks: tuple[Any, ...]) -> str:
    """Bounds of an annotated type: "> 0, <= 1"."""
    words = []
    for mark in marks:
        parts: list[Any] = mark.metadata if isinstance(mark, FieldInfo) else [mark]
        parts = [p for part in parts for p in (part if isinstance(part, at.GroupedMetadata) else [part])]
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            words += [f"{sign} {getattr(p, name)}" for p in parts if getattr(p, name, None) is not None]
        for name, text in (("min_length", "(at least {})"), ("max_length", "(at most {})")):
            words += [text.format(getattr(p, name)) for p in parts if getattr(p, name, None)]
        words += [f"like {p.pattern}" for p in parts if isinstance(getattr(p, "pattern", None), str)]
    return ", ".join(words)


def default_text(value: Any) -> str:
    """A default as a user would write it; of a group, the name of its variant."""
    if isinstance(value, BaseModel):
        return tag_of(type(value)) or ""
    return yaml_text(value)


def yaml_text(value: Any) -> str:
    """A value as YAML on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, BaseModel):
        return yaml_text(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {yaml_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, LISTS):
        return "[" + ", ".join(map(yaml_text, value)) + "]"
    if isinstance(value, Enum):
        return str(value.value)
    return '""' if value == "" else str(value)


def groups(annotation: Any) -> dict[str, type[BaseModel]]:
    """Settings classes inside a type: {"": class} for a plain group, {tag: class} for variants."""
    annotation = strip(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in LISTS or origin in (dict, Mapping):
        return groups(args[-1] if args[-1:] != (Ellipsis,) else args[0]) if args else {}
    models = [m for m in _members(annotation) if is_model(m)]
    if len(models) == 1 and not tag_of(models[0]):
        return {"": models[0]}
    return {tag_of(m) or m.__name__: m for m in models}


def _members(annotation: Any) -> list[Any]:
    """Types of a union, also of unions within it; of anything else itself."""
    bare = strip(annotation)
    if get_origin(bare) in (Union, types.UnionType):
        return [member for one in get_args(bare) for member in _members(one)]
    return [bare]


def strip(annotation: Any) -> Any:
    """The bare type below `Annotated`."""
    return strip(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation


def is_model(annotation: Any) -> bool:
    """Whether a type is a settings class."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def tag_field(model: type[BaseModel]) -> str | None:
    """Name of the field that tells variants of a tagged union apart: the first one with one `Literal` value."""
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1:
            return name
    return None


def tag_of(model: type[BaseModel]) -> str | None:
    """Value of that field: the name of the variant."""
    name = tag_field(model)
    return str(get_args(model.model_fields[name].annotation)[0]) if name else None
