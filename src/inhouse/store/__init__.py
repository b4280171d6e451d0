"""What survives a restart: SQL rows (db, tables, migrations, records) and files by digest (artifacts)."""
