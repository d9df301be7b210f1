"""The table of crashes in its long form: at least two hundred faults, a row for each kind.

    make crash

Exit code 1 if anything was lost, doubled or changed. Needs root for the small disk, Debian's
PostgreSQL, and about a quarter of an hour of two cores.
"""

import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from helpers import crashes
from helpers.crashes import LOCAL
from helpers.postgres import Postgres
from rigorl import accounts
from rigorl.outside.selftest import RAY, Bench, Case, Result

POINTS = {
    "journal.before_commit": (9, 24, 57),
    "journal.after_commit": (9, 24, 57),
    "checkpoint.write": (2, 5, 13),
    "checkpoint.before_rename": (2, 5, 13),
    "checkpoint.after_rename": (2, 5, 13),
    "roll_back.before": (1, 4, 9),
    "roll_back.after": (1, 4, 9),
    "exam": (9, 33, 64),
    "learn": (31, 77, 130),
    "search.tell": (1, 2, 3),
    "verdict": (1,),
}
"""At which passing of a point to die. Each is tried up to FAULTS times in a row."""
FAULTS = 8


def drivers(bench: Bench) -> Iterator[Callable[[str], Result]]:
    for point, passings in POINTS.items():
        faults = 1 if point == "verdict" else FAULTS
        for n in passings:
            case = Case(point, n, faults, LOCAL)
            yield lambda name, case=case: bench.disturb(name, case)
    for seed in range(6):
        yield lambda name, seed=seed: crashes.any_moment(bench, name, seed, FAULTS)
    yield lambda name: bench.disturb(name, Case("mirror.flush", 2, 2, ("--local",)))
    yield lambda name: bench.disturb(name, Case("mirror.flush", 5, 1, ("--local",)))
    for room in (120_000, 300_000, 600_000):
        yield lambda name, room=room: crashes.disk(bench, name, room)
    for seed in range(3):
        yield lambda name, seed=seed: crashes.clock(bench, name, seed)


def on_ray(bench: Bench) -> Iterator[Callable[[str], Result]]:
    for point, n in (("learn", 20), ("exam", 9), ("checkpoint.write", 3)):
        died = Case(point, n, 1, RAY)
        yield lambda name, case=died: bench.disturb(name, case)
    for n in (10, 40):
        case = Case("journal.after_commit", n, 2, RAY)
        yield lambda name, case=case: bench.disturb(name, case)


def others(slow: Bench, server: Postgres) -> Iterator[Callable[[str], Result]]:
    for after in (0.5, 2.0):
        yield lambda name, after=after: crashes.node(slow, name, after)
    yield lambda name: crashes.database(slow, name, server, (1.5, 1.0, 1.0))
    yield lambda name: crashes.mlflow(slow, name, 15_018, 1.0)
    for _ in range(3):
        yield lambda name: crashes.two_drivers(slow, name)
    yield lambda name: crashes.taken_for_dead(slow, name)


def tried(name: str, attempt: Callable[[str], Result]) -> Result:
    """Return what came of *attempt*; one that ends in an error counts as diverged."""
    try:
        return attempt(name)
    except Exception:  # noqa: BLE001  the table goes on, and shows it
        traceback.print_exc()
        return Result(Case(name, 1), 1, 0, 0, 1, 0.0)


def summed(results: list[Result]) -> list[Result]:
    """Return a row for each kind of fault and each victim."""
    rows: dict[tuple[str, str], Result] = {}
    for result in results:
        key = result.case.point, result.case.victim
        before = rows.get(key, Result(result.case, 0, 0, 0, 0, 0.0))
        sums = [a + b for a, b in zip(before[1:], result[1:], strict=True)]
        rows[key] = Result(result.case, *sums)
    return list(rows.values())


def main() -> int:
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="rigorl-crash-") as folder:
        place = Path(folder)
        quick, slow = crashes.bench(place / "quick"), crashes.bench(place / "slow", pause=0.004)
        (place / "pg").mkdir()
        server = Postgres(place / "pg")
        server.start()
        try:
            attempts = [*drivers(quick), *on_ray(quick), *others(slow, server)]
            for i, attempt in enumerate(attempts):
                result = tried(f"case-{i}", attempt)
                results.append(result)
                print(f"{i + 1}/{len(attempts)}", *result, file=sys.stderr, flush=True)
        finally:
            server.stop()
    print(accounts.crashes(summed(results)))
    return int(any(result.lost or result.doubled or result.diverged for result in results))


if __name__ == "__main__":
    sys.exit(main())
