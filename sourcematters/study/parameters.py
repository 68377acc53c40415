"""What a notebook's parameters cell declares, and values checked against it.

The cell is read as syntax, never executed: each line is `name: type = literal  # what it means`, the type
optional. (papermill's own inspection reads it by regular expression and checks no types.)
"""

import ast
import contextlib
import os
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sourcematters.errors import StudyError

TYPES = {kind.__name__: kind for kind in (bool, int, float, str, list, dict)}
WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    types.NoneType: "empty (null)",
}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell; `kind` is its type, `help` its comment."""

    name: str
    default: Any
    kind: Any
    help: str

    def value(self, given: Any, base: Path) -> Any:
        """`given` as the declared type; text that names a file or folder made absolute, from `base`.

        Names of files have parameters called `data`, `splits`, `results`, or anything ending in _folder or _file,
        and `weights` by source. There a bare word that is no file in `base` stays as it is: it may be a name, such
        as phantoms. Raises ValueError saying what is wanted.
        """
        try:
            value = fitted(given, self.kind)
        except ValueError:
            raise ValueError(f"{self.name} = {given!r}, wanted: {described(self.kind)}") from None
        if self.name == "weights" and isinstance(value, dict):
            return {source: _located(entry, base) for source, entry in value.items()}
        is_path = self.name in ("data", "splits", "results") or self.name.endswith(("_folder", "_file"))
        return _located(value, base) if is_path and value not in ("", self.default) else value

    def parsed(self, text: str, base: Path) -> Any:
        """The value that `text` stands for: YAML, or the text itself where text is declared."""
        with contextlib.suppress(yaml.YAMLError, ValueError):
            return self.value(yaml.safe_load(text), base)
        return self.value(text, base)


def _located(value: Any, base: Path) -> Any:
    """A file's name made absolute from `base`, also under the key `path`; anything else as it is."""
    if isinstance(value, dict) and "path" in value:
        return value | {"path": _located(value["path"], base)}
    if not isinstance(value, str):
        return value
    path = base / Path(value).expanduser()
    return str(path.resolve()) if os.sep in value or path.exists() else value


def declared(source: str, origin: str) -> Iterator[Parameter]:
    """The parameters of a cell, in order. Raises StudyError for a line of another form."""
    lines = source.encode().splitlines()
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise StudyError(f"{origin}: the parameters cell is not Python (line {error.lineno}).") from error
    for node in statements:
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        try:
            if [type(target) for target in targets] != [ast.Name]:
                raise ValueError("no single name to assign to")
            default = ast.literal_eval(node.value)
            if isinstance(node, ast.AnnAssign):
                kind = eval(ast.unparse(node.annotation), {"__builtins__": TYPES})
            else:
                kind = _kind_of(default)
            fitted(default, kind)
        except (ValueError, NameError, TypeError) as error:
            raise StudyError(
                f"{origin}: `{ast.unparse(node)}` in the parameters cell. A line there is "
                f"`name: type = value`, the type (optional) made of {', '.join(TYPES)} and None, the value a "
                "literal of that type."
            ) from error
        comment = lines[node.end_lineno - 1][node.end_col_offset :].decode()
        yield Parameter(targets[0].id, default, kind, comment.strip().lstrip("# "))


def _kind_of(value: Any) -> Any:
    """The type that a default declares: lists by their elements; None declares anything."""
    if value is None:
        return Any
    if not isinstance(value, list | tuple):
        return type(value)
    kinds = {_kind_of(element) for element in value}
    kinds = {float} if kinds == {int, float} else kinds
    return list[kinds.pop()] if len(kinds) == 1 else list


def fitted(value: Any, kind: Any) -> Any:
    """`value` as `kind`: bool, int, float, str, list, list[...], dict, None, Any, or a union of them.

    Nothing is converted but, to float, whole numbers and text such as 1e-5 (which YAML 1.1 reads as text),
    and tuples to lists. Raises ValueError when it does not fit; NaN fits nothing.
    """
    if kind is Any:
        return value
    if isinstance(kind, types.UnionType):
        for option in typing.get_args(kind):
            with contextlib.suppress(ValueError):
                return fitted(value, option)
    elif kind is float and type(value) in (int, float, str):
        number = float(value)
        if number == number:
            return number
    elif kind is list or typing.get_origin(kind) is list:
        (element_kind,) = typing.get_args(kind) or (Any,)
        if isinstance(value, list | tuple):
            return [fitted(element, element_kind) for element in value]
    elif type(value) is (types.NoneType if kind is None else kind):
        return value
    raise ValueError(f"{value!r} is not {described(kind)}")


def described(kind: Any) -> str:
    """A type in words, for messages."""
    if isinstance(kind, types.UnionType):
        return " or ".join(map(described, typing.get_args(kind)))
    if typing.get_origin(kind) is list:
        return f"a list, each element {described(typing.get_args(kind)[0])}"
    return WORDS.get(kind, str(kind))
