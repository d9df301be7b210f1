"""The page of `throughput.py`: tables, bars, curves. Reads results, plays nothing."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from curves_svg import Line, draw
from numpy.typing import NDArray
from ppo_vs_sb3 import machine

from rigorl.analysis.statistics import iqm, stratified_bootstrap

Result = dict[str, Any]
PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "stable-baselines3", "ray", "envpool")
NAMES = {
    "ours": "rigorl", "sb3": "Stable-Baselines3", "rllib": "RLlib", "sf": "Sample Factory 2.1.1",
    "bare": "bare MuJoCo", "batch": "bare MuJoCo in step", "envpool": "EnvPool",
    "sync": "SyncVectorEnv", "async": "AsyncVectorEnv",
}  # fmt: skip
TITLES = {
    "ppo": "PPO, environment steps a second, learning included",
    "sac": "SAC, environment steps a second, learning included",
    "worlds": "Environments alone, random actions, 2 threads",
}
ABOUT = (
    "Medians over rounds (least to most). Peers take turns, a process each; a ratio is ours over "
    "the peer's in the same round. What each peer is given, and where it differs, stands at the "
    "top of its `speed_*.py`; words in code style are the way in which it was fastest in the pilot."
)
CURVES = (
    "The same settings for both, SB3 in a DummyVecEnv with one torch thread. IQM over seeds with "
    "its 95 % bootstrap interval; the clock stands still during exams."
)
MEMORY_BAR = 150.0


class Bar(NamedTuple):
    """Ours divided by a peer's must be at least so much."""

    room: str
    task: str
    envs: int
    peer: str
    least: float


BARS = (
    Bar("ppo", "HalfCheetah-v5", 8, "sb3", 4.0),
    Bar("ppo", "HalfCheetah-v5", 8, "rllib", 10.0),
    Bar("ppo", "CartPole-v1", 8, "sb3", 2.0),
    Bar("sac", "HalfCheetah-v5", 1, "sb3", 2.0),
    *(
        Bar("worlds", f"{name}-v5", 16, floor, 0.85)
        for floor in ("bare", "batch")
        for name in ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid")
    ),
    Bar("worlds", "Ant-v5", 16, "envpool", 1.0),
    Bar("worlds", "Humanoid-v5", 16, "envpool", 1.0),
    Bar("worlds", "HalfCheetah-v5", 16, "envpool", 0.8),
    Bar("worlds", "Hopper-v5", 16, "envpool", 0.8),
    Bar("worlds", "Ant-v5", 16, "sync", 2.0),
)


def about(room: str, date: datetime, words: Sequence[str]) -> Result:
    """Return where and how the results of *room* come to be."""
    return {
        "room": room,
        "command": " ".join(["python experiments/benchmarks/throughput.py", *words]),
        "date": f"{date:%Y-%m-%d %H:%M} UTC",
        "machine": f"{machine()}, {platform.system()}, load {os.getloadavg()[0]:.1f} before",
        "versions": f"Python {platform.python_version()}, " + ", ".join(_versions()),
    }


def _versions() -> Iterator[str]:
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


def ratios(results: Sequence[Result], bar: Bar) -> NDArray[np.float64]:
    """Return ours over the peer's in each round in which both were played."""
    ours, theirs = (
        {r["round"]: r["rate"] for r in results if _is(r, bar, who)} for who in ("ours", bar.peer)
    )
    return np.array([ours[i] / theirs[i] for i in sorted(ours.keys() & theirs.keys())])


def _is(result: Result, bar: Bar, who: str) -> bool:
    keys = ("room", "task", "envs", "who")
    return "rate" in result and tuple(result[k] for k in keys) == (*bar[:3], who)


def bars(results: Sequence[Result]) -> Iterator[tuple[str, str, str, bool]]:
    """Yield what was asked, what came, the bar, and whether it is met, where it was played."""
    for bar in BARS:
        found = ratios(results, bar)
        if len(found):
            what = f"{bar.room}, {bar.task}, {bar.envs} envs: rigorl / {NAMES[bar.peer]}"
            middle = float(np.median(found))
            yield what, _spread(found, "{:.2f}"), f">= {bar.least:g}", middle >= bar.least
    peaks = np.array([r["peak"] for r in results if "peak" in r])
    if len(peaks):
        spread = _spread(peaks, "{:.0f}")
        within = float(np.median(peaks)) <= MEMORY_BAR
        yield "memory of a PPO trial, MiB", spread, f"<= {MEMORY_BAR:.0f}", within
    final = {who: scores[:, -1] for who, (_, _, scores) in curves(results).items()}
    if len(final) == 2:
        ours, theirs = (iqm(final[who][:, None]) for who in ("ours", "sb3"))
        yield "final return, IQM, rigorl", f"{ours:.0f}", f">= {theirs:.0f} (SB3)", ours >= theirs


