"""What a model writes, taken apart while it comes: reasoning, content, tool calls. Pure; one file a
family."""
