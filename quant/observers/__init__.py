"""Observers: ranges of weights and activations."""
