"""timm's task for distillation, with the ranking loss as a third term (timm 1.0.27 and newer).

On scikit-learn's digits, a small ByobNet teaches a small EfficientNet.
"""

import timm
import torch
from sklearn.datasets import load_digits
from timm.task import ClassificationTask, LogitDistillationTask
from torch.nn import CrossEntropyLoss
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, TensorDataset

from rkkd_cli.losses import kendall_ranking_loss, kendall_tau_b, kl_divergence


class RankingDistillationTask(LogitDistillationTask):
    """task_loss_weight · CE + distill_loss_weight · (KL + the ranking loss)."""

    def forward(self, input, target):
        s = self.trainable_module(input)
        with torch.no_grad():
            seen = self.teacher.normalize_input(input, self.student_mean, self.student_std)
            t = self.teacher(seen)
        ce, kl = self.criterion(s, target), kl_divergence(s, t, self.temperature)
        rank = kendall_ranking_loss(s, t)
        loss = self.task_loss_weight * ce + self.distill_loss_weight * (kl + rank)
        return {"loss": loss, "output": s, "task_loss": ce, "kd_loss": kl, "rank_loss": rank}


def train(task, batches, epochs=2):
    """Train as timm's train.py does: the task gives the loss."""
    optimizer = torch.optim.AdamW(task.trainable_module.parameters(), lr=5e-3)
    task.train()
    for _ in range(epochs):
        for images, labels in batches:
            optimizer.zero_grad()
            task(images, labels)["loss"].backward()
            optimizer.step()
    task.eval()


if __name__ == "__main__":
    torch.manual_seed(0)
    images, labels = map(torch.tensor, load_digits(return_X_y=True))
    images = interpolate(images.float().view(-1, 1, 8, 8) / 8 - 1, size=32).repeat(1, 3, 1, 1)
    batches = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=64, shuffle=True)
    held_out = images[1400:]
    teacher = timm.create_model("test_byobnet", num_classes=10)
    student = timm.create_model("test_efficientnet", num_classes=10)
    train(ClassificationTask(teacher, CrossEntropyLoss()), batches)
    task = RankingDistillationTask(student, teacher, CrossEntropyLoss(), temperature=4.0).eval()
    before = kendall_tau_b(student(held_out), teacher(held_out))
    train(task, batches)
    after = kendall_tau_b(student(held_out), teacher(held_out))
    print(f"τ-b on held-out images: {before:.3f} → {after:.3f}")
