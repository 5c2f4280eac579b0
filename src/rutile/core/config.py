"""From a YAML file and dotted `key=value` words to a settings class, with one clear line for each problem.

    settings = load(TrainSettings, files=[Path("job.yaml")], pairs=["potential.cutoff=5", "epochs=20"])

Later words override earlier ones, words override files. A word's value is YAML: `split=[0.8, 0.2]`,
`on_bad=skip`, `stress=null`. A variant of a tagged union may be named by itself: `optimizer=lbfgs` is
`optimizer.name=lbfgs`; keys of a group that is not named belong to its default variant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from rutile.core.describe import (
    LISTS,
    describe,
    entries,
    every_entry,
    full_annotation,
    groups,
    is_model,
    strip,
    tag_field,
    tag_of,
    yaml_text,
)
from rutile.core.errors import FileError, SettingsError
from rutile.core.settings import Settings

S = TypeVar("S", bound=BaseModel)
Tree = dict[str, Any]
Origins = dict[str, str]
PAIR = re.compile(r"([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
"""What counts as a `key=value` word."""
MISSING = ": missing, please give it: "
"""Stands between a setting that has no default and was not given, and what it has to be."""
LARGEST = 10**9
"""Of integers that are settings, where they have no bound of their own; seeds may have 63 bits."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `1e-3` is a number, `no` and `2026-01-01` are text. No aliases: they can blow up."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As the parent class, but an alias is an error."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) cannot be used", problem_mark=mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN)", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(str(node.value)))


def load(cls: type[S], files: Sequence[Path] = (), pairs: Sequence[str] = ()) -> S:
    """Settings from YAML (or JSON) files and `key=value` words.

    Raises:
        FileError: a file is missing, is no YAML, or is not a mapping; with the line.
        SettingsError: unknown keys, wrong types, values out of bounds; one line for each.
    """
    tree: Tree = {}
    origins: Origins = {}
    for path in files:
        for key, value in read_yaml(path, origins).items():
            assign(tree, cls, _full_key(cls, key), value)
    origins |= {_full_key(cls, key): origin for key, origin in origins.items()}
    for word in pairs:
        key, value = parse_pair(word)
        key = _full_key(cls, key)
        assign(tree, cls, key, value)
        origins[key] = ""
    return build(cls, tree, origins)


def _full_key(cls: type[BaseModel], key: str) -> str:
    """The dotted key that a key as given stands for."""
    short: dict[str, str] = getattr(cls, "ALIASES", {})  # results and other models have none
    rest: str = getattr(cls, "REST", "")
    key = short.get(key, key)
    return f"{rest}.{key}" if rest and key.split(".")[0] not in cls.model_fields else key


def read_yaml(path: Path, origins: Origins | None = None) -> Tree:
    """The mapping in a YAML or JSON file; fills `origins` with the line of each dotted key.

    Raises:
        FileError: missing, unreadable, no YAML, a key twice, or not a mapping at the top.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        loader = _Loader(text)
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except UnicodeDecodeError as e:
        raise FileError(f"{path}: not a text file (byte {e.start} is not UTF-8)") from None
    except OSError as e:
        raise FileError(f"{path}: cannot read: {e.strerror}") from None
    except yaml.YAMLError as e:
        raise FileError(f"{path}: not a YAML file: {str(e).splitlines()[0]}") from None
    try:
        node = loader.get_single_node()
        _collect_lines(node, path, "", {} if origins is None else origins)
        tree = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as e:
        line = "" if e.problem_mark is None else f" line {e.problem_mark.line + 1}"
        raise FileError(f"{path}{line}: not valid YAML: {e.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise FileError(f"{path}: not a YAML file: {str(e).splitlines()[0]}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise FileError(f"{path}: expected `key: value` lines, found {_short(tree)}")
    return {str(key): value for key, value in tree.items()}


def is_list(annotation: Any) -> bool:
    """Whether a type is a list, or a list or null."""
    kinds = {get_origin(strip(a)) for a in get_args(strip(annotation)) if a is not type(None)}
    return get_origin(strip(annotation)) in LISTS or (len(kinds) == 1 and kinds <= set(LISTS))


def _collect_lines(node: yaml.Node | None, path: Path, prefix: str, origins: Origins) -> None:
    """Note the line of every key of a mapping, and refuse a key that stands twice."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        line, name = key.start_mark.line + 1, prefix + str(key.value)
        if name in seen:
            raise FileError(f"{path} line {line}: {name} is given twice (first in line {seen[name]})")
        seen[name] = line
        origins[name] = f"{path} line {line}: "
        _collect_lines(value, path, name + ".", origins)


