"""Ray, in which a trial is an actor, and so is each member of its crew.

Ray is asked to place processes, to carry bytes between them and to say when one is gone. What
is played, in which order, and what becomes of it when something dies is decided here.

    crew    the members that work for one trial: `RayCrew`
    deaths  why one of them is gone, in words
    parcel  how an item gets to a member, and what comes of it gets back
"""
