"""The applications: command line, HTTP server and demo, each a thin layer over the other rooms."""

__all__ = ()
