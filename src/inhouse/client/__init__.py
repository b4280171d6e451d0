"""The few-line face: a client, and handles on data sets, jobs and models.

It knows HTTP and files of rows, and no database, queue or torch: whatever it wants, a server does.
"""
