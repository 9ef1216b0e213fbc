"""What ought to run: events and the state derived of them, the repository of bundles, aliases, rules, history.

Only the controller's process and the commands without one use it; a worker reads `routing.json` and no database.
"""
