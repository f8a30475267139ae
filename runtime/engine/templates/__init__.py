"""Chat templates: rendered in a process of their own; no text of a user's becomes a control token."""
