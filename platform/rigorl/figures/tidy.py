"""What figures ask of the table of a study (`outside.frames`)."""

import pandas as pd

CANDIDATE = ["arm", "search", "candidate"]
EXAM = ["stage", "step"]
ABOUT = ["state", "winner"]
"""What is the same in all rows of a candidate, beside its configuration."""


def curves(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over tuning seeds of each candidate at each exam that all its seeds reached.

    Those that it was played on: a race ends before all are. `total` is the step of the sequence.
    """
    tuned = frame[(frame["phase"] == "tune") & frame["candidate"].notna()]
    seeds = tuned.groupby(CANDIDATE)["seed"].nunique().rename("seeds")
    about = tuned.groupby(CANDIDATE)[[*ABOUT, *configs(frame)]].first()
    exams = tuned.groupby([*CANDIDATE, *EXAM])["value"].agg(["mean", "count"]).reset_index()
    exams = exams.join(seeds, on=CANDIDATE).join(about, on=CANDIDATE)
    whole = exams[exams["count"] == exams["seeds"]].rename(columns={"mean": "value"})
    return whole.assign(total=whole["step"] + whole["stage"] * steps(frame)).drop(columns="count")


def candidates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each candidate: its curve's last one."""
    return curves(frame).groupby(CANDIDATE).tail(1)


def steps(frame: pd.DataFrame) -> int:
    """Return the steps of a stage: it ends with an exam, so nobody is examined later."""
    return int(frame["step"].max()) if len(frame) else 0


def configs(frame: pd.DataFrame) -> list[str]:
    """Return the columns that hold what searches chose."""
    return [column for column in frame.columns if column.startswith("config.")]


def finals(frame: pd.DataFrame, phase: str) -> pd.DataFrame:
    """Return, for each candidate and seed, the value when it had learned all that there is."""
    end = frame["stage"].max(), frame["step"].max()
    at_end = (frame["stage"] == end[0]) & (frame["step"] == end[1])
    found: pd.DataFrame = frame[at_end & (frame["phase"] == phase) & frame["candidate"].notna()]
    return found
