"""Parts that agents are built of. No block knows an agent.

Shapes: T steps of a rollout, E environments, B batch, D observation, A action.
"""
