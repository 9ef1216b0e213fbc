"""Every way a call arrives: the hot path, the protocols around it, and the HTTP data port."""
