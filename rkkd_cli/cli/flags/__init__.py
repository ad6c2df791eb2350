"""The flags of the commands, and the keys of the experiment that they set."""
