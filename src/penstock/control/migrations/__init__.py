"""How the tables of the state came to be as they are: Alembic's scripts, run by `control/upgrade.py`."""
