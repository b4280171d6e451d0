"""The memory's examination: an invented company, questions that no training has seen, and rivals that tune weights."""
