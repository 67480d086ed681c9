"""What people start: the command line, the HTTP server, the demo; thin, over the other rooms."""

__all__ = ()
