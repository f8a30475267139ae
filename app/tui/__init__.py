"""The terminal app: screens route, widgets render, everything slow happens in threads.

Text that a model, a file or a name brings is made harmless where it enters a widget (:mod:`app.terminal`),
and once more where lines leave for the terminal (:mod:`app.tui.wall`).
"""
