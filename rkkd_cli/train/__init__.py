"""Training: the teacher, the arms of a stream in lockstep, evaluation."""
