"""Extraction of parameter descriptions from the running text of docstrings: `name: what it is. other, names: what they are.`"""

from __future__ import annotations

import re

HEAD = re.compile(r"(?:^|(?<=[.;)]\s)|(?<=\n))([a-z]\w*(?:, [a-z]\w*)*): ", re.MULTILINE)
RAISES = re.compile(r"(?<=[.)])\s+(?=Raises\s[A-Z])")


def separated(text: str, names: set[str]) -> tuple[str, dict[str, str]]:
    """A docstring's paragraphs without the descriptions of these parameters, and the descriptions, each in one line."""
    kept, found = [], {}
    for paragraph in text.split("\n\n"):
        described, *raises = RAISES.split(paragraph, maxsplit=1)
        heads = [head for head in HEAD.finditer(described) if set(head[1].split(", ")) <= names]
        if not heads or not kept:  # the first paragraph is the summary
            kept.append(paragraph)
            continue
        ends = [head.start() for head in heads[1:]] + [len(described)]
        for head, end in zip(heads, ends, strict=True):
            said = " ".join(described[head.end() : end].split())
            found |= {name: said[:1].upper() + said[1:] for name in head[1].split(", ")}
        kept += [part for part in (described[: heads[0].start()].strip(), *raises) if part]
    return "\n\n".join(kept), found
