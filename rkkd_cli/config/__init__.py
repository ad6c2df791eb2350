"""The experiment: validated, frozen models; presets; overrides; arms; grids. Imports no torch."""
