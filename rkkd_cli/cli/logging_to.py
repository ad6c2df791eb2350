"""The flags that log to other programs too."""


def chosen_loggers(tensorboard: bool, wandb: bool, mlflow: bool) -> tuple[str, ...]:
    """Return the names of the chosen loggers. Raises UserError where a package is missing."""
    wanted = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}
    names = tuple(name for name, is_wanted in wanted.items() if is_wanted)
    if names:
        from rkkd_cli.sweep.loggers import check_installed

        check_installed(names)
    return names
