"""Choosing codes: round to nearest with a scale search, and error feedback."""
