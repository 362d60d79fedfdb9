"""`python -m app.cli`, for environments without the `memaudit` script."""

from app.cli import main

main()
