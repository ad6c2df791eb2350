"""Figures from records and analysis. Imports no torch."""
