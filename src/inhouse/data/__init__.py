"""Rows to token streams: what training reads, in an order that is a pure function of (seed, step)."""
