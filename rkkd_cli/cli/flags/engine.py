"""The flags that say where the jobs of a run train."""

from rkkd_cli.api.options import EngineOptions
from rkkd_cli.cli.flags.flag import Bundle, Flag

PLACE = "Where the jobs run"
ENGINES = ("local", "ray")

# fmt: off
ENGINE = Flag("engine", str, panel=PLACE, default="local", choices=ENGINES,
    help="Run the jobs on this machine or on a Ray cluster (needs rkkd\\[ray]). A job is a seed "
         "with its arms.")
WORKERS = Flag("workers", int | None, panel=PLACE, min=1,
    help="Local processes, each with a GPU of its own if there are; with --engine ray, the most "
         "jobs at once.")
ADDRESS = Flag("address", str | None, panel=PLACE, metavar="HOST:PORT|auto",
    help="The Ray cluster; default: RAY_ADDRESS, else one is started on this machine.")
GPUS_PER_JOB = Flag("gpus_per_job", float | None, panel=PLACE, min=0,
    help="GPUs of each job on the cluster; default: 1 where it has any and --device is not cpu, "
         "else 0.")
CPUS_PER_JOB = Flag("cpus_per_job", int | None, panel=PLACE, min=1,
    help="CPUs, and threads, of each job on the cluster; default: the experiment's threads, or 1.")
# fmt: on


ENGINE_OPTIONS = Bundle(
    "engine_options", (ENGINE, WORKERS, ADDRESS, GPUS_PER_JOB, CPUS_PER_JOB), EngineOptions
)
