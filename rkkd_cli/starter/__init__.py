"""A starter preset for a folder of images: what is chosen, why, and the file that says so."""
