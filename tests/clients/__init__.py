"""Other people's clients against a live server: `python -m tests.clients`, each in an environment of its own."""
