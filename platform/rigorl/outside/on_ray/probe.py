"""What a cluster is like from the inside: a script that travels with a job, and reports in JSON.

It runs where rigorl may be missing, so it imports nothing but the standard library until it
knows better, and neither torch nor MLflow ever: who asks is waiting.
"""

import hashlib
import importlib.util
import json
import os
import platform
import re
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

MARK = "rigorl-probe "
"""Begins the line with the report, among whatever else a job may print."""
ASK = "probe.json"
NODE_S, JOURNAL_S, AT_ONCE = 30.0, 3.0, 8
"""Seconds for which a node, and the journal, may keep silent; requests to a bucket at once."""
SHARED = re.compile(r"nfs4?|cifs|smb3|ceph|lustre|beegfs|gpfs|glusterfs|9p|virtiofs|fuse\..*")
"""Kinds of file systems that lie on another machine; all of FUSE's may."""
Facts = dict[str, Any]


def main() -> None:
    ask = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else ASK).read_text())
    facts = node_facts(ask["modules"])
    if facts["rigorl"] == ask["rigorl"]:
        facts |= places(ask)
        facts |= whole(ask, facts["kept"])
    print(MARK + json.dumps(facts), flush=True)  # noqa: T201  the report


def node_facts(modules: Sequence[str]) -> Facts:
    """Return what this node's Python is and has."""
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "rigorl": fingerprint(),
        "missing": [name for name in modules if not is_there(name)],
    }


def fingerprint() -> str | None:
    """Return a hash of the source of the rigorl that is here; None if none is."""
    found = importlib.util.find_spec("rigorl")
    if found is None or found.origin is None:
        return None
    root = Path(found.origin).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def is_there(module: str) -> bool:
    """Say whether *module* could be imported; only the packages that it is in are."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def places(ask: Facts) -> Facts:
    """Return where the study would be kept, as the head sees it."""
    home = _resolved(ask["home"] or os.environ.get("RIGORL_HOME", ""))
    storage = ask["storage"] or os.environ.get("RIGORL_STORAGE", "")
    storage = storage or (f"{home}/trials" if home else "")
    journal = ask["journal"] or os.environ.get("RIGORL_JOURNAL", "")
    mlflow = ask["mlflow"] or os.environ.get("MLFLOW_TRACKING_URI", "")
    url = journal or (f"sqlite:///{home}/journal.db" if home else "")
    wrong = _misnamed(storage) if is_url(storage) else ""
    kept = {"storage": storage if is_url(storage) else _resolved(storage)}
    if wrong:
        kept["storage"] = ""  # there may be a secret in it
    if not mlflow or not journal:
        kept["home"] = home
    found: Facts = {"home": home, "journal": "", "journal_error": "", "storage_error": wrong}
    if url:
        found |= _journal(url)
        if found.get("file"):
            kept["journal"] = str(Path(found["file"]).parent)
    found["passing"] = sorted(what for what, place in kept.items() if not _outlasts(place))
    found["kept"] = kept
    return found


def _misnamed(storage: str) -> str:
    """Say what is wrong with a bucket's URL, without any secret; nothing is asked of it yet."""
    from rigorl.errors import SpecError  # noqa: PLC0415  only now it is known to be here
    from rigorl.outside.bucket import address  # noqa: PLC0415

    try:
        address(storage)
    except SpecError as error:
        return str(error)
    return ""


def _journal(url: str) -> Facts:
    """Return how the journal at *url* may be called aloud, and why it cannot be used, if so."""
    from rigorl.errors import JournalError  # noqa: PLC0415  only now it is known to be here
    from rigorl.outside.journal.database import Database  # noqa: PLC0415

    try:
        database = Database(url)
        file = str(Path(database.url.database or "").absolute()) if database.is_file else ""
        if not file or Path(file).exists():
            database.write(lambda _: None, patience=JOURNAL_S)
    except JournalError as error:
        return {"journal_error": str(error)}
    return {"journal": database.name.replace(":***@", "@"), "file": file}


def whole(ask: Facts, kept: Mapping[str, str]) -> Facts:
    """Return what only the whole cluster can tell: its nodes, and what all of them see."""
    import ray  # noqa: PLC0415  the probe must speak even where Ray cannot be imported

    ray.init(log_to_driver=False, logging_level="error")
    alive = [node for node in ray.nodes() if node["Alive"]]
    here = ray.get_runtime_context().get_node_id()
    tokens = {node["NodeID"]: secrets.token_hex(8) for node in alive if node["NodeID"] != here}
    paths = sorted({place for place in kept.values() if place and not is_url(place)})
    bucket = kept["storage"] if is_url(kept["storage"]) else ""
    token = secrets.token_hex(8)
    trouble = {}
    for path in paths:
        try:
            leave(path, token)
        except OSError as error:
            trouble[path] = error.strerror or str(error)
    wrong = _wrong(bucket, leaving=[token, *tokens.values()], finding=[token])
    asked = {**ask, "paths": paths, "token": token, "bucket": "" if wrong else bucket}
    others = _ask_nodes(ray, [node for node in alive if node["NodeID"] in tokens], asked, tokens)
    for node in others:
        _note_what_is_shared(node, asked["bucket"])
    for path in paths:
        forget(path, token)
    _wrong(asked["bucket"], finding=tokens.values())  # those that nobody took away
    return {
        "nodes": others,
        "fleet": [
            {"name": node["NodeName"], "resources": node["Resources"], "labels": node["Labels"]}
            for node in alive
        ],
        "unwritable": trouble,
        "grows": _grows(ray),
        **({"storage_error": wrong} if wrong else {}),
    }


