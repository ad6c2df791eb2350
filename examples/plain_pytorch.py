"""A plain PyTorch loop: cross-entropy, KL divergence and the ranking loss, each with weight 1.

On scikit-learn's digits, a network with 128 hidden units teaches one with 8.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from rkkd_cli.losses import kendall_ranking_loss, kendall_tau_b, kl_divergence


def train(model, batches, teacher=None, epochs=10):
    """Train on the labels, and on the teacher's logits if there is a teacher."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(epochs):
        for images, labels in batches:
            s = model(images)
            loss = cross_entropy(s, labels)
            if teacher is not None:
                with torch.no_grad():
                    t = teacher(images)
                loss = loss + kl_divergence(s, t) + kendall_ranking_loss(s, t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()


def digits():
    """Return batches to train on, and images that are held out, (N, 64)."""
    images, labels = map(torch.tensor, load_digits(return_X_y=True))
    images = images.float() / 16
    training = TensorDataset(images[:1400], labels[:1400])
    return DataLoader(training, batch_size=64, shuffle=True), images[1400:]


def network(width):
    """Return a classifier of the digits with a hidden layer."""
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


if __name__ == "__main__":
    torch.manual_seed(0)
    batches, held_out = digits()
    teacher, student = network(width=128), network(width=8)
    train(teacher, batches)
    before = kendall_tau_b(student(held_out), teacher(held_out))
    train(student, batches, teacher)
    after = kendall_tau_b(student(held_out), teacher(held_out))
    print(f"τ-b on held-out images: {before:.3f} → {after:.3f}")
