"""Plain values into frozen ones, and msgspec's complaints into the house's words."""

import re
from typing import Any

import msgspec
from msgspec import Struct

from rigorl.alarms import AlarmSpec
from rigorl.errors import SpecError, nearest
from rigorl.searches import Prune, Search
from rigorl.seeds import SeedPlan
from rigorl.spec import Spec


def convert(raw: Any, kind: Any, at: str, known: frozenset[str] = frozenset()) -> Any:
    """Return the plain value *raw* as a *kind*, or say what is wrong with it, and where.

    *at* is the address of *raw* in the file, *known* the keys that could have been meant.
    """
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `")
        where = where.rstrip("`").removeprefix("$")
        raise SpecError(_explain(what, _fact(raw, where), known or _keys()), at + where) from error


def _explain(what: str, fact: str, known: frozenset[str]) -> str:
    """Put msgspec's words into the house's: law, fact, way out."""
    if unknown := re.match(r"Object contains unknown field `(.*)`", what):
        key = unknown[1]
        return f"a key must be one that is known here, but {key!r} is not{nearest(key, known)}"
    if missing := re.match(r"Object missing required field `(.*)`", what):
        return f"{missing[1]!r} must be given, but is missing; add it"
    if wrong := re.match(r"Expected (.*), got (.*)", what):
        return f"this must be {wrong[1]}, but is {wrong[2]} {fact}; correct it"
    if enum := re.match(r"Invalid enum value (.*)", what):
        return f"this must be a word that is known here, but is {enum[1]}; docs/yaml.md names them"
    if law := re.match(r"Expected (.*)", what):
        return f"this must be {law[1]}, but is {fact}; correct it"
    return what


def _keys() -> frozenset[str]:
    """Return every key of a spec."""
    kinds: list[type[Struct]] = [SeedPlan, Search, Prune, AlarmSpec, *Spec.__subclasses__()]
    return frozenset(f.encode_name for kind in kinds for f in msgspec.structs.fields(kind))


def _fact(raw: Any, where: str) -> str:
    """Return what stands at the address *where* below *raw*, shortly."""
    for key, index in re.findall(r"\.([\w-]+)|\[(\d+)\]", where):
        try:
            raw = raw[key] if key else raw[int(index)]
        except (KeyError, IndexError, TypeError):
            break
    text = repr(raw)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004
