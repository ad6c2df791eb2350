"""Models of other libraries and of users, wrapped as classifiers."""
