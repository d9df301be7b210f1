"""Where one acts: tasks are opened here, and policies examined.

world.py    what an agent learns from, and what it is told beforehand
physics.py  the `physics:` of a task, applied to an open environment
envs.py     TaskSpec -> environments, world specs and worlds
batched.py  many environments with one of Gymnasium's robots, as fast as MuJoCo allows
simulations.py, hands.py   their simulations, and the threads that step them
robot.py, robots.py        what a robot is, and which ones we know:
runners.py, torsos.py, arms.py
exam.py     policy + task + seeds -> returns
pool.py     EnvPool's environments as ours; the only file that needs envpool
dataset.py  recorded experience for offline agents; the only file that needs minari
"""
