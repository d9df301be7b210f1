"""What one may say of a search: from what it chooses, how, what for, and who is stopped early."""

from rigorl.searches.measure import BY_SCORE, PER_EXAM, Measure, Objective
from rigorl.searches.prune import Prune, Share
from rigorl.searches.search import POPULATIONS, Count, Sampler, Search

__all__ = [
    "BY_SCORE",
    "PER_EXAM",
    "POPULATIONS",
    "Count",
    "Measure",
    "Objective",
    "Prune",
    "Sampler",
    "Search",
    "Share",
]
