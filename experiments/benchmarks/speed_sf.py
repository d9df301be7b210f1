"""Measure how fast Sample Factory's synchronous PPO learns, and print it as JSON.

    .peers/sample-factory/bin/python experiments/benchmarks/speed_sf.py sf ENV SECONDS [--workers N]

It gets what `ppo_settings.py` says. What differs: it wants Gymnasium 0.29, which ends at
HalfCheetah-v4 (the same dynamics and observations as v5); a minibatch must hold whole
trajectories, so these are as long as one, and four of each environment make a batch; returns
are normalised in its own way. `--workers 0` does all in one
process; else so many processes sample, and a learner and an inference worker stand beside them.
"""

import argparse
import json
import sys
import tempfile
import time
from typing import Any

import gymnasium as gym
from ppo_settings import NUM_ENVS, ROLLOUT, SETTINGS
from sample_factory.algo.runners.runner import AlgoObserver
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sample_factory.envs.env_utils import register_env
from sample_factory.train import make_runner


class Watch(AlgoObserver):
    """Ends the training when the clock says so; the first rollout is warm-up."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.start, self.first = seconds, 0.0, 0
        self.result: dict[str, float] = {}

    def on_training_step(self, runner: Any, training_iteration_since_resume: int) -> None:
        now, step = time.perf_counter(), training_iteration_since_resume * ROLLOUT
        if not self.start:
            self.start, self.first = now, step
        spent = now - self.start
        if spent >= self.seconds and not self.result:
            rate = (step - self.first) / spent
            self.result = {"played": step - self.first, "seconds": spent, "rate": rate}
            runner.cfg.train_for_seconds = runner.cfg.train_for_env_steps = -1


def make_env(name: str, cfg: Any, env_config: Any, render_mode: str | None = None) -> Any:
    del cfg, env_config
    return gym.make(name.replace("-v5", "-v4"), render_mode=render_mode)


def words(env: str, workers: int, folder: str) -> list[str]:
    """Return the settings as Sample Factory wants them."""
    hidden = " ".join(map(str, SETTINGS["hidden"]))
    text = (
        f"--env={env} --experiment=speed --train_dir={folder} --device=cpu --seed=0 "
        f"--async_rl=False --serial_mode={workers == 0} --batched_sampling=True "
        f"--num_workers={max(workers, 1)} --num_envs_per_worker={NUM_ENVS // max(workers, 1)} "
        f"--worker_num_splits=1 --rollout={SETTINGS['minibatch']} --recurrence=1 --use_rnn=False "
        f"--batch_size={SETTINGS['minibatch']} --num_epochs={SETTINGS['epochs']} "
        f"--num_batches_per_epoch={ROLLOUT // SETTINGS['minibatch']} "
        f"--encoder_mlp_layers {hidden} --nonlinearity=tanh --actor_critic_share_weights=False "
        f"--adaptive_stddev=False --learning_rate={SETTINGS['lr']} --lr_schedule=constant "
        f"--gamma={SETTINGS['discount']} --gae_lambda={SETTINGS['gae_lambda']} "
        f"--ppo_clip_ratio={SETTINGS['clip']} --ppo_clip_value=1000000 --with_vtrace=False "
        f"--value_loss_coeff={SETTINGS['value_coef']} --kl_loss_coeff=0 "
        f"--exploration_loss_coeff={SETTINGS['entropy_coef']} --value_bootstrap=True "
        f"--max_grad_norm={SETTINGS['max_grad_norm']} --adam_eps={SETTINGS['adam_eps']} "
        "--normalize_input=True --normalize_returns=True --shuffle_minibatches=True "
        "--env_frameskip=1 --save_every_sec=100000 --train_for_env_steps=1000000000 "
        "--decorrelate_experience_max_seconds=0 --use_env_info_cache=False --log_to_file=False"
    )
    return text.split()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("who", choices=("sf",))
    parser.add_argument("env")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--workers", type=int, default=0, help="processes that sample")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        argv = words(args.env, args.workers, folder)
        register_env(args.env, make_env)
        settings, _ = parse_sf_args(argv)
        _, runner = make_runner(parse_full_cfg(settings, argv))
        watch = Watch(args.seconds)
        runner.register_observer(watch)
        runner.init()
        runner.run()
    sys.stdout.flush()
    print(json.dumps(watch.result), flush=True)


if __name__ == "__main__":
    main()
