"""The keys of an experiment that the flags of the commands set."""

# By the parameter names of `rkkd run`.
FLAG_KEYS = {
    "dataset": "dataset.name",
    "data_root": "dataset.root",
    "limit_train": "dataset.limit_train",
    "limit_test": "dataset.limit_test",
    "val_share": "dataset.val_share",
    "stream": "dataset.streaming",
    "teacher": "teacher.model",
    "teacher_checkpoint": "teacher.checkpoint",
    "student": "student.model",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "lr": "training.lr",
    "patience": "training.patience",
    "min_delta": "training.min_delta",
    "monitor": "training.monitor",
    "method": "method.name",
    "standardize_logits": "method.standardize_logits",
    "alpha": "method.alpha",
    "temperature": "method.temperature",
    "rank_weight": "rank.weight",
    "rank_steepness": "rank.steepness",
    "rank_surrogate": "rank.surrogate",
    "rank_channels": "rank.channels",
    "seeds": "seeds",
    "device": "device",
    "precision": "precision",
    "deterministic": "deterministic",
    "stack": "stacked",
    "cuda_graph": "cuda_graph",
    "cache_teacher": "cache_teacher",
    "sync_batchnorm": "sync_batchnorm",
}

# The same for `rkkd teacher train`, whose epochs, batches and rate are the teacher's own.
TEACHER_FLAG_KEYS = FLAG_KEYS | {
    "epochs": "teacher.training.epochs",
    "batch_size": "teacher.training.batch_size",
    "lr": "teacher.training.lr",
    "seed": "teacher.seed",
}
