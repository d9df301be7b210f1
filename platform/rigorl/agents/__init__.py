"""One file, one algorithm.

To add one, write `rigorl/agents/<name>.py` with

    class Config(Struct, frozen=True, forbid_unknown_fields=True): ...  # defaults and laws
    def make(config: Config, world: WorldSpec, seed: int) -> Agent: ...
    def load_policy(folder: Path) -> Policy: ...

name it in a YAML file, `agent: {name: <name>}`, and ship `experiments/agents/<name>.yaml` of
a few seconds. There is no list to add it to: the tests find the file by themselves, hold it
to `rigorl.contract`, and play its YAML.

Algorithms share parts (`rigorl.blocks`), never each other, and no file of the house imports
one: it is found by its name.
"""
