"""A command line whose flags are those of a script and every setting of the agent it names."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import tyro

from rl.core import text
from supervised.validate import choice

S = TypeVar("S")
HELP = ("help", "h")
SHORT_FORM = (
    "Short for --explore 'epsilon-greedy(X)': a number, or a schedule such as 'linear(1,.05,.1)', from 1 to .05 over a tenth of"
    " the run."
)


def named(words: Sequence[str], flag: str, default: str) -> str:
    """Return the last value given to a flag, or the default."""
    found = default
    for word, after in itertools.pairwise([*words, ""]):
        option, equals, own = word.partition("=")
        if option == f"--{flag}":
            found = own if equals else after
    return found


def several(words: Sequence[str], flag: str) -> list[str]:
    """Return all values given to a flag, up to the next flag."""
    found: list[str] = []
    reading = False
    for word in words:
        if word.startswith("--"):
            reading = word == f"--{flag}"
        elif reading:
            found.append(word)
    return found


def first(words: Sequence[str]) -> str | None:
    """Return the first word of a command line unless it is a flag."""
    return words[0] if words and not words[0].startswith("-") else None


def read(settings: type[S], presets: Mapping[str, Any], agent: str, words: Sequence[str]) -> tuple[S, dict[str, str]]:
    """Return the script's own settings, and as text the agent's settings that were given.

    settings: a dataclass with a field `agent`. presets: the available agents by name, `agent` the chosen one. Raises ValueError
    for an unknown agent and for flags that neither the script nor the agent has. `--help` shows both and exits.
    """
    choice(agent, "agent", presets)
    own = _options(settings)
    known = {setting.option: setting for setting in text.settings_of(presets[agent]).values()}
    known = {option: setting for option, setting in known.items() if option not in own}
    short = [text.EPSILON] if text.EPSILON in text.options_of(presets[agent]) and text.EPSILON not in known else []
    flags = {option for option, setting in known.items() if setting.flag}
    negated = {f"no-{option}" for option in flags}
    given = _given(words)
    for option in given:
        if option not in {*own, *known, *short, *negated, *HELP}:
            raise ValueError(_unknown(option, agent, presets, [*own, *known, *short]))
    fields: list[Any] = [(setting.name, *_field(setting)) for setting in known.values()]
    for option in short:
        note = tyro.conf.arg(help=SHORT_FORM, metavar="X")
        fields.append((option, Annotated[str | None, note], dataclasses.field(default=None)))
    group = dataclasses.make_dataclass("Group", fields)
    group.__doc__ = f"Settings of {agent}; --set name=value accepts them too."
    who = tyro.conf.arg(help=f"{text.documentation(settings)['agent']} One of {', '.join(presets)}.", metavar="NAME")
    together = dataclasses.make_dataclass(
        settings.__name__,
        [
            ("agent", Annotated[str, who], dataclasses.field(default=agent)),
            ("agent_settings", Annotated[group, tyro.conf.OmitArgPrefixes], dataclasses.field(default_factory=group)),
        ],
        bases=(settings,),
    )
    together.__doc__ = settings.__doc__
    chosen: Any = tyro.cli(together, args=list(words))
    names = {option: setting.name for option, setting in known.items()} | {option: option for option in short}
    found = {
        option: str(getattr(chosen.agent_settings, name))
        for option, name in names.items()
        if option in given or f"no-{option}" in given
    }
    return chosen, found


def assigned(assignments: Iterable[str]) -> list[tuple[str, str]]:
    """Parse the name=value words of --set. Raise ValueError for anything else."""
    found = []
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set takes name=value, not {assignment!r}.")
        found.append((name, value))
    return found


def with_settings(agent: Any, given: Mapping[str, str], assignments: Iterable[str] = ()) -> Any:
    """Return the agent with the settings from flags and --set. Raise ValueError for a setting that is given twice."""
    together = dict(given)
    for name, value in assigned(assignments):
        option = name.strip("_").replace("_", "-")
        if option in together:
            raise ValueError(f"{name} is given twice, as --{option} and in --set, or twice in --set; give it once.")
        together[option] = value
    return text.changed(agent, together)


def asks_for_help(words: Sequence[str]) -> bool:
    return "-h" in words or "help" in _given(words)


def words() -> list[str]:
    """Return the words of this program's command line."""
    return sys.argv[1:]


def _given(words: Sequence[str]) -> list[str]:
    """Return the flags on a command line, without leading dashes and with dashes instead of underscores."""
    return [word[2:].split("=")[0].replace("_", "-") for word in words if word.startswith("--") and len(word) > 2]


def _options(settings: Any) -> list[str]:
    """Return the flags of a script."""
    names = [field.name.replace("_", "-") for field in dataclasses.fields(settings)]
    return [
        *names,
        *(f"no-{f.name.replace('_', '-')}" for f in dataclasses.fields(settings) if f.type in ("bool", bool)),
    ]


def _field(setting: text.Setting) -> tuple[Any, Any]:
    """Return the type and the default of a dataclass field, from which tyro makes the flag of a setting."""
    note = tyro.conf.arg(name=setting.option, help=setting.what, metavar=None if setting.flag else "VALUE")
    kind: Any = bool if setting.flag else str
    return Annotated[kind, note], dataclasses.field(default=setting.value == "True" if setting.flag else setting.value)


def _unknown(option: str, agent: str, presets: Mapping[str, Any], known: Iterable[str]) -> str:
    """Return the error message for an unknown flag."""
    close = difflib.get_close_matches(option, list(known), 1)
    hint = f" Did you mean --{close[0]}?" if close else ""
    others = text.owners(option.removeprefix("no-"), presets) or text.owners(option, presets)
    if others:
        of = ", ".join(others[:6]) + ", ..." * (len(others) > 6)
        return f"--{option} is not a setting of {agent}, but of {of}.{hint} --agent {agent} --help lists its settings."
    return f"There is no flag --{option}.{hint} --agent {agent} --help lists the flags."
