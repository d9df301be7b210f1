"""The settings of PPO that every peer is given, in our words. Imports nothing."""

NUM_ENVS = 8
SETTINGS = {
    "lr": 3e-4,
    "n_steps": 256,
    "minibatch": 64,
    "epochs": 10,
    "discount": 0.99,
    "gae_lambda": 0.95,
    "clip": 0.2,
    "entropy_coef": 0.0,
    "value_coef": 0.5,
    "max_grad_norm": 0.5,
    "adam_eps": 1e-5,
    "hidden": (64, 64),
    "log_std_init": 0.0,
    "obs_clip": 10.0,
    "reward_clip": 10.0,
}
ROLLOUT = NUM_ENVS * SETTINGS["n_steps"]
