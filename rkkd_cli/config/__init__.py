"""What a run is told: validated, frozen models; presets; overrides; arms. Imports no torch."""
