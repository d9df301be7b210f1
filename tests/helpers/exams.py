"""Tables of exams made by hand, as `outside.frames` makes them of a journal."""

from typing import Any

import pandas as pd

from rigorl.outside.frames import TYPES


def exams(
    candidate: int, *curves: tuple[float, ...], state: str = "finished", **more: Any
) -> list[dict[str, Any]]:
    """Return rows of a candidate with a curve a seed, examined each 10 steps of a stage of 20."""
    about = {"arm": "a", "search": 0, "phase": "tune", "winner": False, "state": state, **more}
    return [
        {
            **about,
            "candidate": candidate,
            "seed": seed,
            "stage": rung // 2,
            "step": rung % 2 * 10 + 10,
            "value": value,
        }
        for seed, curve in enumerate(curves)
        for rung, value in enumerate(curve)
    ]


def table(*groups: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame([row for rows in groups for row in rows])
    return frame.astype({name: kind for name, kind in TYPES.items() if name in frame})
