"""The fault catalogue, automated: a test's docstring begins with the fault's number; a control shows the harm."""
