"""What is measured of students: on a batch, over an epoch, on held-out images."""
