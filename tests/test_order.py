"""What a study sends to a cluster, and what must hold there first: told from the probe's facts."""

import platform
import shlex
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import TINY, tiny
from rigorl.errors import JobError, SpecError
from rigorl.outside import signals
from rigorl.outside.on_ray import order, probe, refusals
from rigorl.outside.on_ray.order import Order

OURS = "0123456789ab"


@pytest.fixture
def plain(tmp_path: Path) -> Order:
    file = tmp_path / "tiny.yaml"
    file.write_text("name: tiny")
    return Order(spec=tiny(), file=file, home="/shared")


def facts(**changes: Any) -> dict[str, Any]:
    """Return what the probe says of a cluster that is as it should be."""
    return {
        "python": platform.python_version(),
        "executable": "/usr/bin/python",
        "rigorl": OURS,
        "missing": [],
        "nodes": [],
        "fleet": on({"CPU": 4.0}),
        "grows": False,
        "journal_error": "",
        "storage_error": "",
        "kept": {"home": "/shared", "storage": "/shared/trials", "journal": "/shared"},
        "passing": [],
        "unwritable": {},
        **changes,
    }


def on(*nodes: dict[str, float], **labels: str) -> list[dict[str, Any]]:
    """Return a fleet of nodes with these resources, as the probe tells it."""
    return [{"name": f"n{i}", "resources": n, "labels": labels} for i, n in enumerate(nodes)]


def node(**changes: Any) -> dict[str, Any]:
    same = {key: facts()[key] for key in ("python", "executable", "rigorl", "missing")}
    return {"node": "10.0.0.7", "id": "abcdef", "unseen": [], **same, **changes}


def test_the_id_follows_from_the_study_and_where_it_is_kept(plain: Order) -> None:
    assert plain.id == plain._replace(changes=("budget.steps=10",), accept_code=True).id
    others = [
        plain._replace(spec=tiny(name="other")),
        plain._replace(home="/elsewhere"),
        plain._replace(journal="postgresql://host/db"),
        plain._replace(storage="s3://bucket"),
    ]
    assert len({plain.id, *(other.id for other in others)}) == 5
    assert [order.attempt(plain.id + end, plain.id) for end in ("", "-2", "-12", "-x", "0")] == [
        1,
        2,
        12,
        0,
        0,
    ]


def test_what_the_shell_runs_reaches_rigorl_as_it_was_said(plain: Order) -> None:
    wild = plain._replace(changes=("question=Is it 'so'; $HOME?",), mlflow="none")
    command = order.entrypoint(wild, {"home": "/a b"})
    said = command.replace("exec python -m rigorl", "printf '%s\\n'")
    done = subprocess.run(["/bin/sh", "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        *("run", "tiny.yaml", "--set", "question=Is it 'so'; $HOME?"),
        *("--home", "/a b", "--mlflow", "none"),
    ]


def test_a_path_that_is_said_here_means_the_same_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ["", "x", "/x", "~/x", "s3://b/x"]
    assert [order.absolute(p) for p in said] == ["", f"{tmp_path}/x", "/x", "~/x", "s3://b/x"]
    urls = ["", "sqlite:///j.db", "sqlite:////x/j.db", "postgresql://host/db"]
    whole = [f"sqlite:///{tmp_path}/j.db", "sqlite:////x/j.db", "postgresql://host/db"]
    assert [order.whole(url) for url in urls] == ["", *whole]


def test_what_is_not_given_is_left_to_the_nodes(plain: Order) -> None:
    bare = plain._replace(home="")
    assert shlex.split(order.entrypoint(bare, {})) == shlex.split(
        "exec python -m rigorl run tiny.yaml"
    )


def test_a_container_brings_its_files_in_its_command(plain: Order) -> None:
    text = "name: 'tiny' # $HOME\n"
    plain.file.write_text(text)
    inside = plain._replace(image="registry/rigorl:1")
    command = order.carried(inside, "cat tiny.yaml probe.json", {"probe.json": '{"a": "b\'c"}'})
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == text + '{"a": "b\'c"}'
    assert order.runtime_env(inside, plain.file, plain.file).keys() == {"image_uri", "env_vars"}


def test_nothing_travels_but_the_spec_the_probe_and_what_is_named(
    plain: Order, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").touch()
    lab = tmp_path / "my_lab"
    (lab / "__pycache__").mkdir(parents=True)
    (lab / "__init__.py").touch()
    (lab / ".env").touch()
    folder = tmp_path / "work"
    folder.mkdir()
    order.lay_out(plain._replace(shipped=(lab,)), folder)
    there = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert there == sorted(["tiny.yaml", order.SCRIPT, probe.ASK, "my_lab/__init__.py"])
    with pytest.raises(SpecError, match="--with must name a module or a package that is here"):
        order.lay_out(plain._replace(shipped=(tmp_path / "none",)), folder)


def test_code_travels_whole_and_without_what_python_made_of_it(
    plain: Order, tmp_path: Path
) -> None:
    env = order.runtime_env(plain._replace(code=True), tmp_path, tmp_path / "code")
    (source,) = map(Path, env["py_modules"])
    assert source.name == "rigorl"
    assert (source / "outside" / "journal" / "migrations" / "env.py").exists()
    assert not list(source.rglob("__pycache__"))
    assert "uv" not in env


def test_ray_leaves_a_driver_the_time_of_a_gentle_stop_and_of_mlflow(plain: Order) -> None:
    env = order.runtime_env(plain, plain.file, plain.file)
    assert int(env["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) >= signals.PATIENCE + 30
    assert set(env) == {"working_dir", "env_vars"}


def test_the_lock_holds_what_is_needed_in_the_versions_that_are_here() -> None:
    pins = dict(pin.split("==") for pin in order.closure())
    assert {"torch", "msgspec", "sqlalchemy", "mujoco", "aiohttp", "alembic"} <= pins.keys()
    assert pins["msgspec"] == msgspec.__version__
    assert "+" not in pins["torch"]
    assert not {"ray", "rigorl", "pytest", "ruff", "stable-baselines3"} & pins.keys()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@host/db",
        "postgresql://me@host/db?password=hunter2",
        "postgresql://me:hunter2/#?@host/db",
        "https://hunter2@mlflow.example",
        "postgresql://me@host/db?sslpassword=hunter2",
        "https://me:hunter2@mlflow.example",
        "s3://bucket?secret_key=hunter2",
    ],
)
@pytest.mark.parametrize("word", ["journal", "mlflow", "storage"])
def test_a_password_is_refused_and_not_said_aloud(plain: Order, url: str, word: str) -> None:
    with pytest.raises(SpecError, match=f"must hold no secret, but --{word}") as caught:
        order.check_secrets(plain._replace(**{word: url}))
    assert "hunter2" not in str(caught.value)
    assert "cluster's own environment" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@host/db?passfile=/etc/pgpass&sslkey=/etc/key",
        "sqlite:////shared/journal.db",
        "https://mlflow.example:5000/path",
        "s3://bucket/prefix?region=eu&endpoint_override=host",
        "none",
        "~/x",
    ],
)
def test_what_holds_no_password_may_travel(plain: Order, url: str) -> None:
    order.check_secrets(plain._replace(journal=url, mlflow=url, storage=url))


