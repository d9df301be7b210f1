"""Where one acts: tasks are opened here, and policies examined.

world.py    what an agent learns from, and what it is told beforehand
physics.py  the `physics:` of a task, applied to an open environment
own.py      the `robot:` of a task: a model of one's own in one of Gymnasium's robots
variation.py  the `vary:` of a task: physics drawn anew for each episode
robots/     ten of Gymnasium's robots, stepped as a batch
linear.py   linear systems with quadratic cost
systems.py  the same, stepped as a batch
watch.py    what is believed of an environment, and what ends a trial
envs.py     TaskSpec -> environments, world specs and worlds
exam.py     policy + task + seeds -> returns
seen.py     an episode of an exam, step by step, for who looks on
pushes.py   what policies are called that push, and read back from their names
examples.py  tasks of labelled examples: what is learned from, what is held out
digits.py   handwritten digits, by classes and rotated
pool.py     EnvPool's environments as ours; the only file that needs envpool
dataset.py  recorded experience for offline agents; the only file that needs minari
"""
