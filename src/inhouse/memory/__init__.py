"""The fact bank's workshop side: which fact a question asks for, and whether an answer says it.

It knows words, names and the frozen embeddings of a base; it knows no sockets, no SQL and no engine.
"""
