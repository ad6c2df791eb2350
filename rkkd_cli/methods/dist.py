"""DIST: correlation instead of equality (Huang et al., arXiv 2205.10536)."""

from torch import Tensor

from rkkd_cli.config.methods import DISTConfig
from rkkd_cli.losses import dist_terms
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method


class DIST(Method):
    """CE + beta·inter + gamma·intra, both × T²."""

    Config = DISTConfig
    terms = ("dist_inter", "dist_intra")
    reads_epoch = False
    config: DISTConfig

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return beta and gamma."""
        return {"dist_inter": self.config.beta, "dist_intra": self.config.gamma}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the inter-class and the intra-class term, of embeddings the former twice."""
        inter, intra = dist_terms(*self.logits(inputs), self.method_config.temperature)
        # The distances of a batch are symmetric: a column of them is a row.
        return {"dist_inter": inter, "dist_intra": inter if self.task == "embedding" else intra}
