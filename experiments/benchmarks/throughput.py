"""Compare our speed with our peers', in one run: PPO, SAC, worlds, learning curves, memory.

    python experiments/benchmarks/throughput.py [--rounds 3] [--seconds 20] [--only ppo worlds ...]

Peers take turns, a process each, so a busy moment of the machine meets them all; figures are
medians over rounds, and ratios those of one and the same round. A peer that may be run in
several ways is tried in each for a moment at first (the pilot), and goes on in its best. Raw
results go to `results/throughput.jsonl`; curves are kept there too, and not played again while
our code is the same (`--anew` does). Sample Factory needs an environment of its own, made in
`.peers/` when it is first asked for; leave it out with `--peers ours sb3 rllib`. The exit code
says if all bars are met.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import throughput_page
from throughput_page import Result

from rigorl.contract import code

HERE = Path(__file__).parent
ROOMS = ("ppo", "sac", "worlds", "curves", "memory")
MUJOCO = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5")
SF_VENV = HERE.parents[1] / ".peers" / "sample-factory"
SF_PINS = ("torch==2.13.0", "sample-factory==2.1.1", "gymnasium==0.29.1", "mujoco==4.0.0")
SF_MORE = ("numpy==1.26.4", "imageio==2.38.1")
SCRIPTS = {"sb3": "speed_ppo.py", "rllib": "speed_rllib.py", "sf": "speed_sf.py"}
CHOSEN_KERNELS = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
)
CURVE_STEPS, CURVE_SEEDS = 300_000, range(5)
SAC_RATE = 100
"""About the steps a second of the slower one: SAC is measured by steps, not by seconds."""

Ways = tuple[tuple[str, ...], ...]
AS_IT_COMES: Ways = ((),)
OURS: Ways = tuple(("--threads", n) for n in ("1", "2"))
SB3: Ways = tuple((*kind, "--threads", n) for kind in ((), ("--subproc",)) for n in ("1", "2"))
RLLIB: Ways = tuple(("--runners", r, "--threads", n) for r in ("0", "1") for n in ("1", "2"))
SAC: Ways = (("1",), ("2",))
"""Torch threads."""
SF: Ways = tuple(("--workers", n) for n in ("0", "1", "2"))


class Match(NamedTuple):
    """Peers that do the same, and the ways in which each may be run."""

    room: str
    task: str
    envs: int
    ways: Mapping[str, Ways]


def matches(room: str, peers: Sequence[str]) -> Iterator[Match]:
    """Yield what is played in *room*, with those of its peers that were asked for."""
    for match in _matches(room):
        ways = {who: how for who, how in match.ways.items() if who in peers or not _optional(who)}
        yield match._replace(ways=ways)


def _optional(who: str) -> bool:
    return who in SCRIPTS


def _matches(room: str) -> Iterator[Match]:
    if room == "ppo":
        ways = {"ours": OURS, "sb3": SB3, "rllib": RLLIB}
        yield Match(room, "HalfCheetah-v5", 8, {**ways, "sf": SF})
        yield Match(room, "CartPole-v1", 8, ways)
    elif room == "sac" and (HERE / "play_sac.py").exists():
        yield Match(room, "HalfCheetah-v5", 1, {"ours": SAC, "sb3": SAC})
    elif room == "worlds":
        for envs, others in ((16, ("envpool", "sync", "async")), (8, ("envpool", "sync"))):
            how: Ways = (("--envs", str(envs), "--threads", "2"),)
            ways = dict.fromkeys(("ours", *others), how)
            for task in MUJOCO:
                yield Match(room, task, envs, {"bare": how, "batch": how, **ways})
            yield Match(room, "CartPole-v1", envs, ways)
    elif room == "memory":
        yield Match(room, "HalfCheetah-v5", 8, {"ours": AS_IT_COMES})


def command(match: Match, who: str, seconds: float, number: int) -> list[str]:
    """Return the process in which *who* plays, but for the way."""
    here = [sys.executable]
    match match.room:
        case "ppo":
            python = [str(SF_VENV / "bin" / "python")] if who == "sf" else here
            script = SCRIPTS.get(who, "speed_ppo.py")
            return [*python, str(HERE / script), who, match.task, str(seconds)]
        case "sac":
            steps = str(int(seconds * SAC_RATE))
            return [*here, str(HERE / "play_sac.py"), who, match.task, str(number), steps]
        case "worlds":
            return [*here, str(HERE / "speed_worlds.py"), who, match.task, str(seconds / 10)]
        case _:
            return [*here, str(HERE / "play_memory.py"), match.task]


def run(words: Sequence[str]) -> Result:
    """Run a process and return the JSON that it prints last. One torch thread, if it has no say.

    Libraries choose their kernels by the processor they find, whatever the shell says of it.
    """
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    as_found = {key: value for key, value in os.environ.items() if key not in CHOSEN_KERNELS}
    with tempfile.TemporaryFile("w+") as noise:
        done = subprocess.run(
            words,
            env={**as_found, **alone},
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
            check=False,
            timeout=1_800,
        )
        if done.returncode:
            noise.seek(0)
            print(noise.read()[-4_000:], file=sys.stderr)
            raise SystemExit(f"this failed: {' '.join(words)}")
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def pilot(match: Match, seconds: float) -> Iterator[Result]:
    """Try every way of every peer that has several, for a moment each."""
    for who, ways in match.ways.items():
        for way in ways if len(ways) > 1 else ():
            rate = run([*command(match, who, seconds, 0), *way])["rate"]
            tell(match, who, "pilot", *way, f"{rate:.0f}")
            yield {**described(match, who, way), "pilot": rate}


def described(match: Match, who: str, way: Sequence[str]) -> Result:
    what = {"room": match.room, "task": match.task, "envs": match.envs}
    return {**what, "who": who, "how": " ".join(way)}


def play(match: Match, rounds: int, seconds: float) -> Iterator[Result]:
    """Play *match*: every peer once a round, forwards and backwards in turn, in its best way."""
    tried: list[Result] = []
    for result in pilot(match, seconds / 4):
        tried.append(result)
        yield result
    ways = {who: best(tried, who) or how[0] for who, how in match.ways.items()}
    for number in range(rounds):
        for who in list(ways) if number % 2 == 0 else list(reversed(ways)):
            result = run([*command(match, who, seconds, number), *ways[who]])
            tell(match, who, number, f"{result.get('rate', result.get('peak', 0)):.0f}")
            yield {**described(match, who, ways[who]), "round": number, **result}


def best(tried: Sequence[Result], who: str) -> tuple[str, ...]:
    """Return the way in which *who* was fastest in the pilot; nothing if it was in none."""
    mine = {result["pilot"]: result["how"] for result in tried if result["who"] == who}
    return tuple(mine[max(mine)].split()) if mine else ()


def play_room(room: str, args: argparse.Namespace) -> Iterator[Result]:
    for match in matches(room, args.peers):
        yield from play(match, args.rounds, args.seconds)


def play_curves(known: Sequence[Result]) -> Iterator[Result]:
    """Play the learning curves that are not *known*, ours and theirs in turn."""
    have = {(result["who"], result["seed"]) for result in known if "seed" in result}
    for seed, (who, maker) in product(CURVE_SEEDS, makers().items()):
        if (who, seed) in have:
            continue
        what = {"room": "curves", "task": "HalfCheetah-v5", "who": who, "seed": seed}
        script = str(HERE / "play_curve.py")
        result = run([sys.executable, script, who, what["task"], str(seed), str(CURVE_STEPS)])
        tell("curve", who, seed, result["curve"][-1])
        yield {**what, "maker": maker, **result}


def makers() -> dict[str, str]:
    """Return what makes a curve: of ours the code, so that curves of other code are not kept."""
    return {"ours": code("ppo"), "sb3": version("stable-baselines3")}


def kept(results: Sequence[Result]) -> list[Result]:
    """Return those *results* that would be the same if they were played again: curves."""
    now = makers()
    curves = [r for r in results if r["room"] == "curves"]
    return [r for r in curves if "who" not in r or r.get("maker") == now[r["who"]]]


def tell(*what: Any) -> None:
    words = (f"{w.room} {w.task} {w.envs}" if isinstance(w, Match) else str(w) for w in what)
    print(*words, file=sys.stderr, flush=True)


def sample_factory() -> None:
    """Make the environment that Sample Factory needs, if it is not there."""
    ready = SF_VENV / "ready"
    if ready.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", SF_VENV], check=True)
    pip = [SF_VENV / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, SF_PINS[0]], check=True)  # first: others would ask for one with CUDA
    subprocess.run([*pip, *SF_PINS, *SF_MORE], check=True)
    ready.touch()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="of PPO; a tenth for worlds")
    parser.add_argument("--peers", nargs="+", default=SCRIPTS, help="of PPO: ours sb3 rllib sf")
    parser.add_argument("--only", nargs="+", choices=ROOMS, default=ROOMS)
    parser.add_argument("--anew", action="store_true", help="play known curves again as well")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    return parser.parse_args()


def main() -> int:
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "throughput.jsonl"
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if "sf" in args.peers and "ppo" in args.only:
        sample_factory()
    for room in args.only:
        old = kept(known) if room == "curves" and not args.anew else []
        known = [result for result in known if result["room"] != room] + old
        about = throughput_page.about(room, datetime.now(UTC), sys.argv[1:])
        fresh = play_curves(old) if room == "curves" else play_room(room, args)
        for result in fresh:
            known += [result] if any(r["room"] == room for r in known) else [about, result]
            path.write_text("".join(json.dumps(line) + "\n" for line in known))
    text, met = throughput_page.page(known, args.out)
    (args.out / "throughput.md").write_text(text)
    print(text, end="")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
