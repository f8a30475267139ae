"""Texts -> activation statistics, through the running model."""
