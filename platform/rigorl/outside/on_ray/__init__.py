"""Ray: where trials are played, what there is room for, and what workers die of.

Each file knows one side of Ray, so that what the house asks of it is small and said once: the
rest of the house sees a cluster that plays, nodes with what is free on them, and deaths in words.
"""
