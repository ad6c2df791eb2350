"""Hugging Face's Trainer: one GPT-2 learns from another, at each token that has a label.

Both have two layers and random weights, and the tokens are random: nothing is downloaded.
"""

from tempfile import TemporaryDirectory

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from rkkd_cli.losses import kendall_ranking_loss, kendall_tau_b, kl_divergence


class DistillationTrainer(Trainer):
    """Adds KL and the ranking loss to the model's own loss."""

    def __init__(self, *args, teacher, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher = teacher.to(self.args.device).eval()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        ce, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        with torch.no_grad():
            mask = inputs.get("attention_mask")
            taught = self.teacher(inputs["input_ids"], attention_mask=mask).logits
        s, t = outputs.logits[:, :-1], taught[:, :-1]  # logits are of the next token
        # The labels of all accumulated batches and processes are counted; gradients are averaged.
        tokens = num_items_in_batch / self.accelerator.num_processes
        rows = {"mask": inputs["labels"][:, 1:] != -100, "normalizer": tokens}
        rank = kendall_ranking_loss(s, t, channels="top:64", **rows)
        loss = ce + kl_divergence(s, t, 2.0, **rows) + rank
        return (loss, outputs) if return_outputs else loss


def gpt2(width, initializer_range=0.02):
    """Return a GPT-2 of two layers for 256 tokens, of which the first ends a text."""
    size = {"vocab_size": 256, "n_positions": 32, "n_layer": 2, "n_head": 2, "n_embd": width}
    config = GPT2Config(**size, initializer_range=initializer_range, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config)


@torch.no_grad()
def tau_b(student, teacher, tokens):
    """Return τ-b of the logits at all tokens (B, L)."""
    s, t = (m.eval()(tokens.to(m.device)).logits for m in (student, teacher))
    return kendall_tau_b(s, t)


if __name__ == "__main__":
    torch.manual_seed(0)
    teacher, student = gpt2(width=64, initializer_range=0.1), gpt2(width=32)
    tokens, held_out = torch.randint(1, 256, (512, 32)), torch.randint(1, 256, (256, 32))
    labels = tokens.masked_fill(torch.arange(32) >= torch.randint(8, 33, (512, 1)), -100)
    data = [{"input_ids": x, "labels": y} for x, y in zip(tokens, labels, strict=True)]
    settings = {"learning_rate": 1e-2, "per_device_train_batch_size": 32, "num_train_epochs": 5}
    before = tau_b(student, teacher, held_out)
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, **settings, save_strategy="no", report_to="none")
        DistillationTrainer(student, arguments, train_dataset=data, teacher=teacher).train()
    after = tau_b(student, teacher, held_out)
    print(f"τ-b on held-out tokens: {before:.3f} → {after:.3f}")