def test_the_value_of_a_secret_variable_does_not_travel(
    plain: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "planted-secret")
    order.check_secrets(plain)
    with pytest.raises(SpecError, match="the value of RAY_AUTH_TOKEN"):
        order.check_secrets(plain._replace(changes=("question=planted-secret, is it?",)))
    plain.file.write_text("name: planted-secret")
    with pytest.raises(SpecError, match="the value of RAY_AUTH_TOKEN"):
        order.check_secrets(plain)


def test_a_cluster_as_it_should_be_is_not_remarked_upon(plain: Order) -> None:
    assert refusals.judge(plain, facts(), OURS) == []
    assert refusals.judge(plain, facts(nodes=[node()]), OURS) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"python": "3.14.1"}, r"must run the Python .* is 3\.14\.1"),
        ({"rigorl": None}, "/usr/bin/python on the cluster cannot import it; build the image"),
        ({"rigorl": "other"}, "with the source 0123456789ab, but the cluster has the source other"),
        ({"missing": ["my_lab.one"]}, "no module my_lab.one; ship it with --with"),
        ({"fleet": []}, "none ever does: there is no node; no autoscaler"),
        ({"journal_error": "the journal must be"}, "seen from the cluster: the journal must be"),
        ({"storage_error": "what a trial keeps"}, "seen from the cluster: what a trial"),
        ({"unwritable": {"/shared": "Permission denied"}}, "/shared there: Permission denied"),
        ({"passing": ["home"]}, "/shared lies on the head's own disk; .* --keep-on-head"),
        ({"kept": {"home": "", "storage": ""}}, "no place is named .* RIGORL_HOME"),
        ({"nodes": [node(python="3.10.2")]}, r"that of node 10\.0\.0\.7 \(abcdef\) is 3\.10\.2"),
        ({"nodes": [node(missing=["my_lab.one"])]}, r"node 10\.0\.0\.7 .* no module my_lab.one"),
        ({"nodes": [node(rigorl="x")]}, r"node 10\.0\.0\.7 \(abcdef\) has the source x"),
        ({"nodes": [node(unseen=["/shared"])]}, "where every node sees them, .* --storage"),
        ({"nodes": [node(storage_error="no such")]}, r"seen from node 10\.0\.0\.7 .*: no such"),
        ({"nodes": [{"node": "a", "id": "b", "error": "gone"}]}, "of node a .* is said: gone"),
    ],
)
def test_what_would_fail_or_be_lost_is_refused(
    plain: Order, found: dict[str, Any], said: str
) -> None:
    with pytest.raises(JobError, match=said):
        refusals.judge(plain, facts(**found), OURS)


