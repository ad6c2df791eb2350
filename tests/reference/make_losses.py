"""Write losses.json: what the published implementations return for inputs of a closed form.

    python tests/reference/make_losses.py --mdistiller DIR --repdistiller DIR --simkd DIR \\
        --logit-std DIR --dist DIR --mmrazor DIR --mrkd DIR

Each DIR is a clone (its commit is recorded) of a repository in ``REPOSITORIES``. A case has

- ``loss`` and ``source``: which loss, of which repository,
- ``inputs``: the recipe of each tensor, for ``closed_form.build``,
- ``settings``: the numbers it was called with,
- ``output``: the value's sum of absolute entries, some entries (by index, row by row), and the
  same of the gradient with respect to each input that has one.

Everything is float64. The tests of ``rkkd_cli.losses`` compare themselves with this file; it
changes only when this script is run.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from checkouts import (
    commit_of,
    crd,
    import_definitions,
    import_file,
    install_stubs,
    mlkd,
    simkd,
    vid,
)
from closed_form import build, summary
from torch import Tensor

REPOSITORIES = {
    "mdistiller": "https://github.com/megvii-research/mdistiller",
    "repdistiller": "https://github.com/HobbitLong/RepDistiller",
    "simkd": "https://github.com/DefangChen/SimKD",
    "logit_std": "https://github.com/sunshangquan/logit-standardization-KD",
    "dist": "https://github.com/hunto/DIST_KD",
    "mmrazor": "https://github.com/open-mmlab/mmrazor",
    "mrkd": "https://github.com/ebolk/MonotonicRankDistillation",
}
Inputs = dict[str, Tensor]
Recipes = dict[str, dict[str, Any]]


class Case(NamedTuple):
    """One call of a published loss; the gradient by each input ``with_gradient`` is recorded."""

    loss: str
    source: str
    inputs: Recipes
    settings: dict[str, Any]
    call: Callable[[Inputs], Tensor]
    with_gradient: tuple[str, ...] = ("student",)


def pair(student: list[int], teacher: list[int] | None = None, scale: float = 3.0) -> Recipes:
    return {
        "student": {"shape": student, "phase": 0.3, "scale": scale},
        "teacher": {"shape": teacher or student, "phase": 2.1, "scale": scale * 1.4},
    }


LOGITS = ([1, 2], [4, 10], [7, 5], [3, 101])
EMBEDDINGS = (([2, 3], [2, 3]), ([5, 8], [5, 3]), ([9, 7], [9, 16]))
MAPS = (
    ([2, 3, 4, 4], [2, 3, 4, 4]),
    ([3, 5, 8, 8], [3, 2, 4, 4]),
    ([2, 4, 3, 3], [2, 7, 7, 7]),
)


def of_pair(loss: Callable[..., Tensor], **settings: Any) -> Callable[[Inputs], Tensor]:
    return lambda x: loss(x["student"], x["teacher"], **settings)


def of_stage(loss: Callable[..., list[Tensor]]) -> Callable[[Inputs], Tensor]:
    """Call a loss of lists of maps with one map in each list."""
    return lambda x: loss([x["student"]], [x["teacher"]])[0]


def logit_cases(roots: dict[str, Path]) -> Iterator[Case]:
    distillers = {n: roots[n] / "mdistiller/distillers" for n in ("mdistiller", "logit_std")}
    dkd, kd = (
        import_file(distillers["mdistiller"], "DKD"),
        import_file(distillers["logit_std"], "KD"),
    )
    dist = import_file(roots["dist"] / "segmentation/losses", "dist_kd")
    for shape in LOGITS:
        both, labels = pair(shape), {"target": {"shape": shape, "kind": "labels"}}
        student_only, warm = {"student": both["student"]}, {"temperature": 2.0}
        yield Case(
            "standardize", "logit_std", student_only, {}, lambda x: kd.normalize(x["student"])
        )
        standardized = of_pair(kd.kd_loss, **warm, logit_stand=True)
        yield Case("standardized_kd", "logit_std", both, warm, standardized)
        for a, b, t in ((1.0, 0.0, 4.0), (0.0, 1.0, 4.0), (1.0, 8.0, 4.0), (0.7, 2.0, 1.5)):
            weights = {"alpha": a, "beta": b, "temperature": t}

            def decoupled(x: Inputs, weights: dict[str, float] = weights) -> Tensor:
                value: Tensor = dkd.dkd_loss(x["student"], x["teacher"], x["target"], **weights)
                return value

            yield Case("dkd", "mdistiller", {**both, **labels}, weights, decoupled)
        for beta, gamma in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (2.0, 0.5)):
            weights = {"beta": beta, "gamma": gamma}
            yield Case("dist", "dist", both, weights, of_pair(dist.DIST(**weights)))


def ranking_cases(roots: dict[str, Path]) -> Iterator[Case]:
    """The two halves of the ranking term, and their sum, of their means over rows."""
    file = roots["mrkd"] / "mdistiller/distillers/MRKD.py"  # it uses a class before it imports it
    kendall_loss = import_definitions(file, "normalize", "kendall_loss").kendall_loss
    halves: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "classes": lambda s, t: kendall_loss(s, t).mean(),
        "images": lambda s, t: kendall_loss(s.T, t.T).mean(),
    }
    halves["both"] = lambda s, t: halves["classes"](s, t) + halves["images"](s, t)
    for shape in LOGITS[1:]:
        for over, loss in halves.items():
            yield Case("mrkd", "mrkd", pair(shape), {"over": over}, of_pair(loss))


def mlkd_cases(roots: dict[str, Path]) -> Iterator[Case]:
    file = import_file(roots["logit_std"] / "mdistiller/distillers", "MLKD")
    phases = {"student_weak": 0.3, "teacher_weak": 2.1, "student_strong": 1.1,
              "teacher_strong": 2.9}  # fmt: skip
    for shape in LOGITS[1:]:
        inputs = {n: {"shape": shape, "phase": p, "scale": 4.0} for n, p in phases.items()}
        for standardize, temperature in ((False, 4.0), (True, 2.0)):
            settings = {"standardize": standardize, "temperature": temperature}
            for name in ("kd", "bc", "cc"):

                def step(x: Inputs, key: str = f"loss_{name}", s: Any = settings) -> Tensor:
                    return mlkd(file, x, **s)[key]

                with_gradient = ("student_weak", "student_strong")
                yield Case(f"mlkd_{name}", "logit_std", inputs, settings, step, with_gradient)


def ctkd_cases(roots: dict[str, Path]) -> Iterator[Case]:
    root = roots["logit_std"] / "CTKD"
    kl = import_file(root / "distiller_zoo", "KD").DistillKL()
    reversal = import_file(root / "models", "temp_global").GradientReversalFunction
    script = import_definitions(root / "train_student.py", "CosineDecay", "LinearDecay")
    for shape in LOGITS:
        inputs = {**pair(shape), "raw": {"shape": [1], "phase": 0.8}}
        for strength in (0.0, 0.35, 1.0):

            def step(x: Inputs, strength: float = strength) -> Tensor:
                raw = reversal.apply(x["raw"], -strength)
                value: Tensor = kl(x["student"], x["teacher"], 1 + 20 * torch.sigmoid(raw))
                return value

            settings = {"strength": strength}
            yield Case("ctkd", "logit_std", inputs, settings, step, ("student", "raw"))
    for schedule, decay in (("cosine", script.CosineDecay), ("linear", script.LinearDecay)):
        for epoch in (-1, 0, 1, 5, 9, 10, 11):
            value = torch.tensor(-decay(0.0, -1.0, 10).get_value(epoch), dtype=torch.float64)
            when = {"schedule": schedule, "epoch": epoch, "epochs": 10}
            yield Case("reversal_strength", "logit_std", {}, when, partial(lambda v, _: v, value))


def relation_cases(roots: dict[str, Path]) -> Iterator[Case]:
    rkd = import_file(roots["mdistiller"] / "mdistiller/distillers", "RKD").rkd_loss
    repdistiller = import_file(roots["repdistiller"] / "distiller_zoo", "RKD").RKDLoss
    mmrazor = import_file(roots["mmrazor"] / "mmrazor/models/losses", "relational_kd")
    unit = {"distance": mmrazor.DistanceWiseRKD, "angle": mmrazor.AngleWiseRKD}
    plain, normalized = {"normalize": False}, {"normalize": True}
    for student, teacher in (*EMBEDDINGS, ([4, 2, 3, 3], [4, 3, 2, 2])):
        both = pair(student, teacher)
        for name, (d, a) in {"distance": (1, 0), "angle": (0, 1)}.items():
            loss, weights = f"rkd_{name}", {"distance_weight": d, "angle_weight": a}
            yield Case(loss, "mdistiller", both, plain, of_pair(rkd, **weights))
            yield Case(loss, "repdistiller", both, plain, of_pair(repdistiller(d, a)))
            yield Case(loss, "mmrazor", both, normalized, of_pair(unit[name](loss_weight=1.0)))


def map_cases(roots: dict[str, Path]) -> Iterator[Case]:
    mdistiller = roots["mdistiller"] / "mdistiller/distillers"
    zoo = roots["repdistiller"] / "distiller_zoo"
    sp, at = import_file(mdistiller, "SP").similarity_loss, import_file(mdistiller, "AT")
    similarity, attention = import_file(zoo, "SP").Similarity(), import_file(zoo, "AT").Attention
    projector = import_file(roots["simkd"] / "models", "util")
    for student, teacher in MAPS:
        both = pair(student, teacher)
        yield Case("similarity", "mdistiller", both, {}, of_pair(sp))
        yield Case("similarity", "repdistiller", both, {}, of_stage(similarity))
        for p in (2, 4):
            power = {"p": p}
            stage = of_pair(at.single_stage_at_loss, **power)
            yield Case("attention", "mdistiller", both, power, stage)
            yield Case("attention", "repdistiller", both, power, of_stage(attention(**power)))
        as_wide = pair(student, [teacher[0], student[1], *teacher[2:]])
        yield Case("simkd", "simkd", as_wide, {}, of_pair(partial(simkd, projector)))


def regression_cases(roots: dict[str, Path]) -> Iterator[Case]:
    zoo = roots["repdistiller"] / "distiller_zoo"
    hint, regressor = import_file(zoo, "FitNet").HintLoss(), import_file(zoo, "VID")
    hcl = import_file(roots["mdistiller"] / "mdistiller/distillers", "ReviewKD").hcl_loss

    def gaussian(x: Inputs) -> Tensor:
        return vid(regressor, x["log_scale"], x["student"], x["teacher"])

    def stages(x: Inputs) -> Tensor:
        s, t = ([x[side], x[side][:, :, :1, :1]] for side in ("student", "teacher"))
        value: Tensor = hcl(s, t)
        return value

    for shape in ([1, 2, 1, 1], [2, 3, 4, 4], [3, 2, 5, 5], [2, 4, 8, 8]):
        both = pair(shape)
        scaled = {**both, "log_scale": {"shape": shape[1:2], "phase": 0.5, "scale": 6.0}}
        yield Case("hint", "repdistiller", both, {}, of_pair(hint))
        yield Case("vid", "repdistiller", scaled, {"eps": 1e-5}, gaussian, ("student", "log_scale"))
        yield Case("review", "mdistiller", both, {}, stages)


def crd_cases(roots: dict[str, Path]) -> Iterator[Case]:
    phases = {"student": 0.3, "teacher": 2.1, "student_memory": 1.2, "teacher_memory": 0.1}
    for images, width, data in ((1, 4, 3), (3, 5, 9), (6, 8, 31)):
        inputs = {
            name: {"shape": [data if "memory" in name else images, width], "phase": phase,
                   "kind": "unit"}
            for name, phase in phases.items()
        }  # fmt: skip
        for side, name in product(("student", "teacher"), ("loss", "log_z", "rows")):
            settings = {"side": side, "num_data": data, "temperature": 0.07}

            def step(x: Inputs, key: str = f"{side}_{name}", num_data: int = data) -> Tensor:
                return crd(roots["repdistiller"] / "crd", x, num_data, 0.07)[key]

            with_gradient = (side,) if name == "loss" else ()
            yield Case(f"crd_{name}", "repdistiller", inputs, settings, step, with_gradient)


FAMILIES = (logit_cases, ranking_cases, mlkd_cases, ctkd_cases, relation_cases, map_cases,
            regression_cases, crd_cases)  # fmt: skip


def run_case(case: Case) -> dict[str, Any]:
    inputs = {name: build(recipe) for name, recipe in case.inputs.items()}
    for name in case.with_gradient:
        if name in inputs:
            inputs[name].requires_grad_()
    output = summary(case.call(inputs), inputs)
    names = {"loss": case.loss, "source": case.source}
    return {**names, "settings": case.settings, "inputs": case.inputs, "output": output}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write losses.json from published code.")
    for name in REPOSITORIES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True)
    roots: dict[str, Path] = vars(parser.parse_args())
    install_stubs()
    warnings.filterwarnings("ignore")  # the published code predates some of torch's names
    repositories = {n: {"url": u, "commit": commit_of(roots[n])} for n, u in REPOSITORIES.items()}
    cases = [run_case(case) for family in FAMILIES for case in family(roots)]
    lines = ",\n".join(json.dumps(case) for case in cases)
    text = f'{{"repositories": {json.dumps(repositories, indent=1)},\n"cases": [\n{lines}\n]}}\n'
    Path(__file__).with_name("losses.json").write_text(text, encoding="utf-8")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
