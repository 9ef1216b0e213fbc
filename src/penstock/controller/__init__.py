"""The controller: the process that answers the control API and makes a machine serve what the state says.

Also what the commands of the CLI stand on (`open.py`): the running controller's operations over HTTP, or their own
under the lock. Nothing is re-exported: to ask a controller needs a fifth of what it takes to be one.
"""
