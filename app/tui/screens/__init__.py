"""Screens: they route what a person does; widgets render, and what is slow happens in threads."""
