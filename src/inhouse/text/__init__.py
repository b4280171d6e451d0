"""Text to tokens and back. It knows no tensors: nothing here imports torch."""
