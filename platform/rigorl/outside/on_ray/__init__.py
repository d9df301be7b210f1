"""Ray, in which a trial is an actor, and so is each member of its crew.

Ray is asked to place processes, to carry bytes between them and to say when one is gone. What
is played, in which order, and what becomes of it when something dies is decided here.

    cluster  a study on a cluster: which of the two players plays it
    actors   one player: actors of ours, which stream what happens
    tune     the other, where something is searched for: Ray Tune
    worker   what both do in the process of a trial
    tries    what died, and whether it is tried again
    waits    what has been asked for, and is not given
    placing  what a trial needs, in Ray's words
    nodes    what the nodes have, what fits there, and what is short
    deaths   why a worker is gone, in words
"""
