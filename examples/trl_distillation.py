"""TRL's DistillationTrainer, with the ranking loss beside its divergence (TRL 1.10 and newer).

The student completes random prompts, and learns from the teacher at each token it has written.
Both are GPT-2 with two layers and random weights: nothing is downloaded.
"""

from tempfile import TemporaryDirectory

import torch
from datasets import Dataset
from hf_trainer import gpt2, tau_b  # the small models, and how they are compared
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from trl import DistillationConfig, DistillationTrainer

from rkkd_cli.losses import kendall_ranking_loss


class RankingDistillationTrainer(DistillationTrainer):
    """Adds the ranking loss of the tokens that the student has written to TRL's loss."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = super().compute_loss(model, inputs)
        tokens = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        kept = inputs["completion_mask"].bool()
        written = slice(-kept.shape[1] - 1, -1)  # logits are of the next token
        s = model(tokens, attention_mask=mask).logits[:, written]
        with torch.no_grad():
            t = self.teacher_model(tokens, attention_mask=mask).logits[:, written]
        rows = {"mask": kept}
        if model.training:  # as TRL does: tokens of all accumulated batches and processes count
            rows["normalizer"] = inputs["num_items_in_batch"] / self.accelerator.num_processes
        loss = loss + kendall_ranking_loss(s, t, channels="top:64", **rows)
        return (loss, None) if return_outputs else loss


def tokenizer():
    """Return a tokenizer of the words w0 to w255. The first of them ends a text."""
    words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(256)}, unk_token="w1"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = {"eos_token": "w0", "pad_token": "w0", "padding_side": "left"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **ends)


if __name__ == "__main__":
    torch.manual_seed(0)
    teacher, student, words = gpt2(width=64, initializer_range=0.1), gpt2(width=32), tokenizer()
    prompts = words.batch_decode(torch.randint(1, 256, (512, 4)))
    data = {"train_dataset": Dataset.from_dict({"prompt": prompts}), "processing_class": words}
    held_out = torch.randint(1, 256, (256, 32))
    settings = {"learning_rate": 1e-2, "per_device_train_batch_size": 32, "num_train_epochs": 2}
    settings |= {"max_completion_length": 8, "beta": 0.0, "bf16": False}  # β = 0 is KL
    before = tau_b(student, teacher, held_out)
    with TemporaryDirectory() as folder:
        arguments = DistillationConfig(folder, **settings, save_strategy="no", report_to="none")
        RankingDistillationTrainer(student, teacher, arguments, **data).train()
    after = tau_b(student, teacher, held_out)
    print(f"τ-b on held-out tokens: {before:.3f} → {after:.3f}")
