"""What answers at a cluster's address, and how it refuses: Ray's own client, with our words."""

import logging
import os
from typing import Any

import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from rigorl.errors import JobError
from rigorl.hiding import shown

ANSWER_S = 20.0
"""Seconds that the cluster has to answer a question."""
CHATTY = (
    "dashboard.modules.job.sdk",
    "dashboard.modules.dashboard_sdk",
    "_private.runtime_env.packaging",
)
"""Loggers of Ray's that tell what nobody asked."""
NOBODY = (502, 503, 504)
"""What a gateway answers while there is no head behind it."""


class Away(JobError):  # noqa: N818  the house's words
    """The cluster has forgotten the job, or cannot be asked."""


class Unreachable(Away):
    """The cluster does not answer."""


class Refused(JobError):  # noqa: N818  the house's words
    """The cluster's dashboard answers that it will not; `code` is HTTP's."""

    def __init__(self, code: int, text: str) -> None:
        last = text.strip().splitlines()[-1] if text.strip() else f"HTTP {code}"
        super().__init__(
            f"a cluster must do what it is asked, but its dashboard says: {last}; its logs say more"
        )
        self.code, self.text = code, text


class Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's own, which would wait for ever for an answer, and has errors of many kinds."""

    def _do_request(self, *words: Any, **named: Any) -> Any:
        try:
            answer = super()._do_request(*words, **{"timeout": ANSWER_S, **named})
            if answer.status_code in NOBODY:
                answer.raise_for_status()
        except AuthenticationError as error:
            raise JobError(_no_entry(shown(self._address), str(error))) from error
        except requests.RequestException as error:
            raise Unreachable(
                "the cluster must answer, but it went away; the journal knows how far the study is"
            ) from error
        return answer

    def _raise_error(self, r: requests.Response) -> None:
        raise Refused(r.status_code, r.text)


def connect(address: str) -> Client:
    """Return a client of the dashboard at *address*; refuse what is not one, or another Ray."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)  # Ray's client would take these before what we say
    for name in CHATTY:
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
    url = address if "://" in address else f"http://{address}"
    called = shown(url)
    if not url.startswith(("http://", "https://")):
        raise JobError(
            f"a cluster's address must be that of its dashboard, but is {called}; as "
            "http://head:8265"
        )
    try:
        client = Client(url)
    except Unreachable as error:
        raise JobError(
            f"a Ray cluster must answer at --address, but nothing does at {called}; start it, "
            "forward its port, or correct the address"
        ) from error
    except AuthenticationError as error:  # a token is wanted here, and none is found
        raise JobError(_no_entry(called, "required")) from error
    except (requests.RequestException, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise JobError(
            f"at --address must be the dashboard of a Ray cluster, but what answers at {called} "
            "is something else; it is the one at port 8265 of the head"
        ) from error
    theirs = client._server_ray_version  # noqa: SLF001  it has just been asked
    if theirs != ray.__version__:
        raise JobError(
            f"a cluster must be of the Ray that is here, but {called} runs Ray {theirs} and this "
            f"is {ray.__version__}; install that one here, or use another image there"
        )
    return client


def _no_entry(address: str, said: str) -> str:
    if "required" in said:
        return (
            f"a cluster with tokens must be given one, but {address} got none; set "
            "RAY_AUTH_MODE=token and, if ~/.ray/auth_token does not hold it, RAY_AUTH_TOKEN (or "
            "RAY_AUTH_TOKEN_PATH), here and nowhere else"
        )
    return (
        f"a token must be the cluster's own, but {address} refused it; correct RAY_AUTH_TOKEN "
        "(or the file at RAY_AUTH_TOKEN_PATH)"
    )