def _spread(values: NDArray[np.float64], form: str) -> str:
    low, middle, high = (form.format(f(values)) for f in (np.min, np.median, np.max))
    return f"{middle} ({low} to {high})"


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    body = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *body, ""]


def speeds(results: Sequence[Result], room: str) -> Iterator[Sequence[str]]:
    """Yield a row for each peer at each task of *room*."""
    played = [r for r in results if r["room"] == room and "rate" in r]
    for task, envs in dict.fromkeys((r["task"], r["envs"]) for r in played):
        for who in dict.fromkeys(
            r["who"] for r in played if (r["task"], r["envs"]) == (task, envs)
        ):
            bar = Bar(room, task, envs, who, 0)
            mine = [r for r in played if _is(r, bar, who)]
            rates = np.array([r["rate"] for r in mine])
            ratio = "" if who == "ours" else _spread(ratios(played, bar), "{:.2f}")
            way = mine[0].get("how", "") if room != "worlds" else ""
            name = f"{NAMES[who]} `{way}`" if way else NAMES[who]
            yield task, str(envs), name, _spread(rates, "{:,.0f}"), ratio


def curves(results: Sequence[Result]) -> Mapping[str, tuple[NDArray[Any], ...]]:
    """Return step_N, seconds_SN and score_SN of each side that was played."""
    found = {}
    for who in ("ours", "sb3"):
        curves_SN3 = [r["curve"] for r in results if r["room"] == "curves" and r.get("who") == who]
        if curves_SN3:
            points = np.array(curves_SN3)
            found[who] = points[0, :, 0], points[:, :, 1], points[:, :, 2]
    return found


def band(score_SN: NDArray[Any]) -> NDArray[np.float64]:
    """Return the IQM over seeds and its 95 % interval, (3, N)."""
    scores = [score_S[:, None] for score_S in score_SN.T]
    return np.array([(iqm(s), *stratified_bootstrap(s)) for s in scores]).T


def pictures(results: Sequence[Result], out: Path) -> list[str]:
    """Draw the learning curves over steps and over seconds; return the text about them."""
    found = curves(results)
    if not found:
        return []
    by_step = [Line(NAMES[who], step, *band(s)) for who, (step, _, s) in found.items()]
    by_second = []
    for who, (_, seconds_SN, score_SN) in found.items():
        grid = np.linspace(seconds_SN[:, 0].max(), seconds_SN[:, -1].min(), 40)
        both = zip(seconds_SN, score_SN, strict=True)
        on_grid = np.stack([np.interp(grid, second, score) for second, score in both])
        by_second.append(Line(NAMES[who], grid, *band(on_grid)))
    panels = {"environment steps": by_step, "seconds of learning": by_second}
    (out / "throughput_curves.svg").write_text(draw(panels, "return on HalfCheetah-v5"))
    rows = (_final(who, *found[who]) for who in found)
    return [
        "## Learning curves",
        "",
        CURVES,
        "",
        "![learning curves](throughput_curves.svg)",
        "",
        *table(("", "seeds", "final return, IQM (95 %)", "seconds, median"), rows),
    ]


def _final(who: str, step_N: Any, seconds_SN: Any, score_SN: Any) -> Sequence[str]:
    middle, low, high = band(score_SN)[:, -1]
    seconds = _spread(seconds_SN[:, -1], "{:.0f}")
    score = f"{middle:.0f} ({low:.0f} to {high:.0f})"
    return f"{NAMES[who]}, {step_N[-1]:,.0f} steps", str(len(score_SN)), score, seconds


def page(results: Sequence[Result], out: Path) -> tuple[str, bool]:
    """Return the page in Markdown, and whether every bar that was measured is met."""
    verdicts = list(bars(results))
    rows = ((what, got, bar, "met" if met else "missed") for what, got, bar, met in verdicts)
    lines = [
        "# Throughput, ours and our peers'",
        "",
        ABOUT,
        "",
        *table(("what", "figure", "bar", ""), rows),
    ]
    head = ("task", "envs", "", "steps/s", "ours / theirs")
    for room, title in TITLES.items():
        found = list(speeds(results, room))
        if found:
            lines += [f"## {title}", "", *table(head, iter(found))]
    lines += pictures(results, out)
    lines += ["## How it was measured", ""]
    for r in results:
        if "command" in r:
            lines += [
                f"* {r['room']}: `{r['command']}`, {r['date']}; {r['machine']}; {r['versions']}."
            ]
    return "\n".join(lines) + "\n", all(met for *_, met in verdicts)
