"""Write methods.json: loss and gradients of the published methods with trainable parts.

    python tests/reference/make_methods.py --mdistiller DIR --repdistiller DIR --simkd DIR

Each DIR is a clone of a repository in ``REPOSITORIES``. Features and weights are the closed forms
of parts.py, weights by their index in the module, everything float64 and in training mode. A case
has the loss, and the sum of the sizes of its gradient with respect to each of the student's maps,
its pooled features and the parts' weights, in their order. FitNet's layer is 2.
"""

import argparse
import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from checkouts import commit_of, import_file, install_stubs
from parts import (
    IMAGES,
    LARGER,
    SMALLER,
    STUDENT,
    TEACHER,
    Shapes,
    fill_in_order,
    maps_of,
    pooled_of,
)
from torch import Tensor, nn

REPOSITORIES = {
    "mdistiller": "https://github.com/megvii-research/mdistiller",
    "repdistiller": "https://github.com/HobbitLong/RepDistiller",
    "simkd": "https://github.com/DefangChen/SimKD",
}
LAYER = 2


def case(
    method: str, source: str, student: str, loss: Tensor, inputs: list[Tensor], parts: list[Tensor]
) -> dict[str, Any]:
    gradients = torch.autograd.grad(loss, [*inputs, *parts], allow_unused=True)
    sizes = [0.0 if g is None else g.abs().sum().item() for g in gradients]
    return {
        "method": method,
        "source": source,
        "student": student,
        "loss": loss.item(),
        "inputs": sizes[: len(inputs)],
        "parts": sizes[len(inputs) :],
    }


def reviewkd(file: Any, name: str, shapes: Shapes) -> dict[str, Any]:
    maps, pooled = maps_of(shapes, 0.3), pooled_of(shapes, 0.3)
    teacher_maps, teacher_pooled = maps_of(TEACHER, 2.1), pooled_of(TEACHER, 2.1)
    widths = [*(shape[0] for shape in shapes.maps[1:]), shapes.pooled]
    teacher_widths = [*(shape[0] for shape in TEACHER.maps[1:]), TEACHER.pooled]
    fusions = [
        file.ABF(i, min(512, widths[-1]), o, n < len(widths) - 1).double()
        for n, (i, o) in enumerate(zip(widths, teacher_widths, strict=True))
    ]
    parts = [p for fusion in fusions for p in fusion.parameters()]
    fill_in_order(parts)
    sizes = [1, *(shape[1] for shape in reversed(shapes.maps[1:]))]
    teacher_sizes = [1, *(shape[1] for shape in reversed(TEACHER.maps[1:]))]
    self = SimpleNamespace(
        student=lambda _: (torch.zeros(IMAGES, 2).double(), {"feats": maps, "pooled_feat": pooled}),
        teacher=lambda _: (None, {"preact_feats": teacher_maps, "pooled_feat": teacher_pooled}),
        abfs=fusions[::-1], shapes=sizes, out_shapes=teacher_sizes, stu_preact=False,
        ce_loss_weight=0.0, reviewkd_loss_weight=1.0, warmup_epochs=1,
    )  # fmt: skip
    labels = torch.zeros(IMAGES, dtype=torch.int64)
    loss = file.ReviewKD.forward_train(self, "images", labels, epoch=1)[1]["loss_kd"]
    return case("reviewkd", "mdistiller", name, loss, [*maps, pooled], parts)


def fitnet(file: Any, source: str, name: str, shapes: Shapes) -> dict[str, Any]:
    maps, target = maps_of(shapes, 0.3), maps_of(TEACHER, 2.1)[LAYER]
    student_shape, teacher_shape = ((IMAGES, *s.maps[LAYER]) for s in (shapes, TEACHER))
    regressor = file.ConvReg(student_shape, teacher_shape).double()
    parts = list(regressor.parameters())
    fill_in_order(parts)
    if source == "simkd":
        regressed, target = regressor(maps[LAYER], target)
    else:
        regressed = regressor(maps[LAYER])
    loss = nn.functional.mse_loss(regressed, target)
    return case("fitnet", source, name, loss, [*maps, pooled_of(shapes, 0.3)], parts)


def vid(file: Any, name: str, shapes: Shapes) -> dict[str, Any]:
    maps, teacher_maps = maps_of(shapes, 0.3), maps_of(TEACHER, 2.1)
    losses = [
        file.VIDLoss(s[0], t[0], t[0]).double()
        for s, t in zip(shapes.maps[1:], TEACHER.maps[1:], strict=True)
    ]
    weights = [p for loss in losses for p in loss.regressor.parameters()]
    fill_in_order(weights)
    parts = weights + [loss.log_scale for loss in losses]
    triples = zip(losses, maps[1:], teacher_maps[1:], strict=True)
    total = torch.stack([loss(s, t) for loss, s, t in triples]).sum()
    return case("vid", "repdistiller", name, total, [*maps, pooled_of(shapes, 0.3)], parts)


def simkd(file: Any, name: str, shapes: Shapes) -> dict[str, Any]:
    maps, teacher_maps = maps_of(shapes, 0.3), maps_of(TEACHER, 2.1)
    projector = file.SimKD(s_n=shapes.maps[-1][0], t_n=TEACHER.maps[-1][0]).double()
    parts = list(projector.parameters())
    fill_in_order(parts)
    projected, target, _ = projector(maps[-1], teacher_maps[-1], nn.Identity())
    loss = nn.functional.mse_loss(projected, target)
    return case("simkd", "simkd", name, loss, [*maps, pooled_of(shapes, 0.3)], parts)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write methods.json from published code.")
    for name in REPOSITORIES:
        parser.add_argument(f"--{name}", type=Path, required=True)
    roots: dict[str, Path] = vars(parser.parse_args())
    install_stubs()
    warnings.filterwarnings("ignore")  # the published code predates some of torch's names
    distillers = roots["mdistiller"] / "mdistiller/distillers"
    common, simkd_util = (
        import_file(distillers, "_common"),
        import_file(roots["simkd"] / "models", "util"),
    )
    students = {"student": STUDENT, "larger": LARGER, "smaller": SMALLER}
    cases = []
    for name, shapes in students.items():
        cases += [
            reviewkd(import_file(distillers, "ReviewKD"), name, shapes),
            fitnet(common, "mdistiller", name, shapes),
            fitnet(simkd_util, "simkd", name, shapes),
            vid(import_file(roots["repdistiller"] / "distiller_zoo", "VID"), name, shapes),
            simkd(simkd_util, name, shapes),
        ]
    repositories = {n: {"url": u, "commit": commit_of(roots[n])} for n, u in REPOSITORIES.items()}
    lines = ",\n".join(json.dumps(case) for case in cases)
    text = f'{{"repositories": {json.dumps(repositories, indent=1)},\n"cases": [\n{lines}\n]}}\n'
    Path(__file__).with_name("methods.json").write_text(text, encoding="utf-8")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
