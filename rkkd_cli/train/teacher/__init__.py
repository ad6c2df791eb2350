"""The teacher: its model, its training, its files and its cached logits."""
