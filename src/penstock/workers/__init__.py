"""Several worker processes behind one port: the supervisor, the worker's main, and the channel between them."""
