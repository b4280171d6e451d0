"""The recipe of the embedded base: its invented world, its tokenizer, its training stream and its scores."""
