"""FitNet: a regressed hint from one feature map (Romero et al., arXiv 1412.6550)."""

from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.config.methods import FitNetConfig
from rkkd_cli.errors import UserError
from rkkd_cli.losses import hint_loss
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, ModelPair, require_maps


class FitNet(Method):
    """CE + weight·MSE between the regressed map of the student and the teacher's.

    The regressor is a convolution with BatchNorm and ReLU. It changes channels and size as in
    RepDistiller. If the student's map is smaller than the teacher's by another factor than 2, the
    teacher's map is average-pooled to its size, as in SimKD's code. Of detectors it is the
    convolution alone, since the maps of a feature pyramid have both signs.
    """

    Config = FitNetConfig
    terms = ("hint",)
    reads_epoch = False
    needs_features = True
    config: FitNetConfig

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: ModelPair) -> None:
        super().__init__(method_config, config, pair)
        require_maps("fitnet", pair, least=1)
        layer = self.config.hint_layer
        student_maps, teacher_maps = pair.student_shapes.maps, pair.teacher_shapes.maps
        common = min(len(student_maps), len(teacher_maps))
        if layer >= common:
            raise UserError(
                f"method.fitnet.hint_layer = {layer}: the pair has {common} maps in common, so "
                f"take 0 to {common - 1}"
            )
        shapes = tuple(student_maps[layer]), tuple(teacher_maps[layer])
        self.regressor = _convolution(*shapes)
        if pair.task != "detection":
            outputs = shapes[1][0]
            self.regressor = nn.Sequential(self.regressor, nn.BatchNorm2d(outputs), nn.ReLU())

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of the loss."""
        return {"hint": self.config.weight}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the mean squared error of the hint."""
        layer = self.config.hint_layer
        regressed, target = self.regressor(inputs.student.maps[layer]), inputs.teacher.maps[layer]
        if target.shape[2:] != regressed.shape[2:]:
            target = F.adaptive_avg_pool2d(target, regressed.shape[2:])
        return {"hint": hint_loss(regressed, target)}


def _convolution(student: tuple[int, ...], teacher: tuple[int, ...]) -> nn.Module:
    """Return the convolution from the student's shape (D, H, W) towards the teacher's."""
    (inputs, *size), (outputs, *target) = student, teacher
    if size == [2 * side for side in target]:
        return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
    if [2 * side for side in size] == target:
        return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
    if size[0] >= target[0] and size[1] >= target[1]:
        kernel = (1 + size[0] - target[0], 1 + size[1] - target[1])
        return nn.Conv2d(inputs, outputs, kernel)
    return nn.Conv2d(inputs, outputs, 3, padding=1)
