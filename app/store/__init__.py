"""The store: tables, statements and transactions on Postgres. SQLAlchemy only."""
