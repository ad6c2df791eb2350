"""Arms with equal students, trained as one vmapped student."""
