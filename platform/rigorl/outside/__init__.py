"""One file for each foreign system, and each foreign system in one file.

Nothing in the house imports this folder except the front door, so everything else can be
read, tested and trusted without Ray, MLflow, Optuna or a database.

    yaml_file      YAML -> Experiment, with an address for every mistake
    in_process     a cluster of one, and a journal that forgets
    bucket         what trials keep, in an object store: pyarrow
    journal        the truth: SQLAlchemy
    optuna_ask     what a search tries next: Optuna
    cmaes_ask      likewise, by CMA-ES: cmaes
    importance     which dimensions of a search mattered: Optuna
    frames         what a study earned, exam by exam, as a table: pandas
    on_ray         a cluster: Ray
    rllib          any RLlib algorithm as an agent
    mlflow_mirror  the journal, shown in MLflow: what, when, and how it ended
    mlflow_runs    MLflow's runs, each made once and each point in it once: MLflow
    groups         which trials belong together: what MLflow shows as one
    provenance     which code this is: git and the lock file
    live           the journal, shown on a terminal
    doctor         is everything there?
"""
