"""Where a run stands, kept so that it is there whole or not at all, and found out if it changed.

place   where a run stands
sealed  a folder that says of each of its files what it must be
folder  kept in a folder: drafts that are moved to their place
store   what any place must offer, and checkpoints in it
probe   is it the same place, and may one write to it?

A bucket is a room of `outside`.
"""

from rigorl.checkpoint.folder import Folder, appearing, blaming
from rigorl.checkpoint.place import PLACE, Place
from rigorl.checkpoint.probe import find, leave, try_out
from rigorl.checkpoint.sealed import MANIFEST, verify
from rigorl.checkpoint.store import (
    KEPT,
    POLICIES,
    Found,
    Store,
    as_store,
    checkpoints,
    name_of,
    newest,
    reopened,
    take_over,
    write,
)

__all__ = [
    "KEPT",
    "MANIFEST",
    "PLACE",
    "POLICIES",
    "Folder",
    "Found",
    "Place",
    "Store",
    "appearing",
    "as_store",
    "blaming",
    "checkpoints",
    "find",
    "leave",
    "name_of",
    "newest",
    "reopened",
    "take_over",
    "try_out",
    "verify",
    "write",
]
