"""Plain values into frozen ones, and msgspec's complaints into the house's words."""

import re
from typing import Any

import msgspec
from msgspec import Struct, inspect

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
        fact = _fact(raw, where)
        if known and where:  # in a table of an agent's setting
            keys = re.findall(r"\.([\w-]+)", where)
            tagged = _tagged(what, fact, kind, raw, keys)
            if tagged:
                raise SpecError(tagged, at + where) from error
            meant = _may_stand(inspect.type_info(kind), raw, keys)
            known = frozenset(f.encode_name for struct in meant for f in struct.fields)
        raise SpecError(_explain(what, fact, known or _keys()), at + where) from error


def _tagged(what: str, fact: str, kind: Any, raw: Any, keys: list[str]) -> str | None:
    """Return what is wrong where one of several structs must stand, if it is which one."""
    wrong_tag = what.startswith("Invalid value")
    meant = _may_stand(inspect.type_info(kind), raw, keys[:-1] if wrong_tag else keys)
    tags = {str(struct.tag): struct.tag_field for struct in meant if struct.tag is not None}
    if not tags:
        return None
    if wrong_tag:
        return f"a {keys[-1]} must be one that is known here, but {fact} is not" + nearest(
            fact.strip("'"), tags
        )
    field = next(iter(tags.values()))
    if what == f"Object missing required field `{field}`" or what.startswith("Expected `object`"):
        return (
            f"this must be a table with a {field}, but is {fact}; write {{{field}: NAME}}, and "
            f"as NAME one of {', '.join(sorted(tags))}"
        )
    return None


def _may_stand(kind: inspect.Type, raw: Any, keys: list[str]) -> list[inspect.StructType]:
    """Return the structs that may stand at *keys* in *raw*; of several, what it is tagged as."""
    options = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    structs = [option for option in options if isinstance(option, inspect.StructType)]
    if isinstance(raw, dict):
        structs = [s for s in structs if s.tag and raw.get(s.tag_field) == s.tag] or structs
    if not keys:
        return structs
    below = raw.get(keys[0]) if isinstance(raw, dict) else None
    fields = [field for struct in structs for field in struct.fields]
    found = [field for field in fields if field.encode_name == keys[0]]
    return [struct for field in found for struct in _may_stand(field.type, below, keys[1:])]


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