def parse_pair(word: str) -> tuple[str, Any]:
    """Key and value of a `key=value` word.

    Raises:
        SettingsError: the word has no key, or its value is not YAML.
    """
    match = PAIR.fullmatch(word)
    if match is None:
        raise SettingsError(f"{word!r}: expected key=value")
    key, text = match.groups()
    try:
        return key.replace("-", "_"), yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError):
        raise SettingsError(f"{key} = {text!r}: not a YAML value; put quotes around text with special signs") from None


def assign(tree: Tree, cls: type[BaseModel], key: str, value: Any) -> None:
    """Set a dotted key in a tree of settings of class `cls`; a mapping is merged into an existing group.

    Raises:
        SettingsError: the key leads through something that is not a group.
    """
    *path, last = key.split(".")
    annotation: Any = cls
    for depth, name in enumerate(path):
        annotation = _field_type(annotation, name)
        inner = tree.get(name)
        if isinstance(inner, str) and groups(annotation):
            inner = tree[name] = _named(annotation, inner)
        elif inner is None:
            inner = tree[name] = {}
        if not isinstance(inner, dict):
            raise SettingsError(f"{key}: {'.'.join(path[: depth + 1])} is {_short(inner)}, not a group of settings")
        tree = inner
    annotation = _field_type(annotation, last)
    if isinstance(value, str) and groups(annotation) and not _holds_text(annotation):
        value = _named(annotation, value)
    old = tree.get(last)
    if isinstance(value, dict) and isinstance(old, dict) and _same_variant(annotation, old, value):
        for name, inner in value.items():
            assign(old, annotation if is_model(annotation) else BaseModel, str(name), inner)
    else:
        tree[last] = value


def _field_type(annotation: Any, name: str) -> Any:
    """Type of a field of a group; of any variant that has it; None where unknown."""
    for model in groups(annotation).values() if not is_model(annotation) else [annotation]:
        if name in model.model_fields:
            return full_annotation(model.model_fields[name])
    return None


def _holds_text(annotation: Any) -> bool:
    """Whether a union of groups also accepts plain text."""
    return str in get_args(strip(annotation)) or Path in get_args(strip(annotation))


def _named(annotation: Any, tag: str) -> Tree | str:
    """`optimizer=adam` means `optimizer.name=adam`."""
    field = next((tag_field(m) for m in groups(annotation).values()), None)
    return {field: tag} if field and "" not in groups(annotation) else tag


def _same_variant(annotation: Any, old: Tree, new: Tree) -> bool:
    """Whether new keys belong to the same variant of a tagged union as the old ones."""
    fields = {tag_field(m) for t, m in groups(annotation).items() if t}
    return all(f not in new or f not in old or new[f] == old[f] for f in fields if f)


def build(cls: type[S], tree: Tree, origins: Origins | None = None) -> S:
    """Validate a tree of settings.

    Raises:
        SettingsError: one line for each problem, naming key, value, what was expected, and a near key.
    """
    try:
        suited = cls.suited(tree) if issubclass(cls, Settings) else tree
        built = cls.model_validate(_complete(cls, suited))
    except ValidationError as e:
        problems: dict[str, str] = {}
        for error in e.errors():
            key, text = _explain(cls, error)
            origin = next((o for k, o in (origins or {}).items() if k == key), "")
            problems.setdefault(key, origin + text)
        # where a group was given for `str | Group`, the problem lies inside it, not in its being no text
        outer = {k for k in problems if any(other.startswith(f"{k}.") for other in problems)}
        raise SettingsError("\n".join(t for k, t in problems.items() if k not in outer)) from None
    if large := list(_too_large(built)):
        raise SettingsError("\n".join(f"{(origins or {}).get(key, '')}{text}" for key, text in large))
    return built


