"""An item on its way to a member of a crew, what comes of it, and what members died of."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import ray
from ray.exceptions import RayTaskError

from rigorl.errors import CrewError
from rigorl.outside.on_ray.deaths import Death
from rigorl.outside.on_ray.parcel import Parcel, Reply, There, unpack

TRIES = 3
"""How many members may die of one item, and how often a member may fail to start in a row."""
LOSSES = 20
"""How many may be lost with their nodes: that is no fault of an item."""


class Job:
    """An item on its way."""

    def __init__(self, parcel: Parcel) -> None:
        self.order, self.shared = parcel
        self.future: Future[Any] = Future()
        self.deaths: list[Death] = []

    @property
    def is_given_up(self) -> bool:
        losses = sum(death.node_lost for death in self.deaths)
        return losses > LOSSES or len(self.deaths) - losses >= TRIES


def ask(member: Any, job: Job) -> Reply:
    """Wait for what comes of *job*. Raises `RayError` if *member* is gone."""
    contents = [shared.content for shared in job.shared]
    try:
        return unpack(ray.get(member.work.remote(job.order, *contents)))
    except RayTaskError as error:  # what is shared could not be read
        error.cause.__cause__ = There(str(error))
        return Reply(None, error.cause)


def tell(job: Job, reply: Reply) -> None:
    if not job.future.set_running_or_notify_cancel():
        return
    if reply.error is None:
        job.future.set_result(reply.result)
    else:
        job.future.set_exception(reply.error)


def died(deaths: Sequence[Death]) -> CrewError:
    return CrewError(
        f"a member of a crew must outlive its item, but {len(deaths)} died of the same one: "
        f"{_joined(deaths)}; give the crew more memory, or work on the item in one process to "
        "see it crash (Ray's logs say more)",
        node_lost=_with_nodes(deaths),
    )


def deserted(deaths: Sequence[Death]) -> CrewError:
    return CrewError(
        f"a crew must have members, but the last one could not start, {len(deaths)} times: "
        f"{_joined(deaths)}; mend what placement.crew asks for, or the cluster",
        node_lost=_with_nodes(deaths),
    )


def of_deaths(error: CrewError, deaths: Sequence[Death]) -> CrewError:
    """Return *error* with the *deaths* that led to it: whoever raised it may not know them."""
    if not deaths:
        return error
    told = _joined(deaths)
    words = (
        str(error) if told in str(error) else f"a member of its crew is gone: {told}; so {error}"
    )
    return CrewError(words, node_lost=_with_nodes(deaths))


def _with_nodes(deaths: Sequence[Death]) -> bool:
    return bool(deaths) and all(death.node_lost for death in deaths)


def _joined(deaths: Sequence[Death]) -> str:
    return "; then ".join(dict.fromkeys(death.words for death in deaths))
