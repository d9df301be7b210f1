"""What fits on the nodes of a cluster: how many trials at once, and in words why no more. Pure.

rooms   where the processes of trials find room, as Ray places them
words   what is short, and where
"""

from rigorl.fitting.rooms import Node, placements, trials_at_once
from rigorl.fitting.words import never, short_of

__all__ = ["Node", "never", "placements", "short_of", "trials_at_once"]
