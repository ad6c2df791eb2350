"""What a GPU computes and how fast, in one table: checks first, then times beside plain PyTorch.

    rkkd bench gpu [--device auto] [--minutes 8] [--json gpu.json]

The checks: CUDA graphs, the Triton kernel of the ranking loss, fused optimisers, a run that is
killed and resumed, and one rank with NCCL. The times: two arms, stacked arms, the
ranking loss and the input pipeline, each beside a plain PyTorch script in the same process. Each
part has a process and a time of its own. A part that does not fit into the minutes is left out; one
that fails or takes too long says so, and the others go on. The exit status is 1 if anything failed.

Without a GPU the same parts run at toy size, and those that need CUDA are skipped. Needs Linux.
"""

import json
import multiprocessing as mp
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import gpu_checks
import gpu_speed
import torch
from gpu_speed import sentence
from ranking_loss import nvidia_smi
from turns import Finding, parser

from rkkd_cli.errors import RunError, UserError
from rkkd_cli.records.environment import environment
from rkkd_cli.train.device import describe_device, pick_device

# Forked before anything has used CUDA, so nothing is imported twice.
CONTEXT = mp.get_context("fork")


class Part(NamedTuple):
    """A part of the benchmark, and the seconds that it may take."""

    name: str
    run: Callable[[str, float], list[Finding]]
    seconds: float
    needs_cuda: bool = False


PARTS = (
    # Together less than eight minutes.
    Part("CUDA graph", gpu_checks.cuda_graph, 45, needs_cuda=True),
    Part("ranking kernel", gpu_checks.ranking_kernel, 45, needs_cuda=True),
    Part("optimisers", gpu_checks.optimisers, 20),
    Part("resume", gpu_checks.resume, 70),
    Part("one rank", gpu_checks.one_rank, 45),
    Part("two arms", gpu_speed.two_arms, 80),
    Part("stacking", gpu_speed.stacked, 50),
    Part("ranking loss", gpu_speed.ranking, 30),
    Part("input pipeline", gpu_speed.input_pipeline, 45),
)


def findings_of(part: Part, device: str, left: float) -> list[Finding]:
    """Return what a part has found, or why it has found nothing, with ``left`` seconds to go."""
    if part.needs_cuda and torch.device(device).type != "cuda":
        return [Finding(part.name, "skipped", "needs CUDA")]
    if left < part.seconds:
        text = f"may take {part.seconds:g} s, and {max(left, 0):.0f} s are left; raise --minutes"
        return [Finding(part.name, "left out", text)]
    try:
        found: list[Finding] = in_process(part.run, part.seconds, device, part.seconds)
    except (RunError, UserError) as error:
        return [Finding(part.name, "failed", str(error))]
    return found


def in_process(function: Callable[..., Any], seconds: float, *arguments: object) -> Any:
    """Return what a function returns in a process of its own, which ends with all it has started.

    Raises RunError if it fails or takes longer, UserError as it does.
    """
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_send_result, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            raise RunError(f"took longer than {seconds:g} s")
        result = ours.recv()
    except EOFError:
        process.join()
        raise RunError(f"its process ended with status {process.exitcode}") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
    if isinstance(result, Exception):
        raise result
    return result


def _send_result(line: Connection, function: Callable[..., Any], arguments: tuple[object]) -> None:
    os.setsid()
    try:
        line.send(function(*arguments))
    except UserError as error:
        line.send(error)
    except (Exception, SystemExit) as error:
        line.send(RunError(sentence(error)))


def facts_of(name: str) -> dict[str, Any]:
    """Return the device called ``name``, and what the numbers depend on. Raises UserError."""
    device = pick_device(name)
    if device.type not in ("cpu", "cuda"):
        device = torch.device("cpu")
    facts = environment() | {"device": describe_device(device), "torch_device": str(device)}
    with suppress(PackageNotFoundError):
        facts["versions"]["triton"] = version("triton")
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["multiprocessors"] = properties.multi_processor_count
        facts["memory_bytes"] = properties.total_memory
        facts["versions"] |= {"cuda": torch.version.cuda}
        with suppress(OSError, IndexError, subprocess.SubprocessError):
            facts["versions"]["driver"] = nvidia_smi("driver_version")
    return facts


def rows_of(part: Part, device: str, left: float) -> list[dict[str, object]]:
    """Print what a part has found, and return it for the file."""
    rows = []
    for found in findings_of(part, device, left):
        print(f"{found.outcome:9} {found.what:62} {found.text}", flush=True)
        known = {"part": part.name, "what": found.what, "outcome": found.outcome}
        rows.append(known | {"text": found.text, **found.figures})
    return rows


def all_rows(facts: dict[str, Any], minutes: float, file: Path) -> list[dict[str, object]]:
    """Return what all parts have found; the file has it after each part, and nothing at first."""
    began = time.perf_counter()
    rows: list[dict[str, object]] = []
    for part in (None, *PARTS):
        taken = time.perf_counter() - began
        if part is not None:
            rows += rows_of(part, facts["torch_device"], 60 * minutes - taken)
        taken = round(time.perf_counter() - began, 1)
        content = {"environment": facts, "minutes": minutes, "seconds": taken, "rows": rows}
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return rows


def main() -> None:
    """Check, measure, print and write."""
    own = parser(__doc__)
    own.add_argument("--device", default="auto", help="auto, cuda, cuda:N, or cpu at toy size")
    own.add_argument("--minutes", type=float, default=8.0, help="what all parts may take")
    own.add_argument("--json", type=Path, default=Path("gpu.json"), metavar="FILE")
    options = own.parse_args()
    try:
        facts = in_process(facts_of, 60, options.device)
        if facts["torch_device"] == "cpu":
            torch.set_num_threads(1)  # in all parts; at toy size more of them lose time
        versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
        print(f"{facts['device']}, {facts['processor']}; {versions}")
        rows = all_rows(facts, options.minutes, options.json)
    except (OSError, UserError) as error:
        own.error(str(error))
    except RunError as error:
        raise SystemExit(f"device {options.device} cannot be used: {error}") from None
    failed = sum(row["outcome"] == "failed" for row in rows)
    print(f"{failed} of {len(rows)} rows failed; {options.json}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
