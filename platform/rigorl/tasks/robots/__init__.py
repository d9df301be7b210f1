"""Ten of Gymnasium's MuJoCo robots, many at a time.

robot.py        what is asked of a robot: to see and judge a batch of simulations
runners.py      HalfCheetah, Swimmer, Hopper, Walker2d
torsos.py       Ant, Humanoid
arms.py         InvertedPendulum, InvertedDoublePendulum, Pusher, Reacher
known.py        which environments are one of them, and no more
hands.py        threads
simulations.py  one MuJoCo simulation an environment, stepped by hands
batched.py      the vector environment
"""
