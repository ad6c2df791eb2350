"""A Lightning module: it logs each term without its weight, and τ-b of held-out images.

On scikit-learn's digits, a network with 128 hidden units teaches one with 8.
"""

import lightning
import torch
from plain_pytorch import digits, network, train  # the digits, and how their teacher is trained
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from rkkd_cli.losses import kendall_ranking_loss, kendall_tau_b, kl_divergence


class Distillation(lightning.LightningModule):
    """Trains the student on CE + KL + the ranking loss. The teacher stays as it is."""

    def __init__(self, student, teacher):
        super().__init__()
        self.student, self.teacher = student, teacher.eval().requires_grad_(False)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        s = self.student(images)
        with torch.no_grad():
            t = self.teacher(images)
        ce, kl, rank = cross_entropy(s, labels), kl_divergence(s, t), kendall_ranking_loss(s, t)
        self.log_dict({"ce": ce, "kl": kl, "rank": rank})
        return ce + kl + rank

    def validation_step(self, images, batch_idx):
        self.log("tau_b", kendall_tau_b(self.student(images), self.teacher(images)))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.student.parameters(), lr=5e-3)


if __name__ == "__main__":
    lightning.seed_everything(0)
    batches, held_out = digits()
    teacher, student = network(width=128), network(width=8)
    train(teacher, batches)
    module = Distillation(student, teacher)
    trainer = lightning.Trainer(max_epochs=10, logger=False, enable_checkpointing=False)
    held_out = DataLoader(held_out, batch_size=len(held_out))
    (before,) = trainer.validate(module, held_out)
    trainer.fit(module, batches)
    (after,) = trainer.validate(module, held_out)
    print(f"τ-b on held-out images: {before['tau_b']:.3f} → {after['tau_b']:.3f}")