def test_what_other_nodes_see_is_not_the_heads_alone(plain: Order) -> None:
    assert refusals.judge(plain, facts(passing=["home"], nodes=[node()]), OURS) == []


def test_what_is_kept_on_the_head_is_said_aloud(plain: Order) -> None:
    (said,) = refusals.judge(plain._replace(keep_on_head=True), facts(passing=["home"]), OURS)
    assert "kept in /shared, on the head's own disk" in said


@pytest.mark.parametrize(
    ("asked", "fleet", "said"),
    [
        ({"budget": {"gpus": 1}}, on({"CPU": 4}), "none ever does: asks for 1 CPU and 1 GPU"),
        ({"budget": {"gpus": 1.5}}, on({"CPU": 4, "GPU": 2}), "asks for 1 CPU and 1.5 GPUs"),
        ({"placement": {"crew": {"size": 4}}}, on({"CPU": 2}), "its 5 processes ask for 5 CPUs"),
        (
            {"placement": {"crew": {"size": 1}, "strategy": "STRICT_SPREAD"}},
            on({"CPU": 8}),
            "a node each",
        ),
        ({"placement": {"learner": {"labels": {"zone": "a"}}}}, on({"CPU": 1}, zone="b"), "label"),
        ({"placement": {"learner": {"labels": {"zone": "in(a,b)"}}}}, on({"CPU": 1}, zone="b"), ""),
        ({"budget": {"gpus": 0.5}}, on({"CPU": 0}, {"CPU": 1, "GPU": 1, "node:x": 1}), ""),
    ],
)
def test_a_trial_must_fit_as_the_plan_says(
    plain: Order, asked: dict[str, Any], fleet: list[dict[str, Any]], said: str
) -> None:
    """One rule: what `rigorl plan --cluster` never fits is refused, and nothing else."""
    budget = {**TINY["budget"], **asked.get("budget", {})}
    wanted = plain._replace(spec=tiny(**{**asked, "budget": budget}))
    if not said:
        assert refusals.judge(wanted, facts(fleet=fleet), OURS) == []
        return
    with pytest.raises(JobError, match=said):
        refusals.judge(wanted, facts(fleet=fleet), OURS)
    assert (
        "autoscaler is to help" in refusals.judge(wanted, facts(fleet=fleet, grows=True), OURS)[-1]
    )


def test_nodes_that_are_still_to_come_could_not_be_asked(plain: Order) -> None:
    assert "could not be asked" in refusals.judge(plain, facts(grows=True), OURS)[0]
    assert refusals.judge(plain, facts(grows=True, nodes=[node()]), OURS) == []


def test_a_file_that_several_machines_might_open_is_remarked_upon(plain: Order) -> None:
    file = {"file": "/shared/journal.db"}
    assert "SQLite bears one machine at a time" in refusals.judge(plain, facts(**file), OURS)[0]
    own = facts(**file, passing=["journal"], nodes=[node()])
    assert refusals.judge(plain, own, OURS) == []


def test_what_is_shipped_must_have_a_name_of_its_own_and_be_readable(
    plain: Order, tmp_path: Path
) -> None:
    for name in ("a/lab", "b/lab", "c/broken"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "c" / "broken" / "gone").symlink_to("nowhere")
    ours = [(tmp_path / "a" / "lab", tmp_path / "b" / "lab"), (plain.file,)]
    for number, shipped in enumerate(ours):
        folder = tmp_path / f"work{number}"
        folder.mkdir()
        with pytest.raises(SpecError, match="two things are called"):
            order.lay_out(plain._replace(shipped=shipped), folder)
    (folder := tmp_path / "work").mkdir()
    with pytest.raises(SpecError, match=r"--with names must be readable, but of .*broken"):
        order.lay_out(plain._replace(shipped=(tmp_path / "c" / "broken",)), folder)


def test_a_secret_in_what_is_shipped_does_not_travel(
    plain: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    (lab := tmp_path / "lab").mkdir()
    (lab / "settings.py").write_text("KEY = 'planted-secret'")
    (folder := tmp_path / "work").mkdir()
    with pytest.raises(SpecError, match=r"lab/settings.py, which is sent, .* AWS_SECRET_ACC"):
        order.lay_out(plain._replace(shipped=(lab,)), folder)


def test_another_spec_of_the_same_name_is_told_apart(plain: Order) -> None:
    other = plain._replace(spec=tiny(seeds={"test": [0, 1, 2]}))
    assert plain.id == other.id
    assert plain.content != other.content
    assert plain.content == plain._replace(spec=tiny(), changes=("x=1",)).content
    turned = [
        tiny(tasks=[TINY["tasks"][0] | {"kwargs": dict(items)}])
        for items in ([("a", 1), ("b", 2)], [("b", 2), ("a", 1)])
    ]
    assert len({plain._replace(spec=spec).content for spec in turned}) == 1
