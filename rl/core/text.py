"""Settings as text, for command lines and tables of settings.

A value is a number (`1e-3`, `100_000`), `True`, `False`, `None`, a string, a tuple `(0, 1)`, or a registered dataclass with its
arguments: `linear(1, .05, .1)`, `inverse(1, unit=episodes)`, `epsilon-greedy(linear(1, .05, .1))`, `atoms(0, 100, 51)`. Names
ignore case, `-` and `_`; without parentheses they stand for the defaults. If the third argument of `linear` and `exponential` has
a decimal point it is the fraction of the run that they span, otherwise the number of steps.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rl.core import registry
from supervised.validate import ArgumentError, choice, shown

TOKEN = re.compile(
    r"(?P<number>[+-]?(\d+(_\d+)*\.?\d*|\.\d+)(e[+-]?\d{1,3})?(?![\w.]))|(?P<name>[^\W\d][\w-]*)|(?P<text>'[^']*'|\"[^\"]*\")|(?P<mark>[(),=])",
    re.IGNORECASE,
)
WORDS = {"true": True, "false": False, "none": None}
EPSILON = "epsilon"  # a short form: epsilon=X is explore=epsilon-greedy(X)


class Setting(NamedTuple):
    """A setting of a config that can be given as text."""

    name: str
    value: str  # as returned by `written`
    what: str  # its documentation in one line
    flag: bool  # whether it is a bool

    @property
    def option(self) -> str:
        """The name on a command line, without leading dashes."""
        return self.name.strip("_").replace("_", "-")


def settings_of(config: Any) -> dict[str, Setting]:
    """Return the settings of a config that can be given as text, by name: all but those that can only be functions."""
    lines = documentation(type(config))
    return {
        field.name: Setting(
            field.name,
            str(own) if isinstance(own := getattr(config, field.name), str) else written(own),
            lines.get(field.name, ""),
            str(field.type) == "bool",
        )
        for field in dataclasses.fields(config)
        if not str(field.type).startswith("Callable")
    }


def changed(config: Any, texts: Mapping[str, str]) -> Any:
    """Return the config with the settings in `texts` replaced. `epsilon` is short for an epsilon-greedy `explore`.

    Raises ArgumentError for unknown names and invalid values, and whatever the config's own checks raise.
    """
    fields = {field.name: field for field in dataclasses.fields(config)}
    options = {name.strip("_"): name for name in fields}
    values: dict[str, Any] = {}
    for given, own in texts.items():
        name, text = given.replace("-", "_").strip("_"), own
        if name == EPSILON and EPSILON not in fields and "explore" in fields:
            name, text = "explore", f"epsilon-greedy({own})"
        choice(name, f"setting of {registry.name_of(config)}", options)
        name = options[name]
        if name in values:
            raise ArgumentError(
                f"{name} is given twice{f', once as {EPSILON}' * (EPSILON in texts)}; give it only once."
            )
        try:
            values[name] = as_written(text) if _holds_text(fields[name]) else value(text)
        except ArgumentError as error:
            raise ArgumentError(f"{given}: {error}") from None
    return dataclasses.replace(config, **values)


def as_written(text: str) -> str | None:
    """Return the value of a string setting: the text without enclosing quotes, or None for the text "none"."""
    plain = text.strip()
    quoted = len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "'\""
    return None if plain.lower() == "none" else plain[1:-1] if quoted else plain


def value(text: str, kinds: Mapping[str, Any] | None = None) -> Any:
    """Parse a value. kinds: the dataclasses that it can refer to, by name; None: the registered ones other than agents.

    Raises ArgumentError for incomplete text, for trailing text, and for unknown names and arguments.
    """
    if kinds is None:
        registry.complete()
        kinds = {name: kind for name, kind in registry.TYPES.items() if name not in registry.AGENTS}
    reader = _Reader(text, kinds)
    found = reader.value()
    reader.end()
    return found


def arguments(text: str) -> dict[str, Any]:
    """Parse name=value, name=value, ... Raises ArgumentError like `value`, and for values without a name."""
    reader = _Reader(f"{text})", {})
    positional, named = reader.arguments()
    reader.end()
    if positional:
        raise ArgumentError(f"{shown(text)} must have the form name=value, name=value, ...")
    return named


def written(given: Any) -> str:
    """Format a value as text that `value` parses; a function, which text cannot represent, as its name."""
    if isinstance(given, tuple):
        return f"({', '.join(map(written, given))}{',' * (len(given) == 1)})"
    if isinstance(given, float):
        return repr(int(given)) if given.is_integer() and abs(given) < 1e15 else repr(given)
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        parts = [
            ("" if i == 0 or _default(field) is dataclasses.MISSING else f"{field.name}=")
            + written(getattr(given, field.name))
            for i, field in enumerate(dataclasses.fields(given))
            if i == 0 or getattr(given, field.name) != _default(field)
        ]
        return f"{_kebab(type(given).__name__)}({', '.join(parts)})"
    if isinstance(given, str):
        return given if re.fullmatch(r"[^\W\d][\w-]*", given) else f"'{given}'"
    return getattr(given, "__name__", None) or str(given)


def documentation(kind: type) -> dict[str, str]:
    """Return the docstrings below the fields of a dataclass and its bases, by name, each on one line."""
    lines: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        except (OSError, TypeError, SyntaxError):  # no source, for example in an interactive session
            continue
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                said = getattr(below.value, "value", None)
                if isinstance(said, str):
                    lines[field.target.id] = " ".join(said.split())
    return lines


class _Reader:
    """A recursive descent parser of values."""

    def __init__(self, text: str, kinds: Mapping[str, Any]) -> None:
        self.text, self.place = text, 0
        self.kinds = {_key(name): kind for name, kind in kinds.items()}
        self.names = [_kebab(name) for name in kinds]

    def peek(self) -> re.Match[str] | None:
        """Return the next token without consuming it; None at the end."""
        while self.text[self.place : self.place + 1].isspace():
            self.place += 1
        found = TOKEN.match(self.text, self.place)
        if found is None and self.place < len(self.text):
            raise ArgumentError(f"{shown(self.text)} cannot be parsed, starting at {shown(self.text[self.place :])}.")
        return found

    def take(self, mark: str) -> bool:
        """Consume this mark if it is next, and return whether it was."""
        token = self.peek()
        if token is None or token["mark"] != mark:
            return False
        self.place = token.end()
        return True

    def end(self) -> None:
        """Raise ArgumentError unless all text has been consumed."""
        if self.peek() is not None:
            raise ArgumentError(
                f"{shown(self.text)} should end before {shown(self.text[self.place :])}. A value is a number, True, False,"
                " None, a string, (a tuple) or name(arguments)."
            )

    def value(self) -> Any:
        token = self.peek()
        if token is None or (token["mark"] and token["mark"] != "("):
            rest = (
                f"has no value before {shown(self.text[self.place :])}" if token else "ends where a value is expected"
            )
            raise ArgumentError(f"{shown(self.text)} {rest}.")
        self.place = token.end()
        if token["number"]:
            return _number(token["number"])
        if token["text"]:
            return token["text"][1:-1]
        if token["mark"]:
            parts, named = self.arguments()
            if named:
                raise ArgumentError(f"{shown(self.text)}: a tuple cannot have {next(iter(named))}=.")
            return (
                parts[0] if len(parts) == 1 and not self.text[: self.place - 1].rstrip().endswith(",") else tuple(parts)
            )
        return self.named(token["name"])

    def named(self, name: str) -> Any:
        """Parse what follows a name, its arguments if any, and return its value."""
        if name.lower() in WORDS:
            return WORDS[name.lower()]
        called = self.take("(")
        if _key(name) not in self.kinds:
            if not called:
                return name
            choice(name, "value", self.names)
        positional, named = self.arguments() if called else ([], {})
        return _made(self.kinds[_key(name)], positional, named)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Parse arguments after an opening parenthesis, up to and including the closing one."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        while not self.take(")"):
            token = self.peek()
            if token is None:
                raise ArgumentError(f"{shown(self.text)} lacks a closing parenthesis.")
            start = self.place
            self.place = token.end()
            if token["name"] and self.take("="):
                named[token["name"].replace("-", "_")] = self.value()
            else:
                self.place = start
                positional.append(self.value())
            token = self.peek()
            if not self.take(",") and (token is None or token["mark"] != ")"):
                raise ArgumentError(f"{shown(self.text)} lacks a comma or a closing parenthesis.")
        return positional, named


def _made(kind: Any, positional: list[Any], named: dict[str, Any]) -> Any:
    fields = [field.name for field in dataclasses.fields(kind)]
    if len(positional) == 3 and isinstance(positional[2], float) and {"horizon", "fraction"} <= set(fields):
        *positional, named["fraction"] = positional
    try:
        inspect.signature(kind).bind(*positional, **named)
    except TypeError as error:
        takes = ", ".join(
            f.name if (d := _default(f)) is dataclasses.MISSING else f"{f.name}={written(d)}"
            for f in dataclasses.fields(kind)
        )
        raise ArgumentError(f"{_kebab(kind.__name__)}({takes}): {error}.") from None
    return kind(*positional, **named)


def _number(text: str) -> int | float:
    """Parse a number; without a decimal point it is an int, even with an exponent, as in 1e6."""
    exact = float(text)
    whole = "." not in text and exact.is_integer()
    return int(exact if "e" in text.lower() else text) if whole else exact


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _holds_text(field: dataclasses.Field[Any]) -> bool:
    """Return whether a setting can be a string; then a name is a string, not a dataclass."""
    return re.search(r"\bstr\b|\bNetwork\b", str(field.type)) is not None


def _kebab(name: str) -> str:
    """Convert EpsilonGreedy to epsilon-greedy."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def owners(option: str, presets: Mapping[str, Any]) -> list[str]:
    """Return the agents that have a setting, given by its name on a command line."""
    return [name for name, agent in presets.items() if option in options_of(agent)]


def options_of(config: Any) -> Iterable[str]:
    """Return the names of a config's settings on a command line, without leading dashes."""
    found = [setting.option for setting in settings_of(config).values()]
    return [*found, EPSILON] if "explore" in found and EPSILON not in found else found
