"""Many equal arms as one vmapped student."""