def _too_large(group: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Integers that no computer counts to, by their keys; those with a bound of their own were held to it."""
    fields = type(group).model_fields
    for name in (name for name in fields if name in group.model_fields_set):
        key, value = prefix + name, getattr(group, name)
        if isinstance(value, BaseModel):
            yield from _too_large(value, f"{key}.")
            continue
        most = 2**63 - 1 if name == "seed" else LARGEST
        inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        for one in inside:
            if isinstance(one, BaseModel):
                yield from _too_large(one, f"{key}.")
            elif isinstance(one, int) and abs(one) > most and "<" not in describe(key, fields[name]).kind:
                yield key, f"{key} = {_short(one)}: expected an integer of at most {most}"


def _complete(annotation: Any, value: Any, default: Any = None) -> Any:
    """Give groups the variant and the values of their default where the user changed only some keys."""
    if is_list(annotation) and isinstance(value, str | int | float | bool):
        value = [v.strip() for v in value.split(",")] if isinstance(value, str) else [value]
    if isinstance(value, list):
        return [_complete(_item(annotation), v) for v in value]
    variants = groups(annotation)
    if isinstance(value, str) and variants and not _holds_text(annotation):
        value = _named(annotation, value)
    if not isinstance(value, dict) or not variants or get_origin(strip(annotation)) is dict:
        return value
    usual = default if isinstance(default, BaseModel) and _chosen(type(default), value) else None
    if usual is not None:
        field = tag_field(type(usual))
        value = ({field: tag_of(type(usual))} if field else {}) | value
        value = {name: getattr(usual, name) for name in usual.model_fields_set} | value
    matching = [m for m in variants.values() if _chosen(m, value)]
    if len(matching) != 1:
        return value
    model = matching[0]
    return {name: _complete(_type_of(model, name), v, _usual(model, name, usual)) for name, v in value.items()}


def _item(annotation: Any, place: int = 0) -> Any:
    """Type of the items of a list, or of the one at a place where they differ."""
    args = [a for a in get_args(strip(annotation)) if a not in (type(None), Ellipsis)]
    if get_origin(strip(annotation)) in LISTS or not args:
        return args[place if place < len(args) else 0] if args else None
    return _item(args[0], place)


def _chosen(model: type[BaseModel], value: Tree) -> bool:
    """Whether a mapping means this variant: it has its tag, or no tag at all."""
    field = tag_field(model)
    return field is None or value.get(field, tag_of(model)) == tag_of(model)


def _type_of(model: type[BaseModel], name: str) -> Any:
    return full_annotation(model.model_fields[name]) if name in model.model_fields else None


def _usual(model: type[BaseModel], name: str, instance: BaseModel | None) -> Any:
    """Default of a field: of the instance that is the group's default, else of the class."""
    if name not in model.model_fields or (instance is None and model.model_fields[name].is_required()):
        return None
    if instance is not None:
        return getattr(instance, name)
    return model.model_fields[name].get_default(call_default_factory=True, validated_data={})


def _explain(cls: type[BaseModel], error: ErrorDetails) -> tuple[str, str]:
    """Dotted key and one line of text for one finding of pydantic."""
    key, model, field = _locate(cls, error["loc"])
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        return key, f"{key}: unknown setting{_near(cls, model, key)}"
    if kind in ("union_tag_invalid", "union_tag_not_found") and field is not None:
        tags = list(groups(field))
        name = value.get(tag_field(next(iter(groups(field).values()))) or "") if isinstance(value, dict) else value
        near = difflib.get_close_matches(str(name).lower().replace("-", "_"), tags, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return key, f"{key} = {_short(name)}: unknown; known are {', '.join(tags)}{hint}"
    if kind in ("value_error", "assertion_error"):
        text = error["msg"].split(", ", 1)[-1]
        return (key, f"{key} = {_short(value)}: {text}") if key else (key, text)
    name = key.rsplit(".", 1)[-1]
    item = name not in model.model_fields  # of a list or of a mapping
    if field is None or (item and kind == "literal_error"):
        if kind == "literal_error":
            known = re.findall(r"'([^']+)'", error["ctx"]["expected"])
            near = difflib.get_close_matches(str(value), known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            return key, f"{key} = {_short(value)}: unknown; known are {', '.join(known)}{hint}"
        return key, f"{key or 'settings'} = {_short(value)}: {error['msg']}"
    entry = describe(key, FieldInfo.from_annotation(field) if item else model.model_fields[name])
    expected = f"{entry.kind} ({entry.unit})" if entry.unit else entry.kind
    if kind == "missing":
        meaning = " ".join(entry.meaning.split())
        return key, f"{key}{MISSING}{expected}" + (f" - {meaning}" if meaning else "")
    if kind == "finite_number":
        expected = f"a finite {expected}"
    if entry.kind == "group":
        expected = f"a group of settings ({', '.join(k for m in entry.groups.values() for k in m.model_fields)})"
    return key, f"{key} = {_short(value)}: expected {expected}"


def _locate(cls: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str, type[BaseModel], Any]:
    """Dotted key, class that holds it and type of the field, from pydantic's location (which names variants too)."""
    key: list[str] = []
    model, annotation = cls, None
    for piece in loc:
        inside = groups(annotation) if annotation is not None else {"": model}
        if isinstance(piece, int):
            key.append(str(piece))
            annotation = None if annotation is None else _item(annotation, piece)
            continue
        if piece == "[key]":  # what is wrong is a key of a mapping, not its value
            annotation = None
            break
        if annotation is not None and piece in inside:
            model, annotation = inside[str(piece)], None
            continue
        model = model if annotation is None else next(iter(inside.values()), model)
        if annotation is not None and not inside and get_origin(strip(annotation)) is dict:
            key.append(str(piece))
            annotation = get_args(strip(annotation))[1]
            continue
        if annotation is not None and not inside and get_origin(strip(annotation)) not in LISTS:
            break  # the name of a member of a union such as `int | None`
        if (
            annotation is not None
            and inside
            and str(piece) not in model.model_fields
            and str(piece) in _type_names(inside)
        ):
            annotation = None
            continue
        key.append(str(piece))
        annotation = full_annotation(model.model_fields[str(piece)]) if str(piece) in model.model_fields else None
    return ".".join(key), model, annotation


def _type_names(inside: dict[str, type[BaseModel]]) -> list[str]:
    return [m.__name__ for m in inside.values()]


def _near(cls: type[BaseModel], model: type[BaseModel], key: str) -> str:
    """A hint for an unknown key: a similar name in its group, or the same name elsewhere."""
    *path, name = key.split(".")
    near = difflib.get_close_matches(name, model.model_fields, 1, 0.6)
    if near:
        return f"; did you mean {'.'.join([*path, near[0]])}?"
    group = next((e for e in every_entry(cls) if e.key == ".".join(path)), None)
    others = [tag for tag, other in (group.groups if group is not None else {}).items() if name in other.model_fields]
    if group is not None and others:
        return f"; it belongs to {' or '.join(f'{group.key}={tag}' for tag in others)}"
    every = [e.key for e in every_entry(cls)]
    same = [k for k in every if k.rsplit(".", 1)[-1] == name] or difflib.get_close_matches(key, every, 1, 0.75)
    if same:
        return f"; did you mean {same[0]}?"
    return f"; known are {', '.join(e.key for e in entries(model, ''.join(p + '.' for p in path)))}"


def _short(value: Any) -> str:
    """A value in an error message, on one line of bounded length."""
    text = repr(value) if isinstance(value, str) else yaml_text(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."
