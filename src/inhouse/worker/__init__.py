"""The workshop's own process: claims jobs, runs each in a child of its own, and reports what came of it."""
