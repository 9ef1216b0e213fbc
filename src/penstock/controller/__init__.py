"""The controller: the process that answers the control API and makes a machine serve what the state says.

Also what the commands of the CLI stand on: the running controller's operations over HTTP, or their own under the lock.
"""

from penstock.controller.open import operations_of
from penstock.controller.operations import Operations

__all__ = ["Operations", "operations_of"]
