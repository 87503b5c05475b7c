"""Tables of parameters in the reference: a griffe extension, which mkdocs.yml names under mkdocstrings.

Docstrings here describe parameters in running text, `name: what it is. other, names: what they are.`, and fields of dataclasses
in the string below each. This makes Google's `Args:` of both, which mkdocstrings shows as a table with types and defaults.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import griffe

sys.path.append(str(Path(__file__).parents[1]))  # where the packages of the scripts are

from tools.running_text import separated


def with_sections(text: str, described: Mapping[str, str], parameters: set[str]) -> str:
    """A docstring with a section of arguments, and one of what is no parameter: attributes."""
    for head, wanted in (("Args:", True), ("Attributes:", False)):
        lines = [f"    {name}: {said}" for name, said in described.items() if (name in parameters) == wanted]
        text = "\n".join([text, "", head, *lines]) if lines else text
    return text


def members(scope: Any) -> Iterator[Any]:
    """The modules, classes and functions in a module or class, and in those."""
    for one in scope.members.values():
        if not one.is_alias:
            yield one
            if one.is_module or one.is_class:
                yield from members(one)


def fields(kind: Any) -> dict[str, Any]:
    """The fields of a dataclass that its constructor takes, those of its bases first; none for other classes."""
    found: dict[str, Any] = {}
    if any("dataclass" in str(decorator.value) for decorator in kind.decorators):
        for one in reversed([kind, *kind.mro()]):
            for name, field in one.members.items():
                is_field = field.is_attribute and field.annotation is not None and "property" not in field.labels
                if is_field and "ClassVar" not in str(field.annotation) and "init=False" not in str(field.value):
                    found[name] = field
    return found


def parameters(one: Any) -> set[str]:
    """The names that a function, or a class's constructor, takes."""
    if one.is_function:
        return {parameter.name for parameter in one.parameters}
    init = one.members.get("__init__")
    return {*fields(one), *(parameters(init) if init is not None else ())}


class ParameterTables(griffe.Extension):
    """Gives docstrings their sections of arguments and attributes, once a package is loaded."""

    def on_package(self, *, pkg: Any, **rest: Any) -> None:
        shown: list[Any] = []
        for one in [one for one in members(pkg) if one.is_class or one.is_function]:
            own = fields(one) if one.is_class else {}
            below = {name: " ".join(field.docstring.value.split()) for name, field in own.items() if field.docstring}
            shown += [own[name] for name in below]
            if one.docstring:
                taken = parameters(one)
                attributes = {name for name, member in one.members.items() if one.is_class and member.is_attribute}
                text, described = separated(one.docstring.value, taken | attributes)
                one.docstring.value = with_sections(text, below | described, taken)
        for field in shown:  # they stand in the table
            field.docstring = None
