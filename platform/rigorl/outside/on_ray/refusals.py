"""What must hold of a cluster before anything of a study is sent there. Without Ray.

What the probe found is judged here: the first thing that does not hold is an error, and what is
worth knowing is returned.
"""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from rigorl.errors import JobError
from rigorl.fitting import Node, never
from rigorl.outside.on_ray.amounts import counted
from rigorl.outside.on_ray.order import Order
from rigorl.resources import Needs

Facts = Mapping[str, Any]
CODE = (
    "build the image from this source, or let --code ship this source, or --env lock all that it "
    "needs too"
)


def judge(order: Order, facts: Facts, rigorl: str | None) -> list[str]:
    """Refuse what would fail there or be lost; return remarks. *rigorl* is ours, as a hash."""
    _check_python("the cluster's", facts)
    _check_rigorl("the cluster", facts, rigorl)
    _check_modules("the cluster", facts)
    for node in facts["nodes"]:
        _check_node(node, rigorl)
    short = _check_needs(order, facts)
    for what in ("journal_error", "storage_error"):
        if facts[what]:
            raise JobError(f"seen from the cluster: {facts[what]}")
    return [*_check_places(order, facts), *_remarks(facts), *([short] if short else [])]


def _check_python(whose: str, facts: Facts) -> None:
    ours, theirs = platform.python_version(), facts["python"]
    if ours.split(".")[:2] != theirs.split(".")[:2]:
        raise JobError(
            f"a cluster must run the Python that a study was tried with, but {whose} is {theirs} "
            f"({facts['executable']}) and this is {ours}; use an image with {_minor(ours)}, or "
            f"submit from {_minor(theirs)}"
        )


def _minor(python: str) -> str:
    return "Python " + ".".join(python.split(".")[:2])


def _check_rigorl(whose: str, facts: Facts, ours: str | None) -> None:
    if facts["rigorl"] is None:
        raise JobError(
            f"a cluster must have rigorl, but {facts['executable']} on {whose} cannot import it; "
            f"{CODE}"
        )
    if facts["rigorl"] != ours:
        raise JobError(
            f"a cluster must run this very rigorl, {version('rigorl')} with the source {ours}, but "
            f"{whose} has the source {facts['rigorl']}; {CODE}"
        )


def _check_modules(whose: str, facts: Facts) -> None:
    if facts["missing"]:
        raise JobError(
            f"what a spec names must be importable where it is played, but {whose} has no module "
            f"{', '.join(facts['missing'])}; ship it with --with PATH, or put it into the image"
        )


def _check_node(node: Facts, rigorl: str | None) -> None:
    whose = f"node {node['node']} ({node['id']})"
    if "error" in node:
        raise JobError(
            f"each node must be able to work, but of {whose} is said: {node['error']}; mend it "
            "or take it out of the cluster"
        )
    _check_python(f"that of {whose}", node)
    _check_rigorl(whose, node, rigorl)
    _check_modules(whose, node)


def _check_needs(order: Order, facts: Facts) -> str:
    """Refuse trials that never fit; return a remark if an autoscaler is to make room."""
    fleet = [
        Node(node["name"], counted(node["resources"], node["labels"]), Needs(0))
        for node in facts["fleet"]
    ]
    lacking = never(order.spec.needs, order.spec.placement.strategy, fleet)
    if lacking and not facts["grows"]:
        raise JobError(
            f"a trial must fit on the cluster, but none ever does: {lacking}; no autoscaler adds "
            "nodes, so ask for less in budget or placement, or choose a cluster that has it"
        )
    return f"no trial fits yet ({lacking}); the cluster's autoscaler is to help" if lacking else ""


def _check_places(order: Order, facts: Facts) -> list[str]:
    """Refuse a study that would be lost with the head, or that not every node sees."""
    kept = facts["kept"]
    if not kept["storage"] or kept.get("home") == "":
        raise JobError(
            "a study must be kept where it outlives the cluster's head, but no place is named and "
            f"the nodes have no RIGORL_HOME; {_ways_to_last(order)}"
        )
    for path, why in facts["unwritable"].items():
        raise JobError(
            f"a study must be kept where the head can write, but {path} there: {why}; choose "
            "another with --home or --storage"
        )
    for node in facts["nodes"]:
        if node["unseen"]:
            raise JobError(
                "checkpoints must lie where every node sees them, but what the head left in "
                f"{', '.join(sorted(set(kept.values()) - {''}))} is not seen by node "
                f"{node['node']} ({node['id']}), which looked in {', '.join(node['unseen'])}; "
                "choose a shared folder or an object store with --storage"
            )
        if node.get("storage_error"):
            where = f"node {node['node']} ({node['id']})"
            raise JobError(f"seen from {where}: {node['storage_error']}")
    passing = sorted({kept[what] for what in facts["passing"]})
    if not passing or facts["nodes"]:  # other nodes see it: it is not the head's alone
        return []
    where = ", ".join(passing)
    if order.keep_on_head:
        return [f"kept in {where}, on the head's own disk: what the head loses is lost"]
    raise JobError(
        f"a study must be kept where it outlives the cluster's head, but {where} lies on the "
        f"head's own disk; {_ways_to_last(order)}"
    )


def _ways_to_last(order: Order) -> str:
    """Say what to name: a database and a store if a server is meant, a folder else."""
    ways = "name a folder that every node sees with --home"
    if order.journal and order.storage:
        ways += ", or an MLflow server with --mlflow (or none)"
    else:
        ways += ", or a database with --journal and an object store with --storage"
    return f"{ways}; if the cluster is this very machine, say --keep-on-head"


def _remarks(facts: Facts) -> Sequence[str]:
    said = []
    if facts.get("file") and "journal" not in facts["passing"]:
        said.append(
            f"the journal, {facts['file']}, lies on another machine's disk, where SQLite bears one "
            "machine at a time: while the study runs, look at it from the head, or keep it in "
            "PostgreSQL with --journal"
        )
    if facts["grows"] and not facts["nodes"]:
        said.append("nodes that come later could not be asked whether they see where it is kept")
    return said
