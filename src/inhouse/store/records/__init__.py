"""One function per question to the database, a file per noun.

Each takes an open connection first, so that several make one transaction. They know rows, no rules of HTTP.
A question about something of another project is answered exactly as if it did not exist.
"""
