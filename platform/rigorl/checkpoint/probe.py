"""Whether it is the same place for all, and one may write to it.

Each token is in a place of its own, so that any number of processes may leave and find at once.
"""

import os
import secrets

from rigorl.checkpoint.sealed import verify
from rigorl.checkpoint.store import Store
from rigorl.errors import StorageError

SEALED = "token"


def leave(store: Store, token: str) -> None:
    """Leave *token* in *store*, for another process to find.

    Whoever finds it takes it away; if that may be nobody, who left it finds it in the end.
    """
    with _place(store, token).appearing(SEALED):
        pass


def find(store: Store, token: str) -> bool:
    """Say whether *token* was left in *store*; if so, take it away. It is found once."""
    place = _place(store, token)
    with place.lent(SEALED) as folder:
        if folder is None or verify(folder) is not None:
            return False
    store.remove(f"probe-{token}")
    return True


def try_out(store: Store) -> None:
    """Refuse a *store* that cannot be written, or does not give back what was written."""
    token = f"{os.getpid()}-{secrets.token_hex(4)}"
    leave(store, token)
    if not find(store, token):
        raise StorageError(
            f"what a trial keeps must be there once it is written, but {store} does not show it; "
            "choose another place with --storage"
        )


def _place(store: Store, token: str) -> Store:
    return store.below(f"probe-{token}")
