"""Serving, ours and others': the same checkpoints, prompts and lengths, each engine in a process of its own."""
