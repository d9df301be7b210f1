"""Measure how fast RLlib's PPO (its new API stack) learns, and print it as JSON.

    python speed_rllib.py rllib ENV SECONDS [--threads N] [--runners N]

It gets what `ppo_settings.py` says, but for what it does not have or does by itself: it
normalises neither observations nor rewards (work that the others do), and its gradient is clipped
for actor and critic together. `--runners 0` samples in the learner's own process.
"""

import argparse
import json
import math
import os
from collections.abc import Iterator

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}

import ray  # reads them when it is imported
import torch
from ppo_settings import NUM_ENVS, ROLLOUT, SETTINGS
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from stopwatch import steady


def config(env: str, runners: int) -> PPOConfig:
    return (
        PPOConfig()
        .environment(env)
        .env_runners(num_env_runners=runners, num_envs_per_env_runner=NUM_ENVS)
        .training(
            lr=SETTINGS["lr"],
            train_batch_size_per_learner=ROLLOUT,
            minibatch_size=SETTINGS["minibatch"],
            num_epochs=SETTINGS["epochs"],
            gamma=SETTINGS["discount"],
            lambda_=SETTINGS["gae_lambda"],
            clip_param=SETTINGS["clip"],
            entropy_coeff=SETTINGS["entropy_coef"],
            vf_loss_coeff=SETTINGS["value_coef"],
            vf_clip_param=math.inf,
            use_kl_loss=False,
            grad_clip=SETTINGS["max_grad_norm"],
        )
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=list(SETTINGS["hidden"]),
                fcnet_activation="tanh",
                vf_share_layers=False,
            )
        )
        .debugging(seed=0, log_level="ERROR")
    )


def learning(env: str, runners: int, threads: int) -> Iterator[int]:
    """Yield the steps so far after each rollout that was learned from."""
    ray.init(
        "local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    algorithm = config(env, runners).build_algo()
    torch.set_num_threads(threads)
    while True:
        yield int(algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("who", choices=("rllib",))
    parser.add_argument("env")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--runners", type=int, default=0, help="processes that sample")
    args = parser.parse_args()
    try:
        result = steady(learning(args.env, args.runners, args.threads), args.seconds)
    finally:
        ray.shutdown()
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
