"""Settings as text: what a command line and a table of settings hold.

A value is a number (`1e-3`, `100_000`), `True`, `False`, `None`, a text, a tuple `(0, 1)`, or a registered dataclass with its
arguments: `linear(1, .05, .1)`, `inverse(1, unit=episodes)`, `epsilon-greedy(linear(1, .05, .1))`, `atoms(0, 100, 51)`. Names are
read without regard to case, `-` and `_`; without parentheses such a name stands for its defaults. A third argument of `linear`
and `exponential` that is written with a point is the fraction of the run that they span, a whole number the steps.
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
    value: str  # as `written`
    what: str  # its documentation in one line
    flag: bool  # whether it is True or False

    @property
    def option(self) -> str:
        """Its name on a command line, without the dashes in front."""
        return self.name.strip("_").replace("_", "-")


def settings_of(config: Any) -> dict[str, Setting]:
    """The settings of a config that can be given as text, by name: all but those that hold functions alone."""
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
    """The config with the settings in `texts` replaced, each a text. `epsilon` stands for an epsilon-greedy `explore`.

    Raises ArgumentError for unknown names and for texts that are no values, and what the config raises.
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
            raise ArgumentError(f"{name} is given twice{f', once as {EPSILON}' * (EPSILON in texts)}: give it once.")
        try:
            values[name] = as_written(text) if _holds_text(fields[name]) else value(text)
        except ArgumentError as error:
            raise ArgumentError(f"{given}: {error}") from None
    return dataclasses.replace(config, **values)


def as_written(text: str) -> str | None:
    """The value of a setting that holds a text: the text itself, without quotes around it; None where it says so."""
    plain = text.strip()
    quoted = len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "'\""
    return None if plain.lower() == "none" else plain[1:-1] if quoted else plain


def value(text: str, kinds: Mapping[str, Any] | None = None) -> Any:
    """What a text stands for. kinds: the dataclasses that it can name; None: the registered ones that are no agents.

    Raises ArgumentError for a text that ends too early or goes on where it should end, and for names and arguments that there
    are not.
    """
    if kinds is None:
        registry.complete()
        kinds = {name: kind for name, kind in registry.TYPES.items() if name not in registry.AGENTS}
    reader = _Reader(text, kinds)
    found = reader.value()
    reader.end()
    return found


def arguments(text: str) -> dict[str, Any]:
    """What stands for name=value, name=value, ... Raises ArgumentError as `value` does, and for values without a name."""
    reader = _Reader(f"{text})", {})
    positional, named = reader.arguments()
    reader.end()
    if positional:
        raise ArgumentError(f"{shown(text)} is no name=value, name=value, ...")
    return named


def written(given: Any) -> str:
    """The text of a value, which `value` reads back; of a function, which no text holds, its name."""
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
    """What stands below each field of a dataclass and of those it is made from, by name, each in one line."""
    lines: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        except (OSError, TypeError, SyntaxError):  # without source, as in an interactive session
            continue
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                said = getattr(below.value, "value", None)
                if isinstance(said, str):
                    lines[field.target.id] = " ".join(said.split())
    return lines


class _Reader:
    """A text, and how far it has been read."""

    def __init__(self, text: str, kinds: Mapping[str, Any]) -> None:
        self.text, self.place = text, 0
        self.kinds = {_key(name): kind for name, kind in kinds.items()}
        self.names = [_kebab(name) for name in kinds]

    def peek(self) -> re.Match[str] | None:
        """The next token, which stays unread; None at the end."""
        while self.text[self.place : self.place + 1].isspace():
            self.place += 1
        found = TOKEN.match(self.text, self.place)
        if found is None and self.place < len(self.text):
            raise ArgumentError(f"{shown(self.text)} cannot be read from {shown(self.text[self.place :])} on.")
        return found

    def take(self, mark: str) -> bool:
        """Read this mark, if it comes next -> whether it does."""
        token = self.peek()
        if token is None or token["mark"] != mark:
            return False
        self.place = token.end()
        return True

    def end(self) -> None:
        """Raise ArgumentError unless all is read."""
        if self.peek() is not None:
            raise ArgumentError(
                f"{shown(self.text)} should end before {shown(self.text[self.place :])}. A value is a number, True, False,"
                " None, a text, (a tuple) or name(arguments)."
            )

    def value(self) -> Any:
        token = self.peek()
        if token is None or (token["mark"] and token["mark"] != "("):
            rest = f"has no value before {shown(self.text[self.place :])}" if token else "ends where a value should be"
            raise ArgumentError(f"{shown(self.text)} {rest}.")
        self.place = token.end()
        if token["number"]:
            return _number(token["number"])
        if token["text"]:
            return token["text"][1:-1]
        if token["mark"]:
            parts, named = self.arguments()
            if named:
                raise ArgumentError(f"{shown(self.text)}: a tuple has no {next(iter(named))}=.")
            return (
                parts[0] if len(parts) == 1 and not self.text[: self.place - 1].rstrip().endswith(",") else tuple(parts)
            )
        return self.named(token["name"])

    def named(self, name: str) -> Any:
        """What a name stands for, with the arguments that follow it, if any."""
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
        """What stands between parentheses, of which the first is read."""
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
    """A number; one without a point is whole, also with an exponent: 1e6."""
    exact = float(text)
    whole = "." not in text and exact.is_integer()
    return int(exact if "e" in text.lower() else text) if whole else exact


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _holds_text(field: dataclasses.Field[Any]) -> bool:
    """Whether a setting can be a text: then a name is one, and no dataclass."""
    return re.search(r"\bstr\b|\bNetwork\b", str(field.type)) is not None


def _kebab(name: str) -> str:
    """EpsilonGreedy as epsilon-greedy."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def owners(option: str, presets: Mapping[str, Any]) -> list[str]:
    """The agents that have a setting, by the name that it has on a command line."""
    return [name for name, agent in presets.items() if option in options_of(agent)]


def options_of(config: Any) -> Iterable[str]:
    """The names that a config's settings have on a command line, without the dashes in front."""
    found = [setting.option for setting in settings_of(config).values()]
    return [*found, EPSILON] if "explore" in found and EPSILON not in found else found
