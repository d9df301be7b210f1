"""Reports -> numbers that one may print. Pure: no I/O, and no library but numpy and scipy.

statistics.py  point estimates over seeds and tasks, and how far to trust them
continual.py   what learning a sequence of tasks did to an agent
gap.py         how deep, long and large what it lost is; how fast it learned
transfer.py    what earlier tasks did for the learning of a later one
lessons.py     all that over seeds, against a noise floor
curves.py      the reports of a trial as arrays; final scores of an arm as a matrix
scale.py       what counts as 0 and 1 on each task
seeds.py       what luck adds to the score of whoever was best on the seeds it was chosen by
borne.py       what policies bore when they were pushed
robust.py      what arms come to under attack
bound.py       whether a bound on gain was kept
mishaps.py     what befell trials that did not finish
lq.py          linear systems with quadratic cost: gains, games and costs, exactly
lq_optimum.py  the least cost of such a system whose gain is bounded
lq_problem.py  the same, as a descent sees it
evidence.py    what a verdict rests on
verdict.py     the whole statistical argument, in one function

Letters that end a name tell its shape, one an axis: S seeds, T tasks, N evaluations (exams
of one trial, in their order), L evaluations after a task was learned, K stages, R resamples,
B blocks of a window's length, C candidates, M measures; X and Y are the seeds of one arm and of
another.
"""
