"""The HTTP data port: routes, the ASGI application, pages that are no predictions."""
