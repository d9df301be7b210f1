"""Ray: where trials are played, what there is room for, and what workers die of.

Ray is asked to place processes, to carry bytes between them and to say when one is gone. What
is played, in which order, and what becomes of it when something dies is decided here. Each file
knows one side of Ray, so that what the house asks of it is small and said once.

    cluster  a study on a cluster: the one that is named, or this machine
    actors   who plays it: actors, which stream what happens
    shared   whether each node sees what trials keep
    worker   what happens in the process of a trial
    crew     the members that work for one trial: `RayCrew`
    items    an item on its way, and what its members died of
    parcel   how an item gets to a member, and what comes of it gets back
    tries    what died, and whether it is tried again
    waits    what has been asked for, and is not given
    placing  what a trial needs, in Ray's words
    amounts  what Ray says that a node has, in ours, without Ray
    nodes    what is there, and free
    deaths   why a process is gone, in words

A cluster that somebody else started is spoken with over Ray's Jobs API:

    order     what a study sends there, and
    refusals  what must hold first, both without Ray
    probe     what looks at the cluster from the inside
    dashboard what answers at its address
    jobs      speaks with it from the outside
    tail      reads what a job prints
"""