def _ask_nodes(
    ray: Any, nodes: Sequence[Facts], ask: Facts, tokens: Mapping[str, str]
) -> list[Facts]:
    """Return what each of *nodes* sees; one that keeps silent says so."""
    from ray.util.scheduling_strategies import (  # noqa: PLC0415
        NodeAffinitySchedulingStrategy as OnNode,
    )

    task = ray.remote(num_cpus=0, max_retries=0)(look_around)
    asked = {
        task.options(scheduling_strategy=OnNode(node["NodeID"], soft=False)).remote(
            {**ask, "own": tokens[node["NodeID"]]}
        ): node
        for node in nodes
    }
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=NODE_S) if asked else ([], [])
    lost = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
    found = []
    for answer, node in asked.items():
        said: Facts = {"error": f"it did not answer within {NODE_S:.0f} s"}
        if answer in ready:
            try:
                said = ray.get(answer)
            except ray.exceptions.RayError as error:
                said = {"error": str(error).strip().splitlines()[-1]}
        if "error" not in said or node["NodeID"] not in lost:  # it went away just now
            found.append({"node": node["NodeManagerAddress"], "id": node["NodeID"][:6], **said})
    return found


def look_around(ask: Facts) -> Facts:
    """Return, from a node, what it is like, and which places it sees as the head does."""
    found = node_facts(ask["modules"])
    mine = f"{ask['token']}-{secrets.token_hex(4)}"
    found |= {"unseen": [], "left": mine, "paths": ask["paths"]}
    for path in _as_asked(ask):
        try:
            if not find(path, ask["token"]):
                found["unseen"].append(path)  # and nothing is left where nobody would clear it
            else:
                leave(path, mine)
        except OSError as error:
            found["unseen"].append(f"{path} ({error.strerror})")
    if found["rigorl"] == ask["rigorl"]:
        found["storage_error"] = _wrong(ask["bucket"], leaving=[mine], finding=[ask["own"]])
    return found


def _wrong(bucket: str, *, leaving: Sequence[str] = (), finding: Iterable[str] = ()) -> str:
    """Leave tokens in *bucket* and take others away; say why not, or that they are not there."""
    if not bucket:
        return ""
    from rigorl import checkpoint  # noqa: PLC0415  only now it is known to be here
    from rigorl.errors import RigorlError  # noqa: PLC0415
    from rigorl.outside.bucket import AT_FIRST, opened  # noqa: PLC0415

    try:
        store = opened(bucket, AT_FIRST)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(partial(checkpoint.leave, store), leaving))
            there = list(pool.map(partial(checkpoint.find, store), finding))
    except RigorlError as error:
        return str(error)
    return "" if all(there) else f"{store} does not show what was written there by others"


def _as_asked(ask: Facts) -> list[str]:
    """Return the paths as this node reads them: a home of its own (`~`) is another place."""
    own = [ask["home"], ask["storage"]]
    at_home = [_resolved(path) for path in own if path.startswith("~")]
    return sorted({*ask["paths"], *at_home})


def _note_what_is_shared(node: Facts, bucket: str) -> None:
    """Count as unseen what a node wrote and the head does not find."""
    left = node.pop("left", "")
    for path in node.pop("paths", ()):
        if not find(path, left) and path not in node["unseen"]:
            node["unseen"].append(path)
        forget(path, left)
    if left and bucket and not node.get("storage_error"):
        node["storage_error"] = _wrong(bucket, finding=[left])


def leave(folder: str, token: str) -> None:
    """Leave a file named after *token* in *folder*."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / f".rigorl-{token}").write_text(token)


def find(folder: str, token: str) -> bool:
    """Say whether what `leave` left is in *folder*."""
    return (Path(folder) / f".rigorl-{token}").exists()


def forget(folder: str, token: str) -> None:
    with suppress(OSError):
        (Path(folder) / f".rigorl-{token}").unlink(missing_ok=True)


def _grows(ray: Any) -> bool:
    """Say whether an autoscaler watches over this cluster.

    A head that was started by hand runs one that only looks: it calls each node a type of its
    own, and tells the head nothing.
    """
    from ray.autoscaler.v2.sdk import get_cluster_status  # noqa: PLC0415

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    if status.stats.autoscaler_version not in (None, "", "0"):
        return True
    from ray.experimental.internal_kv import _internal_kv_get  # noqa: PLC0415

    said = json.loads(_internal_kv_get(b"__autoscaling_status") or b"{}")
    types = (said.get("autoscaler_report") or {}).get("active_nodes") or {}
    return any(not name.startswith("node_") for name in types)


def _outlasts(place: str) -> bool:
    """Say whether *place* is known to lie elsewhere than on this machine's own disk."""
    if is_url(place):
        return True
    if not place or not Path("/proc/self/mounts").exists():
        return False
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [str(path) for path in (Path(place), *Path(place).parents)]
    kinds = [kind for where in above for point, kind in reversed(mounts) if point == where]
    return bool(kinds) and SHARED.fullmatch(kinds[0]) is not None


def is_url(place: str) -> bool:
    """Say whether *place* is a store of its own, and no path."""
    return "://" in place and not place.startswith("file://")


def _resolved(path: str) -> str:
    return str(Path(path.removeprefix("file://")).expanduser().absolute()) if path else ""


if __name__ == "__main__":
    main()
